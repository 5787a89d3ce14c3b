"""A user's own labels: energies and forces of any trajectory that ASE reads, checked before anything is learned of them.

    student:
      dataset: mine.extxyz
      own_data: {energy_key: REF_energy, forces_key: REF_forces, split_by: frame}

The labels are total energies in eV and forces in eV/A, as ASE has them; what looks like other units is refused.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.data.dataset import SPLITS, Dataset, from_lists
from mlff_distiller.data.own_data_settings import OwnDataSettings
from mlff_distiller.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from ase import Atoms

#: Where a frame says which molecule it shows; else its chemical formula does.
NAME_KEYS = ("smiles", "molecule", "name")


def read_extxyz(path: str | Path, settings: OwnDataSettings = OwnDataSettings()) -> Dataset:  # noqa: B008 (frozen)
    """A user's own labeled configurations.

    Args:
        path: any trajectory that ASE reads, with a total energy (eV) and forces (eV/A) in every frame.
        settings: keys and split. A frame's own ``split`` in its info line comes before all of them.

    Raises:
        UserError: unreadable, a frame without energy or forces, values not finite, suspicious units, or a split that
            cannot be made.
    """
    frames = _read_frames(path)
    energies, forces = [], []
    for i, frame in enumerate(frames):
        energy, force = _labels(path, i, frame, settings)
        energies.append(energy)
        forces.append(force)
    molecules = [next((str(f.info[k]) for k in NAME_KEYS if k in f.info), f.get_chemical_formula()) for f in frames]
    periodic = any(frame.pbc.any() for frame in frames)
    dataset = from_lists(
        [frame.numbers for frame in frames],
        [frame.positions for frame in frames],
        molecules,
        ["train"] * len(frames),
        ["given"] * len(frames),
        energies=np.array(energies),
        forces=np.concatenate(forces),
        cells=np.array([frame.cell.array for frame in frames]) if periodic else None,
        pbc=np.array([frame.pbc for frame in frames]) if periodic else None,
        teacher=f"labels of {Path(path).name}",
    )
    if settings.check_units and (doubts := doubtful_units(dataset)):
        raise UserError(
            f"{path}: " + "; ".join(doubts) + ". Energies must be total energies in eV, forces in eV/A "
            "(1 Hartree = 27.2114 eV, 1 kcal/mol = 0.0433641 eV, 1 Hartree/Bohr = 51.4221 eV/A); where they are, "
            "own_data.check_units: false silences this"
        )
    splits = _splits(path, frames, molecules, settings)
    return replace(dataset, split=np.array([SPLITS.index(name) for name in splits], dtype=np.uint8))


def _read_frames(path: str | Path) -> list["Atoms"]:
    from ase.io import iread

    frames: list[Atoms] = []
    try:
        for frame in iread(str(path), index=":"):
            frames.append(frame)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:
        raise UserError(
            f"{path}: ASE cannot read it, after {len(frames)} frames ({type(error).__name__}: {error})"
        ) from error
    if not frames:
        raise UserError(f"{path}: no frames in it")
    return frames


def _labels(path: str | Path, i: int, frame: "Atoms", settings: OwnDataSettings) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces ([N, 3] eV/A) of frame ``i``, both there and finite."""
    results = frame.calc.results if frame.calc is not None else {}
    found = {}
    for what, known in (("energy", frame.info), ("forces", frame.arrays)):
        key = getattr(settings, f"{what}_key")
        found[what] = results.get(key, known.get(key))
        if found[what] is None:
            present = ", ".join(sorted({*known, *results})) or "nothing"
            raise UserError(
                f"{path}: frame {i} has no {what} {key!r}; it has {present}. Every frame needs a total energy in eV "
                f"and forces in eV/A; name another key with own_data.{what}_key"
            )
    energy, forces = float(found["energy"]), np.asarray(found["forces"], dtype=np.float64)
    if forces.shape != (len(frame), 3):
        raise UserError(f"{path}: frame {i} has forces of shape {forces.shape} for {len(frame)} atoms")
    if not np.isfinite(energy) or not np.isfinite(forces).all() or not np.isfinite(frame.positions).all():
        raise UserError(f"{path}: frame {i} holds numbers that are not finite; drop it")
    return energy, forces.astype(np.float32)


def _splits(
    path: str | Path, frames: Sequence["Atoms"], molecules: Sequence[str], settings: OwnDataSettings
) -> list[str]:
    """The split of each frame: its own, else that of what it belongs to."""
    given = [frame.info.get("split") for frame in frames]
    for i, split in enumerate(given):
        if split is not None and split not in SPLITS:
            raise UserError(f"{path}: frame {i} has split={split!r}{nearest(split, SPLITS)}")
    by = settings.split_by
    if by == "molecule":
        groups = list(molecules)
    elif by == "frame":
        groups = [str(i) for i in range(len(frames))]
    else:
        for i, frame in enumerate(frames):
            if given[i] is None and by not in frame.info:
                raise UserError(
                    f"{path}: frame {i} has no {by!r} to split by in its info line"
                    f"{nearest(by, [*frame.info, 'molecule', 'frame'])}"
                )
        groups = [str(frame.info.get(by)) for frame in frames]
    drawn = _split_of(sorted({g for g, split in zip(groups, given, strict=True) if split is None}), settings, path)
    return [split or drawn[group] for group, split in zip(groups, given, strict=True)]


