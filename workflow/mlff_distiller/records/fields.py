"""Which fields a record may have, and whether one that was read is right; by the classes in :mod:`.kinds`."""

import functools
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlff_distiller.records.kinds.acceptance import (
    Conformers,
    Dimer,
    Elastic,
    Geometry,
    PhononErrors,
    Smoothness,
    Torsion,
    Vibration,
    Volume,
)
from mlff_distiller.records.kinds.accuracy import Accuracy, Round, RoundLimit, Training
from mlff_distiller.records.kinds.engine import InEngine
from mlff_distiller.records.kinds.machine import Inputs, Preflight, TorchCluster
from mlff_distiller.records.kinds.md import Nve, Pairs, Reference, Spectra, Thermostat, Timestep
from mlff_distiller.records.kinds.timing import Benchmark, Calculator, MdSteps, Periodic, Profile, Throughput
from mlff_distiller.records.kinds.variant import Compile, Deploy, Equivalence
from mlff_distiller.records.schema import no_record
from mlff_distiller.utils.errors import nearest

#: Kind -> task -> class; None stands for all tasks that have no class of their own.
CLASSES: dict[str, dict[str | None, type]] = {
    "preflight": {None: Preflight, "inputs": Inputs, "teacher": Preflight},
    "torch_cluster": {None: TorchCluster},
    "compile": {None: Compile},
    "equivalence": {None: Equivalence},
    "benchmark": {
        None: Benchmark,
        "throughput": Throughput,
        "periodic": Periodic,
        "calculator": Calculator,
        "md_steps": MdSteps,
    },
    "profile": {None: Profile},
    "md": {
        "nve": Nve,
        "liquid": Nve,
        "timestep": Timestep,
        "nvt": Thermostat,
        "spectra": Spectra,
        "pairs": Pairs,
        "reference": Reference,
    },
    "accuracy": {None: Accuracy, "training": Training, "round": Round, "round_limit": RoundLimit},
    "acceptance": {
        "geometry": Geometry,
        "frequencies": Vibration,
        "torsion": Torsion,
        "conformers": Conformers,
        "dimer": Dimer,
        "dissociation": Smoothness,
        "approach": Smoothness,
        "volume": Volume,
        "elastic": Elastic,
        "phonons": PhononErrors,
    },
    "engine": {None: InEngine},
    "deploy": {None: Deploy},
}
#: Kinds whose records must name a variant.
OF_VARIANTS = ("benchmark", "equivalence", "md", "compile", "profile", "engine")


def class_of(kind: str, task: str | None) -> type:
    """The class of a record.

    Raises:
        ValueError: ``kind`` has no such task.
    """
    classes = CLASSES[kind]
    found = classes.get(task) or classes.get(None)
    if found is None:
        raise ValueError(f"unknown task {task!r} of {kind}{nearest(str(task), filter(None, classes))}")
    return found


def check_fields(entry: dict[str, Any]) -> None:
    """Raise a ValueError for a field that records of this kind and task do not have."""
    known = class_of(entry["kind"], entry["task"]).__annotations__
    for name in entry:
        if name not in known:
            raise ValueError(f"unknown field {name!r} in a record of kind {entry['kind']!r}{nearest(name, known)}")


def problem(entry: Any) -> str | None:
    """Why a record cannot be used, in words; None when it can. It may be of an older or another form, or damaged.

    Fields that are not known are let through, and so is null: a number that is not finite is written as that.
    """
    if wrong := no_record(entry):
        return wrong
    if entry["kind"] in OF_VARIANTS and not entry.get("variant"):
        return f"a {entry['kind']} record without a variant"
    task = entry.get("task")
    try:
        form = class_of(entry["kind"], task if isinstance(task, str) else None)
        _adapter(form).validate_python({name: value for name, value in entry.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # Without positions in lists, so that equal problems have equal texts.
        place = ".".join(part for part in first["loc"] if isinstance(part, str))
        return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    except ValueError as error:
        return str(error)
    return next(
        (f"{name}: a number or text that cannot be worked with" for name, v in entry.items() if _beyond(v)), None
    )


def _beyond(value: Any) -> bool:
    """Whether a number is in it that overflows in the next step, or text that is no Unicode: damage, never measured."""
    if isinstance(value, dict):
        return any(map(_beyond, (*value, *value.values())))
    if isinstance(value, list):
        return any(map(_beyond, value))
    if isinstance(value, str):
        return any("\ud800" <= letter <= "\udfff" for letter in value) if not value.isascii() else False
    return isinstance(value, int | float) and abs(value) > 1e100


@functools.cache
def _adapter(form: type) -> TypeAdapter[Any]:
    return TypeAdapter(form)
