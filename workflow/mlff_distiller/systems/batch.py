"""Systems as the tensors that a :class:`~mlff_distiller.potentials.base.Potential` takes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms


class Batch(NamedTuple):
    """The arguments of a potential, in its order; ``potential(*batch)``.

    numbers [N] int64; positions [N, 3] A; batch [N] int64; cell [B, 3, 3] A or None; pbc [B, 3] bool or None.
    """

    numbers: Tensor
    positions: Tensor
    batch: Tensor
    cell: Tensor | None
    pbc: Tensor | None

    @classmethod
    def from_atoms(
        cls, systems: "Sequence[Atoms]", device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> "Batch":
        """One batch of ``systems``; cells appear when at least one system is periodic, or the last is empty.

        Molecules are moved so that their atoms average to the origin, in float64, before the cast: energies and
        forces do not change by it, and float32 keeps its digits for the distances.
        """
        systems = list(systems)
        periodic = [bool(a.pbc.any()) for a in systems]
        positions = [_positions(a, repeats) for a, repeats in zip(systems, periodic, strict=True) if len(a)]
        # NumPy up to the last step: on one small molecule every tensor operation would show beside the forces.
        batch = np.repeat(np.arange(len(systems), dtype=np.int64), [len(a) for a in systems])
        if not positions:
            raise UserError("no atoms: there is nothing to compute")
        # Without a cell the last atom would say how many systems there are.
        repeated = any(periodic) or len(systems[-1]) == 0
        return cls(
            numbers=torch.from_numpy(np.concatenate([a.numbers for a in systems], dtype=np.int64)).to(device),
            positions=torch.from_numpy(np.concatenate(positions)).to(device, dtype),
            batch=torch.from_numpy(batch).to(device),
            cell=torch.tensor(np.stack([a.cell.array for a in systems]), dtype=dtype, device=device)
            if repeated
            else None,
            pbc=torch.tensor(np.stack([a.pbc for a in systems]), device=device) if repeated else None,
        )

    def moved(self, atoms: "Atoms") -> "Batch":
        """This batch of one system with the positions that ``atoms`` have; all else is the same tensors as before."""
        positions = torch.from_numpy(_positions(atoms, self.cell is not None))
        # Cast first: what changes device and type in one step is sent as float64 and cast by a kernel more. The driver has
        # taken pageable memory over when the copy returns, so nobody need wait for it to arrive.
        positions = positions.to(self.positions.dtype).to(self.positions.device, non_blocking=True)
        return self._replace(positions=positions)


def _positions(atoms: "Atoms", periodic: bool) -> np.ndarray:
    # Not by mean(), which takes twice as long for a small molecule.
    positions: np.ndarray = atoms.positions
    return positions if periodic else positions - positions.sum(axis=0) / len(atoms)
