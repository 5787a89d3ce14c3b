"""Systems as the tensors that a :class:`~mlff_distiller.potentials.base.Potential` takes."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.systems.boxes import Box, box_of, near_origin
from mlff_distiller.systems.limits import Limits
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
        cls,
        systems: "Sequence[Atoms]",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        allow: Iterable[str] = (),
    ) -> "Batch":
        """One batch of ``systems``; cells appear when at least one system is periodic, or the last is empty.

        Atoms are moved into the cell along periodic axes, and so that they average to the origin along the others, in
        float64, before the cast: energies, forces and stress do not change by it, and float32 keeps its digits for the
        distances.

        Args:
            systems: positions in A.
            device, dtype: those of the potential.
            allow: ``charge`` or ``spin``: systems that say so are taken all the same, see
                :class:`~mlff_distiller.systems.limits.Limits`.

        Raises:
            UserError: no atoms at all, atomic numbers outside 1..100, a charge or unpaired electrons, positions or cells
                that are not finite, more than 1e4 A from the center, or a cell without volume. Names system and atom.
        """
        systems = list(systems)
        limits = Limits(allow=allow)
        boxes: list[Box | None] = []
        positions = []
        for index, atoms in enumerate(systems):
            try:
                limits.check_numbers(atoms.numbers)
                limits.check_charge_and_spin(atoms)
                boxes.append(box_of(atoms))
                if len(atoms):
                    positions.append(near_origin(atoms.positions, boxes[-1]))
            except UserError as error:
                if len(systems) == 1:
                    raise
                raise UserError(f"system {index} of the batch: {error}") from None
        # NumPy up to the last step: for a small molecule, tensor operations take long compared with the forces.
        batch = np.repeat(np.arange(len(systems), dtype=np.int64), [len(a) for a in systems])
        cell = pbc = None
        if not positions:
            raise UserError("no atoms: there is nothing to compute")
        # Without a cell the last atom would determine the number of systems.
        if any(boxes) or len(systems[-1]) == 0:
            nothing = np.zeros((3, 3))
            cell = torch.tensor(np.stack([box.cell if box else nothing for box in boxes]), dtype=dtype, device=device)
            pbc = torch.tensor(np.stack([a.pbc for a in systems]), device=device)
        return cls(
            numbers=torch.from_numpy(np.concatenate([a.numbers for a in systems], dtype=np.int64)).to(device),
            positions=torch.from_numpy(np.concatenate(positions)).to(device, dtype),
            batch=torch.from_numpy(batch).to(device),
            cell=cell,
            pbc=pbc,
        )
