"""Many systems that one student moves side by side: Langevin dynamics, optimisations, torsion scans; frames worth a label."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.md.choice import REASONS, of_trajectory
from mlff_distiller.md.device import DeviceDynamics
from mlff_distiller.md.divergence import Watch
from mlff_distiller.md.explore_settings import ExploreSettings
from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.cpp import CppPotential
from mlff_distiller.potentials.graphed import GraphedPotential
from mlff_distiller.student.last_layer import last_layer
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.batch import Batch
from mlff_distiller.utils.compilers import no_compiler
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

#: Of an optimisation: steps, and steps between two looks.
DESCENT_STEPS, DESCENT_LOOK = 150, 10
#: A^2/eV by which a force moves an atom, the part of a step that the next one repeats, and the longest step, A. Stable up to
#: a stiffness of 600 eV/A^2, twice that of the stiffest bonds (N2: 280).
DESCENT_RATE, DESCENT_MEMORY, DESCENT_MOST = 0.006, 0.8, 0.08


@dataclass
class Walk:
    """One system on its way: the frames that were in order, and the rule that ended it, if one did."""

    start: "Atoms"
    temperature_k: float | None = None
    times: list[float] = field(default_factory=list)
    #: [N, 3] A each, not wrapped.
    frames: list[np.ndarray] = field(default_factory=list)
    #: eV/A, the largest expected error of a force component, and the atomic number of its atom.
    scores: list[float] = field(default_factory=list)
    elements: list[int] = field(default_factory=list)
    ended: str = ""
    watch: Watch = field(init=False)

    def __post_init__(self):
        self.watch = Watch(self.start)

    def candidates(self, settings: ExploreSettings, has_domain: bool) -> dict[str, np.ndarray]:
        """Frames that may be labeled as arrays: ``why``, ``score``, ``element``, ``time``, [c] each, ``positions`` [c * N, 3]."""
        scores = np.array(self.scores) if has_domain else None
        found = of_trajectory(np.array(self.times), scores, bool(self.ended), settings)
        rows = [frame for frame, _ in found]
        return {
            "why": np.array([REASONS.index(why) for _, why in found], dtype=int),
            "score": np.array(self.scores)[rows] if rows else np.zeros(0),
            "element": np.array(self.elements, dtype=int)[rows] if rows else np.zeros(0, int),
            "time": np.array(self.times)[rows] if rows else np.zeros(0),
            "positions": np.concatenate([np.zeros((0, 3)), *(self.frames[row] for row in rows)]),
        }


def fastest(student: StudentForceField) -> Potential:
    """The fastest potential for batches that needs no more than is here."""
    if student.device.type == "cuda":
        return GraphedPotential(student, analytic_edge_gradient(student))
    return AnalyticPotential(student) if no_compiler() else CppPotential(student)


class Explorer:
    """A student, and the ways in which it moves systems.

    Args:
        student: on its device, fp32; where it has a :class:`~mlff_distiller.student.domain.Domain`, frames have scores.
        settings: lengths and temperatures.
        seed: of velocities and noise.
    """

    def __init__(self, student: StudentForceField, settings: ExploreSettings, seed: int):
        self.student, self.settings, self.seed = student, settings, seed
        # ``plain`` takes over where the other refuses to answer.
        self.potential: Potential = fastest(student)
        self.plain: Potential = AnalyticPotential(student)

    def dynamics(self, walks: list[Walk]) -> None:
        """Langevin dynamics of each walk at its temperature, until it diverges or to the last step."""
        settings, step = self.settings, 0
        velocities: Tensor | None = None
        going, potential = walks, self.potential
        while going and step < settings.steps:
            moving = self._dynamics(potential, going, velocities, self.seed + step)
            begun, lost = step, False
            try:
                for frame in moving.run(settings.steps - begun, judged=False):
                    step = begun + frame.step
                    velocities = frame.velocities
                    # The frame at which those that are left go on was looked at.
                    if frame.step or not going[0].frames:
                        kept = self._look(
                            going, step * settings.timestep_fs, moving.batch, frame.positions, frame.kinetic
                        )
                        if lost := len(kept) < len(going):
                            break
            except UserError:
                # The kernel refuses all systems for one whose positions are no numbers; this goes on until that one is out.
                if potential is self.plain:
                    raise
                potential = self.plain
                continue
            if lost:
                # Those that diverged would go on for nothing.
                potential = self.potential
                stays = torch.isin(moving.batch, torch.tensor(kept, dtype=torch.int64, device=moving.batch.device))
                velocities, going = frame.velocities[stays], [going[k] for k in kept]

    def relaxations(self, walks: list[Walk], positions: list[np.ndarray]) -> None:
        """Descent of each walk from ``positions`` [N, 3] A, along the forces and part of the last step; its bonds are compared
        with those of its start."""
        going, now = walks, positions
        for step in range(0, DESCENT_STEPS + 1, DESCENT_LOOK):
            batch = self._batch(going, now)
            place = torch.tensor(np.concatenate(now), device=batch.positions.device)
            # A step apart by what no frames are taken for near copies of each other.
            kept = self._look(going, step / DESCENT_LOOK * self.settings.apart_fs, batch.batch, place, None)
            if not kept:
                return
            going, now = [going[k] for k in kept], [now[k] for k in kept]
            batch = self._batch(going, now)
            moved, last = (torch.zeros_like(batch.positions) for _ in range(2))
            for _ in range(DESCENT_LOOK):
                _, forces = self.potential(*batch._replace(positions=batch.positions + moved))
                last = DESCENT_MEMORY * last + DESCENT_RATE * forces
                last = last * torch.clamp(DESCENT_MOST / last.norm(dim=1, keepdim=True).clamp(min=1e-12), max=1.0)
                moved = moved + last
            shift = np.split(moved.double().cpu().numpy(), np.cumsum([len(place) for place in now])[:-1])
            now = [place + by for place, by in zip(now, shift, strict=True)]

    def settled(self, starts: "list[Atoms]") -> "list[Atoms]":
        """Each of ``starts`` near a minimum of the student's, or as it is where its descent breaks a rule.

        What a strained start gives off would count as too hot.
        """
        walks = [Walk(atoms) for atoms in starts]
        self.relaxations(walks, [atoms.positions for atoms in starts])
        found = [atoms.copy() for atoms in starts]
        for atoms, walk in zip(found, walks, strict=True):
            if not walk.ended:
                atoms.positions = walk.frames[-1]
        return found

    def scan(self, walk: Walk, frames: np.ndarray) -> None:
        """Look at ``frames`` [P, N, 3] A of a rigid scan; those that break a rule are left out, and end nothing."""
        points = [Walk(walk.start) for _ in frames]
        batch = self._batch(points, list(frames))
        place = torch.tensor(np.concatenate(list(frames)), device=batch.positions.device)
        for k in self._look(points, 0.0, batch.batch, place, None):
            walk.times.append(k * self.settings.apart_fs)
            walk.frames += points[k].frames
            walk.scores += points[k].scores
            walk.elements += points[k].elements

    def _dynamics(
        self, potential: Potential, going: list[Walk], velocities: Tensor | None, seed: int
    ) -> DeviceDynamics:
        settings = self.settings
        now = [walk.frames[-1] if walk.frames else walk.start.positions for walk in going]
        batch = self._batch(going, now)
        return DeviceDynamics(
            potential,
            batch.numbers,
            torch.tensor(np.concatenate(now), device=self.potential.device),
            batch.batch,
            torch.tensor(np.concatenate([walk.start.get_masses() for walk in going])),
            timestep_fs=settings.timestep_fs,
            temperature_k=[float(walk.temperature_k or 0.0) for walk in going],
            friction_per_fs=settings.friction_per_fs,
            seed=seed,
            steps_per_replay=settings.look_every,
            cell=batch.cell,
            pbc=batch.pbc,
            velocities=velocities,
        )

    def _batch(self, walks: list[Walk], positions: list[np.ndarray]) -> Batch:
        systems = []
        for walk, place in zip(walks, positions, strict=True):
            systems.append(walk.start.copy())
            systems[-1].positions = place
        return Batch.from_atoms(systems, self.potential.device, self.potential.dtype)

    def _look(
        self, walks: list[Walk], time: float, batch: Tensor, positions: Tensor, kinetic: Tensor | None
    ) -> list[int]:
        """Which of ``walks`` are in order at ``positions`` [N, 3] A; these remember the frame, the others why they ended."""
        counts = torch.bincount(batch, minlength=len(walks)).tolist()
        places = np.split(positions.cpu().numpy(), np.cumsum(counts)[:-1])
        energies = np.zeros(len(walks)) if kinetic is None else kinetic.cpu().numpy()
        kept = []
        for k, walk in enumerate(walks):
            walk.ended = walk.watch(places[k], float(energies[k]), walk.temperature_k) or ""
            if not walk.ended:
                kept.append(k)
        if kept:
            scores, elements = self._scores([walks[k] for k in kept], [places[k] for k in kept])
            for row, k in enumerate(kept):
                walks[k].times.append(time)
                walks[k].frames.append(places[k])
                walks[k].scores.append(scores[row])
                walks[k].elements.append(elements[row])
        return kept

    def _scores(self, walks: list[Walk], positions: list[np.ndarray]) -> tuple[list[float], list[int]]:
        """The largest expected error of each system's atoms, eV/A, and their elements; 0 without a domain."""
        domain = self.student.domain
        if domain is None:
            return [0.0] * len(walks), [0] * len(walks)
        batch = self._batch(walks, positions)
        expected = domain.force_errors(domain.distances(last_layer(self.student, *batch), batch.numbers)).numpy()
        scores, elements, start = [], [], 0
        for walk in walks:
            worst = int(np.argmax(expected[start : start + len(walk.start)]))
            scores.append(float(expected[start + worst]))
            elements.append(int(walk.start.numbers[worst]))
            start += len(walk.start)
        return scores, elements
