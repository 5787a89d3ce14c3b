"""A potential that refuses elements which its student never learned."""

from torch import Tensor

from mlff_distiller.potentials.base import Potential
from mlff_distiller.systems.limits import Limits
from mlff_distiller.utils.errors import UserError


class LimitedPotential(Potential):
    """``potential``, with a look at the atomic numbers of every batch; once, while the tensor stays the same.

    Args:
        potential: what computes.
        limits: of its student.

    Every method raises :class:`UserError` for an element beyond the limits, with the atom, and what it was trained on.
    """

    def __init__(self, potential: Potential, limits: Limits):
        self.potential, self.limits = potential, limits
        self.cutoff, self.device, self.dtype = potential.cutoff, potential.device, potential.dtype
        # Set at once, so that threads can share it.
        self._seen: tuple[Tensor, int] | None = None

    def __getstate__(self):
        return self.__dict__ | {"_seen": None}

    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV."""
        self._look(numbers, batch)
        return self.potential.energy(numbers, positions, batch, cell, pbc)

    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A."""
        self._look(numbers, batch)
        return self.potential(numbers, positions, batch, cell, pbc)

    def on_host(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A on the CPU."""
        self._look(numbers, batch)
        return self.potential.on_host(numbers, positions, batch, cell, pbc)

    def with_stress(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies [B] eV, forces [N, 3] eV/A and stresses [B, 3, 3] eV/A^3."""
        self._look(numbers, batch)
        return self.potential.with_stress(numbers, positions, batch, cell, pbc)

    def release(self) -> None:
        """Let go of what is kept for sizes met before."""
        self._seen = None
        self.potential.release()

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The potential's own neighbor search alone."""
        return self.potential.neighbors(positions, batch, cell, pbc)

    def _look(self, numbers: Tensor, batch: Tensor) -> None:
        # Tensors made in inference mode do not count what is written into them.
        version = None if numbers.is_inference() else numbers._version
        seen = self._seen
        if version is not None and seen is not None and seen[0] is numbers and seen[1] == version:
            return
        try:
            self.limits.check_numbers(numbers.cpu().numpy())
        except UserError as error:
            many = len(batch) > 0 and int(batch[-1]) > 0
            raise UserError(f"{error} (counted over the whole batch)" if many else str(error)) from None
        if version is not None:
            self._seen = numbers, version