def _split_of(groups: Sequence[str], settings: OwnDataSettings, path: str | Path) -> dict[str, str]:
    """A split for each group, drawn from its name: more data move nothing. None that is asked for stays empty."""
    if not groups:
        return {}
    shares, seed = settings.fractions, settings.seed
    draws = {g: int.from_bytes(hashlib.sha256(f"{seed}:{g}".encode()).digest()[:8], "big") / 2**64 for g in groups}
    test, val = shares.test, shares.val
    split = {g: "test" if u < test else "val" if u < test + val else "train" for g, u in draws.items()}
    wanted = [name for name, share in {"test": test, "val": val, "train": 1 - test - val}.items() if share > 1e-9]
    if len(groups) < len(wanted):
        raise UserError(
            f"{path}: {len(groups)} of what own_data.split_by = {settings.split_by!r} keeps together "
            f"({', '.join(groups[:3])}), too few for {', '.join(wanted)}; set own_data.split_by to 'frame' or to a key "
            "of the info line, or give the frames a split= of their own"
        )
    for name in wanted:
        if name not in split.values():
            others = [g for g in groups if list(split.values()).count(split[g]) > 1]
            split[min(others, key=lambda g: draws[g])] = name
    return split


#: All-electron energies of free atoms in Hartree (near exact; density functionals agree to a few per mille).
_ATOMS_HARTREE = {
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
#: What dE / (-F dx) is when energies or forces carry another unit.
_RATIOS = {
    "energies in Hartree, forces in eV/A": 1 / 27.2114,
    "energies in kcal/mol, forces in eV/A": 23.0605,
    "energies in kJ/mol, forces in eV/A": 96.4853,
    "energies in eV, forces in Hartree/A": 27.2114,
    "energies in eV, forces in Hartree/Bohr": 51.4221,
    "energies in Hartree, forces in Hartree/Bohr": 1.889726,
    "energies in eV, forces in kcal/mol/A": 1 / 23.0605,
    "energies in eV, forces with the sign of the gradient": -1.0,
}


def doubtful_units(dataset: Dataset) -> list[str]:
    """What makes the labels look as if they were not in eV and eV/A; empty when nothing does.

    Three signs: energies that match the sum of all-electron atoms in Hartree, kcal/mol or kJ/mol; changes of energy
    between similar frames that are not minus force times displacement; forces far beyond any thermal geometry's.
    """
    doubts = []
    ratio = _energy_force_ratio(dataset)
    if ratio is not None and not 0.8 < ratio < 1.25:
        alike = [f for f in _RATIOS if _RATIOS[f] * ratio > 0]
        closest = min(alike, key=lambda f: abs(np.log(_RATIOS[f] / ratio)))
        hint = f", as with {closest}" if abs(np.log(_RATIOS[closest] / ratio)) < 0.2 else ""
        doubts.append(f"energy changes are {ratio:.3g} times what the forces say{hint}")
    known = np.isin(dataset.numbers, list(_ATOMS_HARTREE))
    whole = np.logical_and.reduceat(known, dataset.offsets[:-1])
    expected = np.add.reduceat([_ATOMS_HARTREE.get(z, 0.0) for z in dataset.numbers.tolist()], dataset.offsets[:-1])
    ratios = dataset.energies[whole] / expected[whole]
    for unit, factor in (("Hartree", 1.0), ("kcal/mol", 627.509), ("kJ/mol", 2625.5)):
        # Within 3 %: bonding changes an all-electron energy by less, and valence-only energies in eV are far off.
        if len(ratios) and np.all(np.abs(ratios / factor - 1) < 0.03):
            doubts.append(f"energies look like all-electron energies in {unit}")
    rms = float(np.sqrt(np.mean(dataset.forces.astype(np.float64) ** 2)))
    if rms > 15.0:
        doubts.append(f"the forces' RMS is {rms:.3g}, far above thermal geometries (1 to 3 eV/A): kcal/mol/A?")
    return doubts


def _energy_force_ratio(dataset: Dataset) -> float | None:
    """Slope of dE against -F dx between successive similar frames; None when too few tell."""
    expected, found = [], []
    for i in range(len(dataset) - 1):
        a, b, c = dataset.offsets[i : i + 3]
        if b - a != c - b or (dataset.numbers[a:b] != dataset.numbers[b:c]).any():
            continue
        step = dataset.positions[b:c].astype(np.float64) - dataset.positions[a:b]
        if not 1e-4 < np.abs(step).max() < 0.3:
            continue
        expected.append(-(0.5 * (dataset.forces[a:b] + dataset.forces[b:c]) * step).sum())
        found.append(dataset.energies[i + 1] - dataset.energies[i])
        if len(found) == 2000:
            break
    if len(found) < 8 or not np.any(expected) or not np.any(found):
        return None
    expected, found = np.array(expected), np.array(found)
    if abs(np.dot(expected, found)) < 0.8 * np.linalg.norm(expected) * np.linalg.norm(found):
        return None
    return float(np.dot(expected, found) / np.dot(expected, expected))
