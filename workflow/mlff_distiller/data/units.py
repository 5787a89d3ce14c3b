"""Whether labels are in eV and eV/A and positions in A: told from bond lengths, force constants and energy differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.data.stress_units import check_stress
from mlff_distiller.systems.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

#: What dE / (-F dx) is when energies or forces carry another unit.
_RATIOS = {
    "energies in Hartree, forces in eV/A": 1 / HARTREE,
    "energies in kcal/mol, forces in eV/A": 1 / KCAL_PER_MOL,
    "energies in kJ/mol, forces in eV/A": 1 / KJ_PER_MOL,
    "energies in eV, forces in Hartree/A": HARTREE,
    "energies in eV, forces in Hartree/Bohr": HARTREE / BOHR,
    "energies in Hartree, forces in Hartree/Bohr": 1 / BOHR,
    "energies in eV, forces in kcal/mol/A": KCAL_PER_MOL,
    "energies in eV, forces with the sign of the gradient": -1.0,
}
#: One eV in other units of energy.
_EV = {"Hartree": 1 / HARTREE, "kcal/mol": 1 / KCAL_PER_MOL, "kJ/mol": 1 / KJ_PER_MOL}
#: All-electron energies of free atoms in Hartree (near exact; density functionals agree to a few per mille).
_ALL_ELECTRON = {
    1: -0.5,
    6: -37.845,
    7: -54.589,
    8: -75.067,
    9: -99.734,
    15: -341.26,
    16: -398.11,
    17: -460.15,
    35: -2574.1,
}
#: What an atom adds to a molecule's GFN2-xTB energy (valence electrons only), Hartree; sums are right within 4 %.
_GFN2 = {1: -0.49, 6: -2.19, 7: -2.92, 8: -4.08, 9: -4.73, 15: -2.56, 16: -3.28, 17: -4.56, 35: -4.10}
#: Elements whose bonds are covalent: the sum of the covalent radii (Cordero 2008) is the bond length within 25 %.
_COVALENT = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35)
#: Lengths of bonds over the sum of the radii, in their middle and at the short end: 0.8 (triple bonds) to 1.3 in A, twice
#: that in bohr, a tenth in nm. The short end tells bohr from bonds that are being broken.
_LONG, _LONG_AT_LEAST, _SHORT = 1.36, 1.18, 0.4
#: Farthest nearest neighbor that is looked for, A.
_FAR = 4.5
#: Force constants of bonds in eV/A^2: 15 (P-H) to 60 (O-H, F-H), 140 (N-N triple). In Hartree/A^2 0.5 to 5.
_SOFTEST, _STIFFEST = 6.0, 250.0
#: Displacement between two frames (A) that the mean of their forces still describes; a bond's change that shows.
_SIMILAR, _VISIBLE = 0.3, 0.004
#: Pairs of frames that can prove units wrong, but not right.
_FEW = 7
#: Frames that are looked at; more tell nothing new.
_ENOUGH = 2000


@dataclass(frozen=True)
class UnitCheck:
    """What the labels say of their units.

    Attributes:
        doubts: what looks wrong; empty when nothing does.
        unknown: what could not be looked at, and why; empty when all could.
    """

    doubts: tuple[str, ...]
    unknown: tuple[str, ...]


def check_units(dataset: Dataset) -> UnitCheck:
    """Compare a labeled dataset with what eV, eV/A and A would give.

    Five signs: lengths of bonds; changes of energy between similar frames against minus force times displacement; force
    constants of bonds; changes of energy on strain against the stress (:mod:`.stress_units`); and, where these
    say nothing, energies that are the sum of atoms in Hartree, kcal/mol or kJ/mol, and forces far beyond any thermal geometry's.
    """
    if wrong := doubtful_lengths(dataset):
        return UnitCheck((wrong,), ())
    pairs = _similar(dataset)
    doubts: list[str] = []
    unknown: list[str] = []
    ratio = _energy_force_ratio(dataset, pairs)
    if ratio is None or len(pairs) < _FEW:
        unknown.append(f"energies against forces (it takes {_FEW + 1} similar frames of the same atoms)")
    if ratio is not None and not 0.7 < ratio < 1.45:
        doubts.append(f"energy changes are {ratio:.3g} times what the forces say{_hint(ratio, dataset)}")
    stiffness = _force_constant(dataset, pairs)
    if stiffness is None:
        unknown.append(
            "force constants (it takes two frames with a bond of H, B, C, N, O, F, Si, P, S, Cl or Br changed)"
        )
    elif not _SOFTEST < stiffness < _STIFFEST:
        typical = 35.0 if 1 in dataset.numbers else 60.0
        far = {name: abs(np.log(stiffness / typical / unit)) for name, unit in _EV.items()}
        units = [name for name in _EV if far[name] <= max(np.log(2.5), min(far.values()))]
        doubts.append(
            f"force constants of bonds are {stiffness:.3g}, in eV/A^2 they would be 15 to 140: "
            f"{' or '.join(f'energies in {name}, forces in {name}/A' for name in units)}?"
        )
    if ratio is None or stiffness is None or doubts:
        doubts += _sums_of_atoms(dataset)
    rms = float(np.sqrt(np.mean(dataset.forces.astype(np.float64) ** 2))) if len(dataset.forces) else 0.0
    if rms > 40.0 and stiffness is None:
        doubts.append(f"the forces' RMS is {rms:.3g}, far above thermal geometries (1 to 3 eV/A): kcal/mol/A?")
    wrong_stress, unseen_stress = check_stress(dataset)
    doubts += [wrong_stress] if wrong_stress else []
    unknown += [unseen_stress] if unseen_stress else []
    return UnitCheck(tuple(doubts), tuple(unknown))


def refuse_units(path: str | Path, doubts: Sequence[str]) -> NoReturn:
    """Raise a :class:`UserError` about the labels in ``path`` that says what was found, and what was expected."""
    raise UserError(
        f"{path}: "
        + "; ".join(doubts)
        + ". Positions must be in A, energies total energies in eV, forces in eV/A, a stress in "
        "eV/A^3, positive where the cell pulls (1 bohr = 0.529177 A, 1 Hartree = 27.2114 eV, 1 kcal/mol = 0.0433641 eV, "
        "1 Hartree/Bohr = 51.4221 eV/A, 1 GPa = 0.00624151 eV/A^3); where they are, own_data.check_units: false silences this"
    )


def doubtful_lengths(dataset: Dataset) -> str:
    """Why the positions look as if they were not in A; empty when they do not."""
    from ase.data import covalent_radii

    ratios, alone, pushed = [], 0, 0.0
    for i in _spread(len(dataset), 200):
        atoms = dataset.atoms(i)
        partner, distance, _ = _nearest(atoms)
        bonded = distance < _FAR
        if not bonded.any():
            alone += 1
            pushed = max(pushed, float(np.abs(atoms.arrays["forces"]).max()))
            continue
        # Hydrogen has one bond, of known length; without it, the other elements with covalent bonds.
        for elements in ((1,), _COVALENT):
            mine = bonded & np.isin(atoms.numbers, elements)
            mine[mine] &= np.isin(atoms.numbers[partner[mine]], _COVALENT)
            if mine.any():
                radii = covalent_radii[atoms.numbers]
                ratios.append(distance[mine] / (radii[mine] + radii[partner[mine]]))
                break
    if ratios:
        found = np.concatenate(ratios)
        if np.median(found) > _LONG and np.quantile(found, 0.05) > _LONG_AT_LEAST:
            return (
                f"every bond is {np.median(found):.2f} times as long as the elements' covalent radii say: positions in "
                "bohr (1 bohr = 0.529177 A)?"
            )
        if np.median(found) < _SHORT:
            return (
                f"bonds are {np.median(found):.2f} times as long as the elements' covalent radii say: positions in nm "
                "(1 nm = 10 A), or of the unit cell?"
            )
    if alone and not ratios and pushed > 0.05:
        return f"no atom has another within {_FAR} A, yet there are forces up to {pushed:.3g} eV/A: positions in pm?"
    return ""


def _nearest(atoms: "Atoms") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each atom's nearest neighbor [N], its distance [N] (A; infinite beyond 4.5 A) and the vector to it [N, 3]."""
    from ase.neighborlist import neighbor_list
    from scipy.spatial import cKDTree

    partner = np.arange(len(atoms))
    distance, vector = np.full(len(atoms), np.inf), np.zeros((len(atoms), 3))
    if len(atoms) > 1:
        found, order = cKDTree(atoms.positions).query(atoms.positions, k=2)
        near = found[:, 1] < _FAR
        partner[near], distance[near] = order[near, 1], found[near, 1]
        vector = atoms.positions[partner] - atoms.positions
    # Images, unless all is close already: small cells have very many of them within reach.
    if atoms.pbc.any() and distance.max() > 0.5:
        i, j, d, v = neighbor_list("ijdD", atoms, min(_FAR, distance.max()))
        # The closest of each atom is written last.
        order = np.argsort(-d, kind="stable")
        order = order[d[order] < distance[i[order]]]
        partner[i[order]], distance[i[order]], vector[i[order]] = j[order], d[order], v[order]
    return partner, distance, vector


