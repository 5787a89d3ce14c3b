"""Energies and forces of a fixed number of atoms as one sequence of kernels on fixed buffers.

Nothing here synchronizes with the device, so the sequence can be captured in a CUDA graph.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_distiller.kernels.triton.messages import message_backward, message_forward
from mlff_distiller.kernels.triton.neighbors import fill_neighbor_matrix
from mlff_distiller.kernels.triton.nodes import node_backward, node_forward
from mlff_distiller.kernels.triton.totals import forces_and_energies
from mlff_distiller.kernels.triton.walls import meet_walls
from mlff_distiller.kernels.triton.weights import PackedStudent, power_of_two
from mlff_distiller.student.wall import REST

#: Values of ``input_precision`` of ``tl.dot``, and bf16 (rounded inputs).
PRECISIONS = ("tf32x3", "ieee", "tf32", "bf16")


@dataclass(frozen=True)
class Tiles:
    """Sizes of the tile of one program."""

    edges: int = 16
    edge_features: int = 32
    edge_warps: int = 4
    atoms: int = 16
    node_features: int = 16
    node_warps: int = 4
    node_stages: int = 2


def default_tiles(n_atoms: int, features: int) -> Tiles:
    """Small tiles for few atoms, to use many multiprocessors; larger tiles for many atoms, to read less.

    Measured on an H200 (NOTES.md).
    """
    edge_features = min(64, features)
    if n_atoms <= 512:
        return Tiles(edge_features=edge_features, node_features=32)
    return Tiles(edge_features=edge_features, atoms=32, node_features=32, node_warps=8)


class Program:
    """Buffers and launches for ``n_atoms`` atoms in ``n_systems`` systems with ``capacity`` neighbors per atom.

    Fill ``positions``, ``numbers``, ``starts``, ``first`` and ``last``, call :meth:`launch`, read ``energies``,
    ``forces`` and ``counts``. If an entry of ``counts`` exceeds ``capacity``, the results are wrong: the caller checks this
    unless no atom can have so many neighbors.
    """

    def __init__(
        self,
        student: PackedStudent,
        n_atoms: int,
        n_systems: int,
        capacity: int,
        precision: str,
        tiles: Tiles | None = None,
    ):
        self.student = student
        self.n_atoms, self.n_systems, self.capacity = n_atoms, n_systems, capacity
        self.tiles = tiles or default_tiles(n_atoms, student.features)
        device, dtype = student.embedding.device, student.embedding.dtype
        self.precision = "fp64" if dtype == torch.float64 else precision
        features, hidden, blocks = student.features, student.hidden, len(student.blocks)
        self.parts = features // self.tiles.edge_features

        def real(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        def index(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int32, device=device)

        self.positions = torch.zeros([n_atoms, 3], dtype=dtype, device=device)
        self.numbers, self.first, self.last = index(n_atoms), index(n_atoms), index(n_atoms)
        self.starts = index(n_systems + 1)
        self.neighbors, self.counts = index(n_atoms, capacity), index(n_atoms)
        self.geometry = real(n_atoms, capacity, 4)
        self.walls, self.repulsion = real(n_atoms, capacity, 3), real(n_atoms)
        self.pull = real(self.parts, n_atoms, capacity, 3)
        # Forward pass: scalars of the latest kernel, vectors of every block.
        self.s = real(n_atoms, features)
        self.v_message = real(n_atoms, 3, features)
        self.v = [real(n_atoms, 3, features) for _ in range(blocks - 1)]
        self.phi = [real(n_atoms, 3 * features) for _ in range(blocks - 1)]
        self.u_v = [real(n_atoms, 6, features) for _ in range(blocks)]
        self.mixing = [real(n_atoms, 2, features) for _ in range(blocks)]
        self.hidden = [real(n_atoms, hidden) for _ in range(blocks)]
        self.head_hidden = [real(n_atoms, hidden) for _ in range(blocks)]
        self.atomic = real(n_atoms)
        # Backward pass.
        self.gs = real(n_atoms, features)
        self.gv = [real(n_atoms, 3, features) for _ in range(2)]
        self.g_phi = real(n_atoms, 3 * features)
        self.forces = real(n_atoms, 3)
        self.energies = torch.zeros([n_systems], dtype=torch.float64, device=device)

    def launch(self, forces: bool = True) -> None:
        """Compute neighbors, energies and, by default, forces."""
        self.find_neighbors()
        self._meet_walls()
        blocks = len(self.student.blocks)
        for block in range(blocks):
            self._message_forward(block)
            self._node_forward(block)
        if forces:
            for block in reversed(range(blocks)):
                self._node_backward(block)
                self._message_backward(block)
        self._totals(forces)

    def find_neighbors(self) -> None:
        """Fill the neighbor matrix from the positions."""
        fill_neighbor_matrix[(self.n_atoms,)](
            self.positions,
            self.first,
            self.last,
            self.neighbors,
            self.geometry,
            self.student.radial,
            self.counts,
            self.capacity,
            BLOCK=128 if self.capacity > 32 else 32,
            num_warps=1,
        )

    def _meet_walls(self) -> None:
        meet_walls[(self.n_atoms,)](
            self.numbers,
            self.neighbors,
            self.geometry,
            self.counts,
            self.student.wall,
            self.walls,
            self.repulsion,
            self.capacity,
            self.student.embedding.shape[0],
            REST=REST,
            BE=32,
            num_warps=1,
        )

    def _edge_options(self) -> dict[str, object]:
        return {
            "F": self.student.features,
            "K": self.student.gaussians,
            "FB": self.tiles.edge_features,
            "BE": self.tiles.edges,
            "PRECISION": self.precision,
            "num_warps": self.tiles.edge_warps,
            "num_stages": 1,
        }

    def _node_options(self, block: int) -> dict[str, object]:
        return {
            "EPSILON": self.student.norm_epsilon,
            "F": self.student.features,
            "H": self.student.hidden,
            "BM": self.tiles.atoms,
            "FB": self.tiles.node_features,
            "LAST": block == len(self.student.blocks) - 1,
            "PRECISION": self.precision,
            "num_warps": self.tiles.node_warps,
            "num_stages": self.tiles.node_stages,
        }

    def _message_forward(self, block: int) -> None:
        weights = self.student.blocks[block]
        first = block == 0
        message_forward[(self.n_atoms, self.parts)](
            self.numbers,
            self.neighbors,
            self.geometry,
            self.walls,
            self.counts,
            self.student.first_phi if first else self.phi[block - 1],
            self.student.embedding if first else self.s,
            self.v_message if first else self.v[block - 1],
            self.s,
            self.v_message,
            weights.filter_weight,
            weights.filter_bias,
            self.student.radial,
            self.capacity,
            FIRST=first,
            **self._edge_options(),
        )

    def _node_forward(self, block: int) -> None:
        weights = self.student.blocks[block]
        last = block == len(self.student.blocks) - 1
        node_forward[((self.n_atoms + self.tiles.atoms - 1) // self.tiles.atoms,)](
            self.s,
            self.v_message,
            self.s,
            self.v_message if last else self.v[block],
            self.u_v[block],
            self.hidden[block],
            self.mixing[block],
            self.head_hidden[block],
            self.atomic if last else self.phi[block],
            weights.mix,
            weights.mlp_in,
            weights.mlp_in_bias,
            weights.mlp_out,
            weights.mlp_out_bias,
            weights.head_in,
            weights.head_in_bias,
            weights.head_weight,
            weights.head_bias,
            self.n_atoms,
            **self._node_options(block),
        )

    def _node_backward(self, block: int) -> None:
        weights = self.student.blocks[block]
        node_backward[((self.n_atoms + self.tiles.atoms - 1) // self.tiles.atoms,)](
            self.gs,
            self.gv[0],
            self.g_phi,
            self.gs,
            self.gv[1],
            self.u_v[block],
            self.hidden[block],
            self.mixing[block],
            self.head_hidden[block],
            weights.mix_back,
            weights.mlp_in_back,
            weights.mlp_out_back,
            weights.head_in_back,
            weights.head_back,
            self.n_atoms,
            **self._node_options(block),
        )

    def _message_backward(self, block: int) -> None:
        weights = self.student.blocks[block]
        first = block == 0
        message_backward[(self.n_atoms, self.parts)](
            self.numbers,
            self.neighbors,
            self.geometry,
            self.walls,
            self.counts,
            self.student.first_phi if first else self.phi[block - 1],
            self.v_message if first else self.v[block - 1],
            self.gs,
            self.gv[1],
            self.g_phi,
            self.gv[0],
            self.pull,
            weights.filter_weight,
            weights.filter_bias,
            self.student.radial,
            self.n_atoms,
            self.capacity,
            FIRST=first,
            ADD=block != len(self.student.blocks) - 1,
            **self._edge_options(),
        )

    def _totals(self, forces: bool) -> None:
        # Without forces, only the programs for the energies of systems run.
        forces_and_energies[((self.n_atoms if forces else 0) + self.n_systems,)](
            self.positions,
            self.neighbors,
            self.geometry,
            self.walls,
            self.counts,
            self.pull,
            self.atomic,
            self.repulsion,
            self.numbers,
            self.student.references,
            self.starts,
            self.forces,
            self.energies,
            self.n_atoms if forces else 0,
            self.capacity,
            WIDTH=power_of_two(self.capacity),
            PARTS=self.parts,
            BE=16,
            BN=128,
            num_warps=4,
        )
