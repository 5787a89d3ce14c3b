"""Many systems in one call, in float64 as engines hold them, with the calculator's refusals."""

from dataclasses import dataclass

import torch
from ase import Atoms
from torch import Tensor

from mlff_distiller.md.near_origin import NearOrigin
from mlff_distiller.potentials.base import Potential
from mlff_distiller.systems.boxes import MAX_EXTENT, Box, check_extent
from mlff_distiller.systems.distances import DistanceCheck, shortest_radii
from mlff_distiller.systems.stress import no_stress
from mlff_distiller.utils.errors import UserError

#: The origin follows a system once an atom of it is so much further from it than any was, A.
DRIFT = 5.0
#: Up to so many atoms each, all pairs of all molecules are compared at once, on the device.
ALL_PAIRS = 200
WITHOUT_STRESS = "the kernels of this bundle give no stress: take another bundle, or one of a variant of another family"


@dataclass(slots=True)
class _Known:
    """What the last call worked out from elements, cells and periodicity."""

    numbers: Tensor
    batch: Tensor
    given_cell: Tensor | None
    pbc: Tensor | None
    cell: Tensor | None
    distances: "_Distances"
    #: Why a system has no stress, in words; empty where all have one.
    no_stress: str
    near: NearOrigin | None = None
    #: How far from the origin each atom may be before its system is moved anew, [N] A.
    reach: Tensor | None = None


