"""Whether the stresses among a user's own labels are in eV/A^3 with ASE's sign: told from energies in strained cells."""

import numpy as np

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.systems.stress import volumes
from mlff_distiller.systems.units import BOHR, GPA, HARTREE

#: What dE / (V stress strain) is when the stress carries another unit or sign.
_RATIOS = {
    "the sign of a pressure": -1.0,
    "GPa": GPA,
    "GPa and the sign of a pressure": -GPA,
    "kbar": 0.1 * GPA,
    "kbar and the sign of a pressure, as VASP prints it": -0.1 * GPA,
    "Hartree/bohr^3": HARTREE / BOHR**3,
    "Ry/bohr^3": HARTREE / BOHR**3 / 2,
}
#: Largest component of a strain that the mean of both ends' stresses still describes, and the smallest that shows.
_SIMILAR, _VISIBLE = 0.06, 1e-3
#: Displacement (A) beyond the strain that the mean of both ends' forces still describes.
_MOVED = 0.3
#: Root mean square (eV/A^3; 160 GPa) beyond which no crystal is that is learned at its usual density.
_HIGHEST = 1.0
#: Pairs of frames that are looked at.
_ENOUGH = 2000


def check_stress(dataset: Dataset) -> tuple[str, str]:
    """What looks wrong of the stresses, and why they could not be looked at; each empty where there is nothing to say.

    Changes of energy between frames of the same atoms in differently strained cells, less what the forces account for,
    against volume times stress times strain, each the mean of both frames.
    """
    known = dataset.has_stress
    if not known.any():
        return "", ""
    rms = float(np.sqrt(np.mean(dataset.stresses[known] ** 2)))
    ratio = _ratio(dataset)
    if ratio is not None and not 0.7 < ratio < 1.45:
        return f"energy changes on strain are {ratio:.3g} times what the stresses say{_hint(ratio)}", ""
    if rms > _HIGHEST:
        return f"the stresses' RMS is {rms:.3g}, in eV/A^3 that were {rms / GPA:.0f} GPa: GPa or kbar?", ""
    return "", "" if ratio is not None else "stress against energies (it takes frames of one structure, strained)"


def _ratio(dataset: Dataset) -> float | None:
    """Slope of dE against what the stress says; None when the pairs say it to worse than one part in six."""
    last: dict[bytes, int] = {}
    terms = []
    for i in np.flatnonzero(dataset.has_stress).tolist():
        kind = dataset.numbers[dataset.offsets[i] : dataset.offsets[i + 1]].tobytes()
        before, last[kind] = last.get(kind), i
        if before is not None and (found := _pair(dataset, before, i)) is not None:
            terms.append(found)
            if len(terms) == _ENOUGH:
                break
    if not terms:
        return None
    expected, found, error = np.array(terms).T
    error = error + 1e-3 * np.abs(expected).max() + 1e-12
    weighed, told = expected / error, found / error
    known = float(weighed @ weighed)
    return float(weighed @ told) / known if known > 36.0 else None


def _pair(dataset: Dataset, i: int, j: int) -> tuple[float, float, float] | None:
    """By the stress, by the energies less the forces' part, and the error to expect of their difference, eV; None: too far."""
    rows = [slice(int(dataset.offsets[k]), int(dataset.offsets[k + 1])) for k in (i, j)]
    map_ = np.linalg.solve(dataset.cells[i], dataset.cells[j])
    strain = 0.5 * (map_ + map_.T) - np.eye(3)
    rotation = np.abs(map_ - map_.T).max()
    if not _VISIBLE < np.abs(strain).max() < _SIMILAR or rotation > _SIMILAR:
        return None
    here, there = (dataset.positions[row].astype(np.float64) for row in rows)
    fractions = np.linalg.solve(dataset.cells[j].T, (there - here @ map_).T).T
    step = (fractions - np.round(fractions)) @ dataset.cells[j]
    if np.abs(step).max() > _MOVED:
        return None
    virials = [volumes(dataset.cells[k]) * dataset.stresses[k] for k in (i, j)]
    strained = np.array([(virial * strain).sum() for virial in virials])
    forces = [dataset.forces[rows[0]].astype(np.float64) @ map_, dataset.forces[rows[1]].astype(np.float64)]
    moved = np.array([-(force * step).sum() for force in forces])
    longest = np.linalg.norm(step, axis=1).max()
    # As in the comparison of energies with forces: what the changes of the labels along the way add.
    error = np.ptp(moved) * longest / np.sqrt(len(step)) + 2.0 * np.ptp(strained) * np.abs(strain).max()
    change = float(dataset.energies[j] - dataset.energies[i])
    return float(strained.mean()), change - float(moved.mean()), float(error)


def _hint(ratio: float) -> str:
    alike = [name for name, known in _RATIOS.items() if known * ratio > 0]
    closest = min(alike, key=lambda name: abs(np.log(_RATIOS[name] / ratio)), default="")
    return f", as with {closest}" if closest and abs(np.log(_RATIOS[closest] / ratio)) < 0.25 else ""