def _similar(dataset: Dataset) -> list[tuple[int, int, np.ndarray]]:
    """Pairs of frames of the same atoms that are close to each other, and the displacement [N, 3] (A) between them."""
    last: dict[bytes, int] = {}
    pairs = []
    for i in range(len(dataset)):
        here = _rows(dataset, i)
        kind = dataset.numbers[here].tobytes()
        before = last.get(kind)
        last[kind] = i
        if before is None or not _same_cell(dataset, before, i):
            continue
        step = dataset.positions[here].astype(np.float64) - dataset.positions[_rows(dataset, before)]
        if 1e-4 < np.abs(step).max() < _SIMILAR:
            pairs.append((before, i, step))
            if len(pairs) == _ENOUGH:
                break
    return pairs


def _rows(dataset: Dataset, i: int) -> slice:
    return slice(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))


def _same_cell(dataset: Dataset, i: int, j: int) -> bool:
    return dataset.cells is None or np.array_equal(dataset.cells[i], dataset.cells[j])


def _energy_force_ratio(dataset: Dataset, pairs: list[tuple[int, int, np.ndarray]]) -> float | None:
    """Slope of dE against -F dx between similar frames; None when they say it to worse than one part in six.

    The mean of both ends' forces gives the energy difference of a parabola. Bonds are none: the error is at most (GFN2-xTB,
    2 to 24 atoms, 0.05 to 0.3 A) about what the change of the forces adds to dE, times the largest displacement in A,
    times 2 / sqrt(atoms). Each pair counts by that.
    """
    forces = dataset.forces.astype(np.float64)
    ends = np.array([[-(forces[_rows(dataset, k)] * step).sum() for k in (i, j)] for i, j, step in pairs])
    if not len(ends):
        return None
    expected, spread = ends.mean(axis=1), 0.5 * np.abs(ends[:, 1] - ends[:, 0])
    longest = np.array([np.linalg.norm(step, axis=1).max() for *_, step in pairs])
    sizes = np.array([len(step) for *_, step in pairs])
    error = 2.0 / np.sqrt(sizes) * spread * longest + 1e-3 * np.abs(ends).max() + 1e-12
    found = np.array([dataset.energies[j] - dataset.energies[i] for i, j, _ in pairs])
    weighed, told = expected / error, found / error
    known = float(weighed @ weighed)
    return float(weighed @ told) / known if known > 36.0 else None