class ManySystems:
    """Energies, forces and stresses of systems whose positions are float64, in one call of a potential.

    Positions are moved near the origin before they are rounded to the potential's dtype, as the ASE calculator does. What the
    calculator refuses is refused, with the number of the system in the batch: elements that the student never learned, atoms
    too close to each other, positions, cells and energies that are not finite, stresses of molecules. Charges are for the
    caller to see.

    Args:
        potential: any; its ``limits`` say what is refused.
    """

    def __init__(self, potential: Potential):
        self.potential = potential
        self._known: _Known | None = None

    def __call__(
        self,
        numbers: Tensor,
        positions: Tensor,
        batch: Tensor,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        stress: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Energies [B] eV, forces [N, 3] eV/A and stresses [B, 3, 3] eV/A^3, or None where not asked for; all in float64.

        Args:
            numbers: [N] int64.
            positions: [N, 3] A, float64.
            batch: [N] int64, the system of each atom, ascending from 0.
            cell: [B, 3, 3] A, float64, lattice vectors in rows; None where nothing is periodic.
            pbc: [B, 3] bool, or None.
            stress: asked for.

        Raises:
            UserError: see the class; nothing is kept of a call that fails.
        """
        known = self._remembered(numbers, batch, cell, pbc)
        self._known = None
        if stress:
            if not self.potential.has_stress:
                raise UserError(WITHOUT_STRESS)
            if known.no_stress:
                raise UserError(known.no_stress)
        moved = self._moved(known, positions)
        if self.potential.limits.distances:
            known.distances(positions)
        arguments = known.numbers, moved, known.batch, known.cell, known.pbc
        stresses = None
        if stress:
            energies, forces, stresses = self.potential.with_stress(*arguments)
            stresses = stresses.to(torch.float64)
        else:
            energies, forces = self.potential(*arguments)
        finite = energies.isfinite()
        if not bool(finite.all()):
            system = int((~finite).nonzero()[0])
            raise UserError(
                f"{_of(system, len(energies))}the energy is {float(energies[system])} eV, not finite; has the simulation "
                "blown up?"
            )
        self._known = known
        return energies, forces.to(torch.float64), stresses

    def _remembered(self, numbers: Tensor, batch: Tensor, cell: Tensor | None, pbc: Tensor | None) -> _Known:
        if pbc is None or not bool(pbc.any()):
            cell = pbc = None
        known = self._known
        same = known is not None and _same(known.numbers, numbers) and _same(known.batch, batch)
        if same and _same(known.given_cell, cell) and _same(known.pbc, pbc):
            return known
        if not same:
            self.potential.limits.check_numbers(numbers.cpu().numpy())
            # Of one's own: the caller may write into its tensors.
            numbers, batch = numbers.clone(), batch.clone()
        else:
            # The same tensors, so that the potential need not look at them again.
            numbers, batch = known.numbers, known.batch
        if cell is None:
            return _Known(numbers, batch, None, None, None, _Distances(numbers, batch, None, None), no_stress(None))
        boxes = [_box(system, *of) for system, of in enumerate(zip(cell.cpu(), pbc.cpu(), strict=True))]
        # As potentials take them: zeros where nothing is periodic.
        full = torch.stack([torch.zeros_like(cell[0], device="cpu") if box is None else torch.from_numpy(box.cell)
                            for box in boxes]).to(self.potential.device)  # fmt: skip
        whys = map(no_stress, boxes)
        why = next((f"{_of(system, len(boxes))}{why}" for system, why in enumerate(whys) if why), "")
        distances = _Distances(numbers, batch, full, pbc)
        return _Known(numbers, batch, cell.clone(), pbc.clone(), full.to(self.potential.dtype), distances, why)

    def _moved(self, known: _Known, positions: Tensor) -> Tensor:
        """``positions`` near the origin, in the potential's dtype."""
        out = torch.empty_like(positions, dtype=self.potential.dtype)
        if known.near is not None and known.reach is not None:
            known.near.write(positions, out)
            if bool((out.abs().amax(dim=1) < known.reach).all()):
                return out
        known.near = NearOrigin(positions, known.batch, known.given_cell, known.pbc)
        known.near.write(positions, out)
        far = out.abs().amax(dim=1)
        n_systems = int(known.batch[-1]) + 1
        if not bool((far < MAX_EXTENT).all()):
            for system in range(n_systems):
                try:
                    check_extent(positions[known.batch == system].cpu().numpy())
                except UserError as error:
                    raise UserError(f"{_of(system, n_systems)}{error}") from None
        furthest = far.new_zeros([n_systems]).scatter_reduce(0, known.batch, far, "amax")
        known.reach = (furthest + DRIFT)[known.batch]
        return out


class _Distances:
    """Refuses atoms closer than any that the student learned, in any of the systems."""

    def __init__(self, numbers: Tensor, batch: Tensor, cell: Tensor | None, pbc: Tensor | None):
        self._sizes = torch.bincount(batch).tolist()
        self._systems = [Atoms(own.numpy()) for own in numbers.cpu().split(self._sizes)]
        if cell is not None and pbc is not None:
            for atoms, vectors, along in zip(self._systems, cell.cpu().numpy(), pbc.cpu().numpy(), strict=True):
                atoms.cell, atoms.pbc = vectors, along
        self._checks: list[DistanceCheck] | None = None
        largest = max(self._sizes)
        if cell is not None or largest > ALL_PAIRS:
            self._checks = [DistanceCheck(atoms) for atoms in self._systems]
            return
        starts = torch.tensor([0, *self._sizes[:-1]], device=batch.device).cumsum(0)
        self._slot = batch * largest + torch.arange(len(batch), device=batch.device) - starts[batch]
        self._shape = len(self._sizes), largest
        own = torch.from_numpy(shortest_radii(numbers.cpu().numpy())).to(batch.device)
        radii = self._padded(own[:, None], -torch.inf)
        limits = radii + radii.transpose(1, 2)
        limits.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        self._squares = limits.clamp(min=0.0) ** 2

    def __call__(self, positions: Tensor) -> None:
        """Check ``positions`` [N, 3] A, float64; raises a UserError that names the system and the worst pair."""
        if self._checks is None:
            padded = self._padded(positions, 0.0)
            squares = torch.zeros_like(self._squares)
            for axis in range(3):
                squares += (padded[:, :, None, axis] - padded[:, None, :, axis]) ** 2
            close = (squares < self._squares).flatten(1).any(dim=1)
            if not bool(close.any()):
                return
            suspects = close.nonzero().flatten().tolist()
        else:
            suspects = list(range(len(self._sizes)))
        parts = positions.cpu().split(self._sizes)
        for system in suspects:
            check = DistanceCheck(self._systems[system]) if self._checks is None else self._checks[system]
            try:
                check(parts[system].numpy())
            except UserError as error:
                raise UserError(f"{_of(system, len(self._sizes))}{error}") from None

    def _padded(self, values: Tensor, filler: float) -> Tensor:
        """``values`` [N, K] as [B, n, K], ``filler`` where a system has fewer than n atoms."""
        n_systems, largest = self._shape
        padded = values.new_full([n_systems * largest, values.shape[1]], filler)
        padded[self._slot] = values
        return padded.view(n_systems, largest, -1)


def _box(system: int, cell: Tensor, pbc: Tensor) -> Box | None:
    try:
        return Box(cell.numpy(), pbc.numpy()) if bool(pbc.any()) else None
    except UserError as error:
        raise UserError(f"system {system}: {error}") from None


def _same(known: Tensor | None, given: Tensor | None) -> bool:
    if known is None or given is None:
        return known is given
    return known is given or (known.shape == given.shape and torch.equal(known, given))


def _of(system: int, n_systems: int) -> str:
    return f"system {system} of the batch: " if n_systems > 1 else ""
