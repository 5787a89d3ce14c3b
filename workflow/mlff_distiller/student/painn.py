"""PaiNN (Schuett, Unke, Gastegger, ICML 2021) as the student force field.

Scalar features s [N, F] and vector features v [N, 3, F]. With r_ij = r_j - r_i for receiver i and sender j:

    message  (ds, a, b)_ij = phi(s_j) * W(|r_ij|)        W linear in the radial basis, times the cutoff
             s_i += sum_j ds_ij      v_i += sum_j a_ij r_ij/|r_ij| + b_ij v_j
    update   (a_vv, a_sv, a_ss)_i = mlp(s_i, |V v_i|)    U, V linear over features, never over x, y, z
             s_i += a_ss + a_sv <U v_i, V v_i>           v_i += a_vv U v_i
    readout  E = sum_i mlp(s_i) + reference energy of element i

Pairs that are closer than any in the training meet a wall (:mod:`mlff_distiller.student.wall`).

Beyond it, and with ``mlp_width == n_features``, this is SchNetPack's PaiNN, weight for weight.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from mlff_distiller.neighbors.search import choose_neighbor_search, edge_vectors
from mlff_distiller.student import wall
from mlff_distiller.student.config import StudentConfig
from mlff_distiller.student.domain import Domain
from mlff_distiller.student.radial import GaussianBasis, cosine_cutoff
from mlff_distiller.systems.limits import Limits
from mlff_distiller.utils.errors import UserError


def parts(x: Tensor, n: int) -> list[Tensor]:
    """[..., n F] as n tensors [..., F].

    Not ``torch.chunk``: if no result depends on one of its chunks (the vectors of the last block), its gradient in
    TorchScript has wrong shapes.
    """
    return x.unflatten(-1, [n, -1]).unbind(-2)


class Message(nn.Module):
    """phi of the message block; :class:`PaiNN` computes the filters W of all blocks in one product."""

    def __init__(self, n_features: int, mlp_width: int):
        super().__init__()
        self.phi_in = nn.Linear(n_features, mlp_width)
        self.phi_out = nn.Linear(mlp_width, 3 * n_features)

    def forward(
        self, s: Tensor, v: Tensor, filters: Tensor, directions: Tensor, receivers: Tensor, senders: Tensor
    ) -> tuple[Tensor, Tensor]:
        """s [N, F], v [N, 3, F], filters [E, 3 F], directions [E, 3], receivers [E], senders [E] -> new s, v."""
        # Not s[senders]: its backward pass adds the rows one by one.
        weights = self.phi_out(silu(self.phi_in(s))).index_select(0, senders) * filters
        ds, along, carry = parts(weights, 3)
        dv = along[:, None, :] * directions[:, :, None] + carry[:, None, :] * v.index_select(0, senders)
        # Under autocast the messages can have a lower precision than the features.
        return s.index_add(0, receivers, ds.to(s.dtype)), v.index_add(0, receivers, dv.to(v.dtype))


class Update(nn.Module):
    """Mixes scalars and vectors of one atom."""

    def __init__(self, n_features: int, mlp_width: int, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.mix_uv = nn.Linear(n_features, 2 * n_features, bias=False)
        self.mlp_in = nn.Linear(2 * n_features, mlp_width)
        self.mlp_out = nn.Linear(mlp_width, 3 * n_features)

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """s [N, F], v [N, 3, F] -> new s, v."""
        v_v, u_v = parts(self.mix_uv(v), 2)
        norm = torch.sqrt((v_v * v_v).sum(dim=1) + self.epsilon)
        a_ss, a_vv, a_sv = parts(self.mlp_out(silu(self.mlp_in(torch.cat([s, norm], dim=-1)))), 3)
        return s + a_ss + a_sv * (u_v * v_v).sum(dim=1), v + a_vv[:, None, :] * u_v


class PaiNN(nn.Module):
    """Energies of atoms from a neighbor graph, without the reference energies."""

    def __init__(self, config: StudentConfig):
        super().__init__()
        features = config.n_features
        self.cutoff = float(config.cutoff)
        self.n_features = features
        self.embedding = nn.Embedding(config.max_atomic_number + 1, features)
        self.basis = GaussianBasis(config.n_radial, self.cutoff)
        # One product for the filters of all blocks: they depend only on the distance.
        self.filters = nn.Linear(config.n_radial, config.n_blocks * 3 * features)
        self.messages = nn.ModuleList([Message(features, config.mlp_width) for _ in range(config.n_blocks)])
        self.updates = nn.ModuleList(
            [Update(features, config.mlp_width, config.norm_epsilon) for _ in range(config.n_blocks)]
        )
        self.readout_in = nn.Linear(features, config.readout_width)
        self.readout_out = nn.Linear(config.readout_width, 1)
        self.n_elements = config.max_atomic_number + 1
        # R and S of every pair of elements, see pair_table.
        self.register_buffer("wall", wall.no_wall(config.max_atomic_number))

    def forward(
        self, numbers: Tensor, vectors: Tensor, receivers: Tensor, senders: Tensor, may_wait: bool = False
    ) -> Tensor:
        """Atomic energies.

        Args:
            numbers: [N] int64, atomic numbers.
            vectors: [E, 3], A, r_j - r_i (with its periodic image) of each edge.
            receivers: [E] int64, i.
            senders: [E] int64, j.
            may_wait: ask the device whether a pair is within its wall, and leave the walls out, which changes nothing, where
                none is; not while operations are recorded.

        Returns:
            [N] eV, in the dtype of the parameters.
        """
        distances = torch.linalg.vector_norm(vectors, dim=-1)
        ends, strengths = wall.of_pairs(self.wall, numbers, receivers, senders, self.n_elements)
        if may_wait and not bool((distances < ends).any()):
            hidden = self._hidden(numbers, vectors, distances, distances, receivers, senders)
            return self.readout_out(hidden).squeeze(-1).to(distances.dtype)
        seen = wall.seen_distances(distances, ends)
        hidden = self._hidden(numbers, vectors, distances, seen, receivers, senders)
        repulsion = wall.repulsion(distances, ends, strengths)
        # Under autocast the readout can have a lower precision than the distances.
        atomic = self.readout_out(hidden).squeeze(-1).to(repulsion.dtype)
        # Each pair is two edges, and gives half to each of its atoms.
        return atomic.index_add(0, receivers, 0.5 * repulsion)

    def hidden(self, numbers: Tensor, vectors: Tensor, receivers: Tensor, senders: Tensor) -> Tensor:
        """The values of each atom [N, R] that the last layer sums; arguments as of :meth:`forward`."""
        distances = torch.linalg.vector_norm(vectors, dim=-1)
        ends, _ = wall.of_pairs(self.wall, numbers, receivers, senders, self.n_elements)
        seen = wall.seen_distances(distances, ends)
        return self._hidden(numbers, vectors, distances, seen, receivers, senders)

    def _hidden(
        self, numbers: Tensor, vectors: Tensor, distances: Tensor, seen: Tensor, receivers: Tensor, senders: Tensor
    ) -> Tensor:
        directions = vectors / distances[:, None]
        envelope = cosine_cutoff(seen, self.cutoff)
        filters = parts(self.filters(self.basis(seen)) * envelope[:, None], len(self.messages))
        s = self.embedding(numbers)
        v = s.new_zeros([s.shape[0], 3, self.n_features])
        for index, (message, update) in enumerate(zip(self.messages, self.updates)):  # noqa: B905 (TorchScript)
            s, v = message(s, v, filters[index], directions, receivers, senders)
            s, v = update(s, v)
        return silu(self.readout_in(s))


class StudentForceField(nn.Module):
    """Energies of molecules and periodic systems, neighbor search included; forces are the negative gradient.

    Args:
        config: the sizes of the network.
        reference_energies: [max_atomic_number + 1] eV, float64, added per atom; zeros by default.
        neighbors: ``auto``, ``native``, ``torch_cluster`` or ``vesin`` (see :mod:`mlff_distiller.neighbors.search`).
        use_torch_cluster: older form of ``neighbors``: True is ``torch_cluster`` (``native`` if that is not installed),
            False is ``native``, None leaves ``neighbors`` as it is.

    Attributes:
        limits: what it may be asked about; the elements that it learned, where its checkpoint's card says so.
        domain: what it was trained on and the errors to expect, where its checkpoint says so; else None.
    """

    # TorchScript must not compile these properties.
    __jit_unused_properties__ = ["device", "dtype"]  # noqa: RUF012

    def __init__(
        self,
        config: StudentConfig | None = None,
        reference_energies: Tensor | None = None,
        neighbors: str = "native",
        use_torch_cluster: bool | None = None,
    ):
        super().__init__()
        self.config = config or StudentConfig()
        if not isinstance(use_torch_cluster, bool | None):
            # Any text is true, "false" too.
            raise UserError(f"use_torch_cluster: expected True, False or None, got {use_torch_cluster!r}")
        if use_torch_cluster is not None:
            neighbors = "torch_cluster" if use_torch_cluster else "native"
        self.network = PaiNN(self.config)
        self.neighbor_search = choose_neighbor_search(neighbors)
        self.cutoff = float(self.config.cutoff)
        self.limits = Limits(most=self.config.max_atomic_number)
        self.domain: Domain | None = None
        if reference_energies is None:
            reference_energies = torch.zeros(self.config.max_atomic_number + 1, dtype=torch.float64)
        self.register_buffer("reference_energies", reference_energies.to(torch.float64))

    def _apply(self, fn, recurse=True):
        # Reference energies are thousands of eV: they stay in fp64 when the network is cast to another dtype.
        exact = self.reference_energies
        super()._apply(fn, recurse)
        self.reference_energies = exact.to(self.reference_energies.device)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters, positions and forces."""
        return self.network.readout_out.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.network.readout_out.weight.device

    def forward(
        self,
        numbers: Tensor,
        positions: Tensor,
        batch: Tensor,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        n_systems: int | None = None,
    ) -> Tensor:
        """Energies.

        Args:
            numbers: [N] int64, atomic numbers.
            positions: [N, 3] A.
            batch: [N] int64, the system of each atom, ascending.
            cell: [B, 3, 3] A, lattice vectors in rows, or None.
            pbc: [B, 3] bool, or None for no periodicity.
            n_systems: B; by default read from ``cell`` or from the last atom's ``batch``.

        Returns:
            [B] eV, float64.
        """
        receivers, senders, shifts = self.neighbor_search(positions, self.cutoff, batch, cell, pbc)
        return self.energy_of_graph(numbers, positions, batch, cell, receivers, senders, shifts, n_systems, True)

    @torch.jit.export
    def energy_of_graph(
        self,
        numbers: Tensor,
        positions: Tensor,
        batch: Tensor,
        cell: Tensor | None,
        receivers: Tensor,
        senders: Tensor,
        shifts: Tensor | None,
        n_systems: int | None = None,
        may_wait: bool = False,
    ) -> Tensor:
        """Energies [B] eV, float64, on a neighbor graph that is given (see :meth:`forward` and :meth:`PaiNN.forward`)."""
        if n_systems is None:
            if cell is not None:
                n_systems = cell.shape[0]
            else:
                n_systems = int(batch[-1].item()) + 1 if batch.shape[0] > 0 else 0
        vectors = edge_vectors(positions, receivers, senders, batch, cell, shifts)
        atomic = self.network(numbers, vectors, receivers, senders, may_wait)
        # Sum and references are in fp64: a float32 total of thousands of eV cannot resolve meV.
        atomic = atomic.to(torch.float64) + self.reference_energies[numbers]
        return torch.zeros([n_systems], dtype=torch.float64, device=positions.device).index_add(0, batch, atomic)
