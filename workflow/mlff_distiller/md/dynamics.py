"""ASE's dynamics, or the loop that stays on the device where a potential has one.

All have ``run(n_steps)``, after which ``atoms`` has the new positions, momenta and a calculator with energy and forces,
and ``nsteps``; what :func:`driver` gives also has ``loop``: where the steps are taken (``ase``, ``device``).
"""

import math
from typing import TYPE_CHECKING, Any

from mlff_distiller.potentials.base import HasProgram, Potential
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.md.langevin_settings import LangevinSettings

LOOPS = ("auto", "ase", "device")


def driver(
    atoms: "Atoms", potential: Potential, *, timestep_fs: float, steps_between_samples: int, loop: str = "auto"
) -> "AseVerlet | DeviceLoop":
    """NVE for ``atoms``, which it moves.

    Args:
        atoms: positions and momenta to start with.
        potential: forces.
        timestep_fs: one step.
        steps_between_samples: ``run`` is called with multiples of this; the device loop takes so many steps per replay.
        loop: ``auto`` takes the device loop where ``potential`` has one (:class:`HasProgram`).

    Raises:
        UserError: unknown loop, or ``device`` for a potential without one.
    """
    if loop not in LOOPS:
        raise UserError(f"md: loop cannot be {loop!r}; there are {', '.join(LOOPS)}")
    on_device = isinstance(potential, HasProgram)
    if loop == "device" and not on_device:
        raise UserError(f"md: {type(potential).__name__} has no loop on the device; use loop: auto or ase")
    if on_device and loop != "ase":
        return DeviceLoop(atoms, potential, steps_between_samples, timestep_fs=timestep_fs)
    return AseVerlet(atoms, potential, timestep_fs)


def thermostat(atoms: "Atoms", potential: Potential, settings: "LangevinSettings") -> Any:
    """Langevin dynamics for ``atoms``, which it moves, in the device loop where ``potential`` has one.

    Args:
        atoms: positions and momenta to start with.
        potential: forces.
        settings: as :func:`mlff_distiller.md.langevin.run_langevin` takes them.
    """
    if isinstance(potential, HasProgram):
        interval = steps_between_samples(settings.equilibration_steps, settings.sample_every)
        how = {name: getattr(settings, name) for name in ("timestep_fs", "temperature_k", "friction_per_fs", "seed")}
        return DeviceLoop(atoms, potential, interval, **how)
    from mlff_distiller.md.langevin import ase_langevin
    from mlff_distiller.potentials.ase import PotentialCalculator

    atoms.calc = PotentialCalculator(potential)
    return ase_langevin(atoms, settings)


class AseVerlet:
    """ASE's velocity Verlet with the potential as calculator."""

    loop = "ase"

    def __init__(self, atoms: "Atoms", potential: Potential, timestep_fs: float):
        from ase import units
        from ase.md.verlet import VelocityVerlet

        from mlff_distiller.potentials.ase import PotentialCalculator

        atoms.calc = PotentialCalculator(potential)
        self.dynamics = VelocityVerlet(atoms, timestep=timestep_fs * units.fs)

    @property
    def nsteps(self) -> int:
        """Steps taken so far."""
        return self.dynamics.nsteps

    def run(self, n_steps: int) -> None:
        """Go on for ``n_steps``."""
        self.dynamics.run(n_steps)


class DeviceLoop:
    """:class:`~mlff_distiller.md.device.DeviceDynamics`, its frames handed to ``atoms``; ``how``: its settings."""

    loop = "device"

    def __init__(self, atoms: "Atoms", potential: Potential, steps_between_samples: int, **how: Any):
        import torch
        from ase import units

        from mlff_distiller.md.device import DeviceDynamics
        from mlff_distiller.systems.batch import Batch
        from mlff_distiller.systems.boxes import box_of, near_origin

        self.atoms, self.nsteps = atoms, 0
        # By the cell in float64: that of the potential may be off by 1e-7 of a lattice vector, for each of them.
        moved = near_origin(atoms.positions, box_of(atoms))
        self.origin = atoms.positions - moved
        inputs = Batch.from_atoms([atoms], potential.device, potential.dtype)
        self.per_fs = units.fs
        self.dynamics = DeviceDynamics(
            potential,
            inputs.numbers,
            torch.tensor(moved, device=potential.device),
            inputs.batch,
            torch.tensor(atoms.get_masses()),
            steps_per_replay=steps_between_samples,
            cell=inputs.cell,
            pbc=inputs.pbc,
            velocities=torch.tensor(atoms.get_velocities() * units.fs),
            **how,
        )
        self._hand_over(self.dynamics.frame())

    def run(self, n_steps: int) -> None:
        """Go on for ``n_steps``, a multiple of ``steps_between_samples``."""
        for frame in self.dynamics.run(n_steps):
            last = frame
        self.nsteps = self.dynamics.step
        self._hand_over(last)

    def _hand_over(self, frame) -> None:
        from ase.calculators.singlepoint import SinglePointCalculator

        self.atoms.positions = frame.positions.cpu().numpy() + self.origin
        self.atoms.set_velocities(frame.velocities.cpu().numpy() / self.per_fs)
        energy, forces = float(frame.potential[0]), frame.forces.double().cpu().numpy()
        # The calculator holds a copy of the atoms, and gives its results only while they are the same.
        self.atoms.calc = SinglePointCalculator(self.atoms, energy=energy, forces=forces, free_energy=energy)


def steps_between_samples(*counts: int) -> int:
    """Greatest common divisor of the sampling intervals ``counts``, without those that are 0."""
    return math.gcd(*(count for count in counts if count))