def _hint(ratio: float, dataset: Dataset) -> str:
    known = dict(_RATIOS)
    if len(sizes := np.unique(dataset.n_atoms)) == 1:
        known["energies per atom"] = 1.0 / sizes[0]
    alike = [name for name in known if known[name] * ratio > 0]
    if not alike:  # the energies do not change at all
        return ""
    closest = min(alike, key=lambda name: abs(np.log(known[name] / ratio)))
    return f", as with {closest}" if abs(np.log(known[closest] / ratio)) < 0.2 else ""


def _force_constant(dataset: Dataset, pairs: list[tuple[int, int, np.ndarray]]) -> float | None:
    """-dF/dr (eV/A^2) of an atom along its shortest bond, over all similar frames; None when no bond changes enough.

    Of hydrogen's bonds where there are any: it has but one, so that nothing else acts along it.
    """
    from ase.data import covalent_radii

    samples: dict[bool, list[tuple[np.ndarray, np.ndarray]]] = {True: [], False: []}
    for k in _spread(len(pairs), 300):
        i, j, step = pairs[k]
        atoms = dataset.atoms(i)
        partner, distance, vector = _nearest(atoms)
        other = vector + step[partner] - step
        radii = covalent_radii[atoms.numbers]
        bond = np.isin(atoms.numbers, _COVALENT) & np.isin(atoms.numbers[partner], _COVALENT)
        longest = np.maximum(distance, np.linalg.norm(other, axis=1))
        bond &= longest < 1.3 * (radii + radii[partner])
        if not bond.any():
            continue
        change = np.linalg.norm(other[bond], axis=1) - distance[bond]
        after = dataset.forces[_rows(dataset, j)][bond].astype(np.float64)
        before = dataset.forces[_rows(dataset, i)][bond].astype(np.float64)
        unit = vector[bond] / distance[bond][:, None]
        unit_after = other[bond] / np.linalg.norm(other[bond], axis=1)[:, None]
        pull = (after * unit_after).sum(axis=1) - (before * unit).sum(axis=1)
        hydrogen = atoms.numbers[bond] == 1
        for of_hydrogen in (True, False):
            mine = (hydrogen == of_hydrogen) & (np.abs(change) > _VISIBLE)
            samples[of_hydrogen].append((change[mine], pull[mine]))
    for found in (samples[True], samples[False]):
        if sum(len(change) for change, _ in found) >= 2:
            change, pull = (np.concatenate(part) for part in zip(*found, strict=True))
            alike = np.dot(change, pull) / max(np.linalg.norm(change) * np.linalg.norm(pull), 1e-300)
            # A slope of three times its standard error.
            if alike * np.sqrt(len(change)) > 3.0 * np.sqrt(max(1.0 - alike**2, 0.0)):
                return float(np.dot(change, pull) / np.dot(change, change))
    return None


def _sums_of_atoms(dataset: Dataset) -> list[str]:
    """Energies that are sums of atomic energies in another unit; molecules of the nine tabulated elements only."""
    doubts = []
    for what, table, tolerance in (("all-electron", _ALL_ELECTRON, 0.03), ("GFN2-xTB", _GFN2, 0.05)):
        whole = np.logical_and.reduceat(np.isin(dataset.numbers, list(table)), dataset.offsets[:-1])
        expected = np.add.reduceat([table.get(z, 0.0) for z in dataset.numbers.tolist()], dataset.offsets[:-1])
        ratios = dataset.energies[whole] / expected[whole] / 27.2114
        for unit, factor in _EV.items():
            if len(ratios) and np.all(np.abs(ratios / factor - 1) < tolerance):
                doubts.append(f"energies look like {what} energies in {unit}")
    return doubts


def _spread(n: int, most: int) -> list[int]:
    """At most ``most`` of ``n`` indices, evenly over them."""
    return sorted(set(np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()))
