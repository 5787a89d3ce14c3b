"""The configuration, checked before any job starts: a typo is an error with the right key beside it, never ignored."""

from pathlib import Path
from typing import Any

import yaml

from mlff_distiller.benchmark import settings
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.files import CHECKOUT
from mlff_distiller.variants.registry import IN_DOUBLE, check_spec, has_double_form

SCHEMA = CHECKOUT / "workflow" / "schemas" / "config.schema.yaml"


def check_config(config: dict[str, Any]) -> None:
    """Raise one :class:`UserError` that lists everything wrong with ``config``."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(yaml.safe_load(SCHEMA.read_text()))
    complaints = [line for error in validator.iter_errors(config) for line in _explain(error)]
    if not complaints:
        complaints = _check_meaning(config)
    if complaints:
        raise UserError("configuration: " + "\nconfiguration: ".join(sorted(complaints)))


def drop_null_variants(config: dict[str, Any]) -> None:
    """Take out of ``config`` the variants that are null: so a file laid over another leaves out some of its variants."""
    if isinstance(config.get("variants"), dict):
        config["variants"] = {name: spec for name, spec in config["variants"].items() if spec is not None}


def system_path(name: str, folder: str) -> str:
    """Where a system named in the configuration lies: ``water`` in ``folder``, anything with a suffix at its own path."""
    return name if Path(name.partition("@")[0]).suffix else f"{folder}/{name}.extxyz"


def system_name(name: str) -> str:
    """The name under which the results of a system are filed: that of its file."""
    return Path(name.partition("@")[0]).stem


def _explain(error) -> list[str]:
    where = ".".join(map(str, error.absolute_path)) or "top level"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {})
        return [f"{where}: unknown key {key!r}{nearest(key, known)}" for key in error.instance if key not in known]
    if error.validator == "enum":
        return [f"{where}: cannot be {error.instance!r}{nearest(error.instance, error.validator_value)}"]
    return [f"{where}: {error.message}"]


def _check_meaning(config: dict[str, Any]) -> list[str]:
    """What a schema cannot say: names that must exist, files that must be there."""
    complaints = []
    for name, spec in config["variants"].items():
        try:
            check_spec(name, spec)
        except UserError as error:
            complaints.append(str(error))
    if config["variants"].get(BASELINE) != {"family": "eager"}:
        complaints.append(
            f"variants: {BASELINE} must be there as {{family: eager}}: it is what all others are compared with"
        )
    scaling = config["benchmark"]["scaling"]
    for name in scaling["variants"]:
        if name not in config["variants"]:
            complaints.append(
                f"benchmark.scaling.variants: {name!r} is not among variants{nearest(name, config['variants'])}"
            )
    try:
        settings.settings_with_defaults(scaling["settings"])
    except UserError as error:
        complaints.append(str(error))
    if config["teacher"]["calculator"] is None and not config["student"]["dataset"]:
        complaints.append("teacher.calculator: null only with labels of your own in student.dataset")
    molecules = config["molecules"]
    if not Path(molecules["folder"]).is_dir():
        complaints.append(f"molecules.folder: {molecules['folder']}: no such folder")
    known = sorted(path.stem for path in Path(molecules["folder"]).glob("*.extxyz"))
    for name in molecules["systems"]:
        if not Path(system_path(name, molecules["folder"]).partition("@")[0]).is_file():
            complaints.append(f"molecules.systems: {name!r}: no such molecule or file{nearest(name, known)}")
    for key in ("molecule", "liquid"):
        if not Path(system_path(scaling[key], molecules["folder"]).partition("@")[0]).is_file():
            complaints.append(
                f"benchmark.scaling.{key}: {scaling[key]!r}: no such molecule or file{nearest(scaling[key], known)}"
            )
    names = [system_name(name) for name in molecules["systems"]]
    if len(set(names)) < len(names):
        complaints.append("molecules.systems: two of them have the same name; rename one of the files")
    complaints += _check_md(config["md"], names, config["variants"])
    if config["teacher"]["calculator"] is None and config["md"]["spectra"]["variants"]:
        complaints.append(
            "md.spectra compares with the teacher's dynamics: name teacher.calculator, or no variants there"
        )
    files = {
        "student.checkpoint": config["student"]["checkpoint"],
        "student.dataset": config["student"]["dataset"],
        "claims": config["claims"],
        "molecules.list": config["molecules"]["list"],
    }
    files = {key: path for key, path in files.items() if path is not None}
    complaints += [f"{key}: {path}: no such file" for key, path in files.items() if not Path(path).is_file()]
    named = [("molecules.systems", path) for path in molecules["systems"]]
    named += [("md.liquid.systems", path) for path in config["md"]["liquid"]["systems"]]
    complaints += [
        f"{key}: {path!r}: names and folders without blanks, please: rename it"
        for key, path in [*named, *files.items()]
        if any(letter.isspace() for letter in path)
    ]
    return complaints


def _check_md(md: dict[str, Any], systems: list[str], variants: dict[str, Any]) -> list[str]:
    """Names in the section ``md`` that are not among ``systems`` and ``variants``; boxes that are no files.

    Systems that are null are those of ``md.systems``.
    """
    complaints = []
    named = {"md.systems": md["systems"], "md.long.references": md["long"]["references"]}
    named |= {f"md.{check}.systems": md[check]["systems"] for check in ("timestep", "nvt", "spectra")}
    for where, names in named.items():
        complaints += [
            f"{where}: {name!r} is not among molecules.systems{nearest(name, systems)}"
            for name in names or []
            if system_name(name) not in systems
        ]
    for check in ("long", "timestep", "nvt", "spectra", "liquid"):
        complaints += [
            f"md.{check}.variants: {name!r} is not among variants{nearest(name, variants)}"
            for name in md[check]["variants"] or []
            if name not in variants
        ]
    complaints += [
        f"md.timestep.variants: {name!r} has no fp64 form; families {', '.join(IN_DOUBLE)}, uncompiled, have one"
        for name in md["timestep"]["variants"]
        if (spec := variants.get(name)) and not has_double_form(spec)
    ]
    complaints += [
        f"md.liquid.systems: {path}: no such file"
        for path in md["liquid"]["systems"]
        if not Path(path.partition("@")[0]).is_file()
    ]
    return complaints
