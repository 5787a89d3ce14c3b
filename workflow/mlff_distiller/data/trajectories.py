"""Frames of MD that a student ran, as configurations for the teacher to label.

The other splits test a student on sampled geometries; this one on those that its own MD visits.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlff_distiller.data.dataset import Dataset, from_lists
from mlff_distiller.systems.frames import read_every_frame
from mlff_distiller.utils.errors import UserError


def read_frames(paths: Sequence[str | Path], n_frames: int) -> Dataset:
    """Unlabeled configurations of the split ``visited``: up to ``n_frames`` of each trajectory, evenly over it.

    Args:
        paths: one trajectory each, in any format that ASE reads; an empty file (MD that got nowhere) gives none.
        n_frames: the last frame is always among them, the first one only where they are two or more.

    Returns:
        The frames, none where no MD started; a molecule is called by ``name`` in a frame's info line, else by the name
        of its file.

    Raises:
        UserError: a file that is missing, cut short or unreadable for ASE; fewer than one frame asked for.
    """
    if n_frames < 1:
        raise UserError(f"--frames {n_frames}: one or more")
    frames, names = [], []
    for path in map(Path, paths):
        if path.is_file() and path.stat().st_size == 0:
            continue
        found = read_every_frame(path)
        chosen = np.unique(np.linspace(len(found) - 1, 0, min(n_frames, len(found))).round().astype(int))
        frames += [found[i] for i in chosen]
        names += [str(found[i].info.get("name", path.stem)) for i in chosen]
    periodic = any(frame.pbc.any() for frame in frames)
    return from_lists(
        [frame.numbers for frame in frames],
        [frame.positions for frame in frames],
        names,
        ["visited"] * len(frames),
        ["md"] * len(frames),
        cells=np.array([frame.cell.array for frame in frames]) if periodic else None,
        pbc=np.array([frame.pbc for frame in frames]) if periodic else None,
    )
