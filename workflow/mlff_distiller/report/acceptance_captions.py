"""What is said about the figures of the acceptance suite (see :mod:`.captions`)."""

from collections.abc import Callable
from statistics import median

from mlff_distiller.records.acceptance import by_dependence, changing_mode, compared
from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import number, title

TITLES = {
    "vibrations": "Harmonic frequencies, and the displacement behind them",
    "energy_curves": "Dimers and torsions, student against teacher",
    "crystals": "Crystals: energy along the volume, and phonons",
}
READING = {
    "vibrations": "Harmonic frequencies of each model at its own minimum, by central differences of the forces; on the line both "
    "agree. Right: both at the same displacement, the mode of each molecule whose error depends most on it; named are the three "
    "that change most, with the teacher's frequency.",
    "energy_curves": "Top: two rigid molecules drawn apart, energy less that of the molecules alone. Bottom: a single bond "
    "turned, everything else rigid. Gray: teacher.",
    "crystals": "Left: each model's energy above the minimum of its own fit, by the volume of the cell; gray: teacher. Right: "
    "the modes of all wave vectors that fit into the repeated cell, each model at its own minimum; on the line both agree.",
}


def _vibrations(run: Run) -> str:
    found = by_dependence(run)
    if not found:
        return ""
    worst = max(found, key=lambda entry: abs(entry["frequency_error_per_cm"]))
    lengths = sorted(found[0]["vibrations"]["displacements_a"])
    typical = median(entry["frequency_mae_per_cm"] for entry in found)
    text = (
        f"Over {len(found)} molecules the median MAE is {number(typical, 2)} cm⁻¹, the largest error "
        f"{worst['frequency_error_per_cm']:.0f} ({title(worst['system'])}, where the teacher has "
        f"{_wavenumber(worst['worst_frequency_per_cm'])})"
    )
    if len(lengths) > 1:
        moves = [
            f"{_wavenumber(student[0])} to {_wavenumber(student[-1])} ({title(entry['system'])}; teacher "
            f"{_wavenumber(teacher[0])} to {_wavenumber(teacher[-1])})"
            for entry in found[:2]
            for _, student, teacher in [changing_mode(entry)]
        ]
        text += (
            f"; between displacements of {lengths[0]:g} and {lengths[-1]:g} Å a mode of the student changes from "
            f"{', another from '.join(moves)}"
        )
    return text + "."


def _energy_curves(run: Run) -> str:
    dimers, torsions = compared(run, "dimer"), compared(run, "torsion")
    parts = []
    if known := [entry for entry in dimers if entry.get("dimer_mae_kcal_mol") is not None]:
        worst = max(known, key=lambda entry: entry["dimer_mae_kcal_mol"])
        mean = median(entry["dimer_mae_kcal_mol"] for entry in known)
        parts.append(
            f"the median error of {len(known)} dimers is {number(mean, 2)} kcal/mol, the largest "
            f"{number(worst['dimer_mae_kcal_mol'], 2)} ({title(worst['system'])})"
        )
    if torsions:
        worst = max(torsions, key=lambda entry: abs(entry["barrier_error_kcal_mol"]))
        mean = median(abs(entry["barrier_error_kcal_mol"]) for entry in torsions)
        parts.append(
            f"that of {len(torsions)} torsion barriers {number(mean, 2)}, the largest "
            f"{number(worst['barrier_error_kcal_mol'], 2)} ({title(worst['system'])})"
        )
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _crystals(run: Run) -> str:
    parts = [
        f"{title(entry['system'])}: volume {entry['volume_error_percent']:+.2f} %, bulk modulus "
        f"{entry['bulk_modulus_gpa']:.1f} GPa ({entry['bulk_modulus_error_gpa']:+.1f})"
        for entry in compared(run, "volume")
    ]
    if modes := compared(run, "phonons"):
        worst = max(modes, key=lambda entry: abs(entry["phonon_error_thz"]))
        parts.append(
            f"the largest error of a phonon is {worst['phonon_error_thz']:+.2f} THz ({title(worst['system'])}, where the teacher "
            f"has {worst['worst_phonon_thz']:.2f})"
        )
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


SENTENCES: dict[str, Callable[[Run], str]] = {
    "vibrations": _vibrations,
    "energy_curves": _energy_curves,
    "crystals": _crystals,
}


def _wavenumber(value: float) -> str:
    """A frequency in 1/cm, an imaginary one (negative) as chemists write it: ``155i``."""
    return f"{value:.0f}" if value >= 0 else f"{-value:.0f}i"
