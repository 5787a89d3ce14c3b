"""The acceptance suite in the report: its table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from mlff_distiller.records.acceptance import compared
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record
from mlff_distiller.records.wording import number, title

#: Task -> field, what it is, its unit; the worst is the largest, whatever its sign.
MEASURES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "geometry": (
        ("rmsd_a", "Optimised geometry: RMSD of the atoms", "Å"),
        ("bond_error_a", "Optimised geometry: largest error of a bond length", "Å"),
        ("energy_error_kcal_mol", "Energy of the optimised geometry: error", "kcal/mol"),
    ),
    "frequencies": (
        ("frequency_mae_per_cm", "Harmonic frequencies: MAE", "cm⁻¹"),
        ("frequency_error_per_cm", "Harmonic frequencies: largest error", "cm⁻¹"),
        ("change_per_cm", "Largest change of a frequency with the displacement", "cm⁻¹"),
        ("teacher_change_per_cm", "The same of the teacher", "cm⁻¹"),
    ),
    "torsion": (
        ("barrier_error_kcal_mol", "Torsions: error of the barrier", "kcal/mol"),
        ("profile_mae_kcal_mol", "Torsions: MAE of the profile", "kcal/mol"),
    ),
    "conformers": (("conformer_mae_kcal_mol", "Conformers: MAE of the energy", "kcal/mol"),),
    "dimer": (
        ("dimer_mae_kcal_mol", "Dimers: MAE of the energy", "kcal/mol"),
        ("well_depth_error_kcal_mol", "Dimers: error of the well's depth", "kcal/mol"),
        ("minimum_error_a", "Dimers: error of the minimum's distance", "Å"),
    ),
}
#: Tasks about crystals, which have a table of their own.
CRYSTALS = ("volume", "elastic", "phonons")
#: Column -> task and what stands in it.
CELLS = (
    ("volume", "volume", "{volume_a3_per_atom:.2f} ({volume_error_percent:+.2f} %)"),
    ("modulus", "volume", "{bulk_modulus_gpa:.1f} ({bulk_modulus_error_gpa:+.1f})"),
    ("curve", "volume", "{volume_mae_mev_per_atom:.2g}"),
    ("elastic", "elastic", "{elastic_mae_gpa:.1f}; {worst_elastic} {worst_elastic_gpa:.1f} ({elastic_error_gpa:+.1f})"),
    ("phonons", "phonons", "{phonon_mae_thz:.2f}; {worst_phonon_thz:.2f} ({phonon_error_thz:+.2f})"),
    ("imaginary", "phonons", "{imaginary} ({teacher_imaginary})"),
)
CURVES = {"dissociation": "Bonds pulled and pressed", "approach": "Atoms pushed together"}


def rows(run: Run) -> list[dict[str, str]]:
    """The table: ``measure``, ``cases``, ``typical`` (the median, without sign), ``worst`` and ``where`` that is."""
    made = []
    for task, measures in MEASURES.items():
        found = [_with_errors(entry) for entry in compared(run, task)]
        for field, words, unit in measures:
            if known := [entry for entry in found if entry.get(field) is not None]:
                made.append(_row(known, field, f"{words} ({unit})"))
        made += _imaginary(found) if task == "frequencies" else _ranking(found) if task == "conformers" else []
        made += _unbound(found) if task == "dimer" else []
    for task, words in CURVES.items():
        made += _smoothness(compared(run, task), words)
    return made


def crystals(run: Run) -> list[dict[str, str]]:
    """The table of crystals, a row each: the teacher's values and the student's errors; a dash where there is none."""
    found: dict[str, dict[str, Record]] = {}
    for task in CRYSTALS:
        for entry in compared(run, task):
            found.setdefault(entry["system"], {})[task] = entry
    return [
        {"system": title(system)}
        | {name: words.format(**(entries.get(task) or {})) if task in entries else "-" for name, task, words in CELLS}
        for system, entries in found.items()
    ]


def context(run: Run) -> dict[str, Any]:
    """Values of the template acceptance.md.j2: the rows of both tables, how the molecules relate to the training, what failed."""
    found = [e for e in run.records if e["kind"] == "acceptance"]
    molecules = [e for e in found if e["task"] not in CRYSTALS]
    return {
        "rows": rows(run),
        "crystals": crystals(run),
        "cases": len(molecules),
        "trained": sum("train" in str(e.get("split")) or "val" in str(e.get("split")) for e in molecules),
        "unknown": any(e.get("split") == "unknown" for e in molecules),
        "failed": [
            {"what": f"{e['task']}, {title(e['system'])}", "status": e["status"], "reason": e["reason"]}
            for e in found
            if e["status"] != "ok"
        ],
    }


def _with_errors(entry: Record) -> Record:
    positions = entry.get("minimum_a"), entry.get("student_minimum_a")
    known = None not in positions and entry["task"] == "dimer"
    return entry | ({"minimum_error_a": positions[1] - positions[0]} if known else {})


def _row(found: Sequence[Record], field: str, words: str) -> dict[str, str]:
    worst = max(found, key=lambda entry: abs(entry[field]))
    return {
        "measure": words,
        "cases": str(len(found)),
        "typical": number(float(median(abs(entry[field]) for entry in found)), 2),
        "worst": number(float(worst[field]), 2),
        "where": place(worst),
    }


def place(entry: Mapping[str, Any]) -> str:
    """The molecule of a record, and the atoms of its torsion or bond."""
    inner = entry.get("coordinate") if entry["task"] in ("torsion", "dissociation") else None
    return title(entry["system"]) + (f" ({inner})" if inner else "")


def _imaginary(found: Sequence[Record]) -> list[dict[str, str]]:
    with_some = [entry for entry in found if entry.get("imaginary")]
    if not found:
        return []
    return [_counted("Imaginary frequencies at the student's minimum", found, with_some, [place(e) for e in with_some])]


def _ranking(found: Sequence[Record]) -> list[dict[str, str]]:
    known = [entry for entry in found if entry.get("spearman") is not None]
    if not known:
        return []
    worst = min(known, key=lambda entry: entry["spearman"])
    return [
        {
            "measure": "Conformers: rank correlation (Spearman)",
            "cases": str(len(known)),
            "typical": f"{median(entry['spearman'] for entry in known):.2f}",
            "worst": f"{worst['spearman']:.2f}",
            "where": place(worst),
        }
    ]


def _unbound(found: Sequence[Record]) -> list[dict[str, str]]:
    """Dimers that one model binds and the other does not; the errors of the minimum's distance leave them out."""
    one_sided = [e for e in found if (e.get("minimum_a") is None) != (e.get("student_minimum_a") is None)]
    names = [f"{place(e)} ({'student' if e.get('minimum_a') is None else 'teacher'} alone)" for e in one_sided]
    return [_counted("Dimers with a minimum in one model alone", found, one_sided, names)] if one_sided else []


