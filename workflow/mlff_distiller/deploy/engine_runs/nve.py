"""What a run in an engine is asked for, and what it gives."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

#: Windows of a run: the clock is read, and the energy, at the end of each.
WINDOWS = 50
#: The shortest run.
FEWEST_STEPS = 10
#: Around a molecule, where an engine asks for a cell, A.
ROOM = 10.0


@dataclass(frozen=True)
class Plan:
    """Length of a run: ``windows`` of ``every`` steps of ``timestep_fs``."""

    windows: int
    every: int
    timestep_fs: float

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.windows * self.every


@dataclass
class Nve:
    """A run: at its start, and at the end of each window.

    Args:
        potential: energy at the start, eV.
        forces: at the start, [N, 3] eV/A.
        totals: total energies at the start and at the ends, eV, [windows + 1].
        seconds: that each window took, [windows].
    """

    potential: float
    forces: np.ndarray
    totals: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Runner(Protocol):
    """An engine with a bundle; each module here has a class of this name and form.

    Args:
        bundle: its folder.
        folder: empty, for files of the engine.
        threads: of what computes the forces.
    """

    #: Of the engine.
    version: str
    #: Where forces are computed: ``cpu`` or ``cuda``.
    device: str
    #: What computes them: ``bundle``, or another form of the same student: ``c`` (the C library), ``torchscript``.
    computed_by: str

    def __init__(self, bundle: Path, folder: Path, threads: int): ...

    def __call__(self, atoms: "Atoms", plan: Plan) -> Nve:
        """NVE from ``atoms`` with their momenta. A cell is as :func:`~.measure.in_reduced_form` makes it."""


def plan_of(steps: int, max_seconds: float, seconds_per_step: float, timestep_fs: float) -> Plan:
    """As many of ``steps`` as fit into ``max_seconds``, in :data:`WINDOWS` of equal length, or in fewer."""
    steps = max(FEWEST_STEPS, min(steps, int(max_seconds / max(seconds_per_step, 1e-9))))
    every = max(1, steps // WINDOWS)
    return Plan(steps // every, every, timestep_fs)


def with_room(atoms: "Atoms") -> "Atoms":
    """A copy with a cell of its own: where nothing repeats, the molecule in the middle of one with :data:`ROOM` around it."""
    copy = atoms.copy()
    if not copy.pbc.any():
        copy.center(vacuum=ROOM)
    return copy
