"""A user's own labels: energies, forces and stress of any trajectory that ASE reads, checked before anything is learned.

    student:
      dataset: mine.extxyz
      own_data: {energy_key: REF_energy, forces_key: REF_forces, split_by: frame}

The labels are total energies in eV, forces in eV/A and, where a frame has one, the stress in eV/A^3, as ASE has them; what
looks like other units is refused.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.data.dataset import SPLITS, Dataset, from_lists
from mlff_distiller.data.labels import check_moment, check_there_are_labels, labels_of, stress_of
from mlff_distiller.data.own_data_settings import OwnDataSettings
from mlff_distiller.data.stress import gathered
from mlff_distiller.data.units import check_units, doubtful_lengths, refuse_units
from mlff_distiller.systems.frames import read_every_frame
from mlff_distiller.systems.read import check_atoms, check_finite
from mlff_distiller.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from ase import Atoms

#: Where a frame says which molecule it shows; else its chemical formula does.
NAME_KEYS = ("smiles", "molecule", "name")


def read_extxyz(path: str | Path, settings: OwnDataSettings = OwnDataSettings()) -> Dataset:  # noqa: B008 (frozen)
    """A user's own labeled configurations.

    Args:
        path: any trajectory that ASE reads, with a total energy (eV) and forces (eV/A) in every frame; frames of cells may
            have a stress (eV/A^3) or virials (eV), see :func:`~mlff_distiller.data.labels.stress_of`.
        settings: keys and split. A frame's own ``split`` in its info line comes before all of them.

    Raises:
        UserError: unreadable or cut short; a frame without energy or forces, with values that are not finite or are
            placeholders, with atoms that make no sense, of an ion or open shell; suspicious units; or a split that
            cannot be made.
    """
    frames = read_every_frame(path)
    energies, forces, stresses = [], [], []
    for i, frame in enumerate(frames):
        where = f"{path}: frame {i}"
        check_finite(frame, where)
        energy, force = labels_of(where, frame, settings.energy_key, settings.forces_key)
        if "spin" not in settings.allow:
            check_moment(where, frame)
        energies.append(energy)
        forces.append(force)
        stresses.append(stress_of(where, frame, settings.stress_key, settings.virials_key))
    molecules = [next((str(f.info[k]) for k in NAME_KEYS if k in f.info), f.get_chemical_formula()) for f in frames]
    periodic = any(frame.pbc.any() for frame in frames)
    dataset = from_lists(
        [frame.numbers for frame in frames],
        [frame.positions for frame in frames],
        molecules,
        ["train"] * len(frames),
        ["given"] * len(frames),
        energies=np.array(energies),
        forces=np.concatenate(forces).astype(np.float32),
        cells=np.array([frame.cell.array for frame in frames]) if periodic else None,
        pbc=np.array([frame.pbc for frame in frames]) if periodic else None,
        stresses=gathered(stresses),
        teacher=f"labels of {Path(path).name}",
    )
    # Lengths in another unit first: in nm all atoms are on top of each other.
    if settings.check_units and (doubt := doubtful_lengths(dataset)):
        refuse_units(path, [doubt])
    for i, frame in enumerate(frames):
        check_atoms(frame, f"{path}: frame {i}", settings.allow)
    check_there_are_labels(path, frames, energies, forces, settings.check_units)
    if len(given := [stress for stress in stresses if stress is not None]) > 1 and not np.any(given):
        raise UserError(
            f"{path}: every stress is zero: placeholders? Write them in eV/A^3, or take them out of the file"
        )
    if settings.check_units and (doubts := check_units(dataset).doubts):
        refuse_units(path, doubts)
    splits = _splits(path, frames, molecules, settings)
    return replace(dataset, split=np.array([SPLITS.index(name) for name in splits], dtype=np.uint8))


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