def _smoothness(found: Sequence[Record], words: str) -> list[dict[str, str]]:
    if not found:
        return []
    rough = [entry for entry in found if entry.get("holes_a") or entry.get("cusps_a")]
    # The easiest to fall into first.
    rough.sort(key=_lowest_wall)
    row = _counted(f"{words}: curves with a hole or cusp", found, rough, map(_hole_or_cusp, rough))
    theirs = sum(bool(entry.get("teacher_holes_a") or entry.get("teacher_cusps_a")) for entry in found)
    below = [entry for entry in found if entry.get("below_minimum_a") is not None]
    names = [
        f"{place(e)} at {e['below_minimum_a']:.2f} Å, by {number(e['below_minimum_kcal_mol'], 2)} kcal/mol"
        for e in below
    ]
    hidden = [e for e in found if e.get("refused_holes_a") or e.get("refused_below_minimum_a") is not None]
    return [
        row | ({"typical": f"{row['typical']} (teacher: {theirs})"} if theirs else {}),
        _counted(f"{words}: energy below the minimum on the teacher's wall", found, below, names),
        _counted(f"{words}: either, where the student refuses", found, hidden, map(place, hidden)),
    ]


def _lowest_wall(entry: Mapping[str, Any]) -> float:
    """What the nearest of its holes is behind, kcal/mol; infinite where it has cusps alone."""
    return min(entry.get("walls_kcal_mol") or [], default=math.inf)


def _hole_or_cusp(entry: Mapping[str, Any]) -> str:
    """The hole behind the lowest wall: ``H-C: hole at 0.85 Å behind 90 kcal/mol``; a cusp where there is no hole."""
    if entry.get("holes_a"):
        wall, at = min(zip(entry["walls_kcal_mol"], entry["holes_a"], strict=True))
        return f"{place(entry)}: hole at {at:.2f} Å behind {number(wall, 2)} kcal/mol"
    return f"{place(entry)}: cusp at {entry['cusps_a'][0]:.2f} Å"


def _counted(words: str, found: Sequence[Record], some: Sequence[Record], names: Iterable[str]) -> dict[str, str]:
    names = list(dict.fromkeys(names))
    more = f", {len(names) - 4} more" if len(names) > 4 else ""
    return {
        "measure": words,
        "cases": str(len(found)),
        "typical": f"{len(some)} of {len(found)}",
        "worst": "-",
        "where": "; ".join(names[:4]) + more if names else "-",
    }
