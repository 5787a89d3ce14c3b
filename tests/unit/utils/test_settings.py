"""Settings as classes: what is refused, and in which words."""

from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.settings import Items, Settings, UniqueItems, refuse_unknown, unit


class Gates(Settings):
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.5


class Run(Settings):
    place: ClassVar[str] = "md"

    timestep_fs: Annotated[float, Field(gt=0), unit("fs")] = Field(0.5, description="time step")
    steps: Annotated[int, Field(ge=1)] | None = None
    loop: Literal["ase", "device"] = "ase"
    compile: Literal[True, False, "auto"] = "auto"
    mixed: bool = True
    sizes: UniqueItems[Annotated[int, Field(ge=1)]] = Field((1, 2), min_length=1)
    gates: Gates = Gates()
    other: Gates | None = None

    @model_validator(mode="after")
    def _check(self):
        if self.steps == 13:
            raise ValueError("13 steps bring bad luck")
        return self


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timestep_fs": -0.5}, "md.timestep_fs: expected number > 0, got -0.5"),
        ({"timestep_fs": float("inf")}, "md.timestep_fs: expected number > 0, got inf"),
        ({"timestep_fs": True}, "md.timestep_fs: expected number > 0, got True"),
        (
            {"timestep_fs": "1e-3"},
            "md.timestep_fs: expected number > 0, got '1e-3'; a number is written without quotes, as 0.001 "
            "(YAML takes 1e-3 for text, 1.0e-3 for a number)",
        ),
        ({"steps": 1.0}, "md.steps: expected whole number >= 1 or null, got 1.0"),
        ({"steps": True}, "md.steps: expected whole number >= 1 or null, got True"),
        ({"loop": "devise"}, "md.loop: cannot be 'devise'; did you mean 'device'?"),
        ({"compile": "yes"}, "md.compile: expected true | false | auto, got 'yes'"),
        ({"mixed": "false"}, "md.mixed: expected true | false, got 'false'"),
        ({"sizes": []}, "md.sizes: expected list (1 or more) of whole number >= 1, got []"),
        (
            {"sizes": [0, "a"]},
            "md.sizes.0: expected whole number >= 1, got 0\nmd.sizes.1: expected whole number >= 1, got 'a'",
        ),
        ({"sizes": [2, 2]}, "md.sizes: 2 stands there twice"),
        ({"sizes": "12"}, "md.sizes: expected list (1 or more) of whole number >= 1, got '12'"),
        ({"gates": None}, "md.gates: expected mapping, got None"),
        ({"gates": {"momentum": 2}}, "md.gates.momentum: expected number >= 0 and <= 1, got 2"),
        ({"gates": {"momentums": 1}}, "md.gates: unknown key 'momentums'; did you mean 'momentum'?"),
        ({"other": {"momentums": 1}}, "md.other: unknown key 'momentums'; did you mean 'momentum'?"),
        ({"step": 1}, "md: unknown key 'step'; did you mean 'steps'?"),
        ({1: 1}, "md: unknown key 1; known: compile, gates, loop, mixed, other, sizes, steps, timestep_fs"),
        ({"steps": 13}, "md: 13 steps bring bad luck"),
        ([], "md: expected mapping, got []"),
    ],
)
def test_what_is_wrong_is_told_in_full(given, message):
    with pytest.raises(UserError) as error:
        Run.from_mapping(given)
    assert str(error.value) == message


def test_what_is_given_is_laid_over_the_defaults():
    made = Run.from_mapping({"timestep_fs": 1, "sizes": [3]})
    assert made == Run(timestep_fs=1.0, sizes=(3,))
    assert made.to_mapping() == {
        "timestep_fs": 1.0,
        "steps": None,
        "loop": "ase",
        "compile": "auto",
        "mixed": True,
        "sizes": [3],
        "gates": {"momentum": 0.5},
        "other": None,
    }
    assert Run.from_mapping(made.to_mapping()) == made


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Run().steps = 5


def test_a_missing_key_is_named():
    class Needs(Settings):
        names: Items[str]

    with pytest.raises(UserError, match=r"^liquid\.names is missing$"):
        Needs.from_mapping({}, "liquid")


def test_unknown_keys_of_other_mappings_are_told_alike():
    refuse_unknown(["a"], ["a", "b"], "claims")
    with pytest.raises(UserError, match="claims: unknown key 'momentun'; did you mean 'momentum'"):
        refuse_unknown(["momentun"], ["momentum"], "claims")
