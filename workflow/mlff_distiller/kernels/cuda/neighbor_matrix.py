"""The kernels of neighbor_matrix.cu from Python: energies and forces of any number of atoms, as launches on fixed buffers.

The element-wise work, the messages and the neighbor search are the kernels'; the matrix products of a layer, which take
half of the arithmetic, are Triton's or cuBLAS's. Nothing here waits for the device, so a program can be captured in a CUDA graph.
"""

import ctypes
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu

from mlff_distiller.kernels.indices import index_buffer, index_parts, write_indices
from mlff_distiller.kernels.split import SplitMatrix
from mlff_distiller.kernels.structures import check_sizes
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.stress import OF_VOIGT

#: Features of one warp.
LANES = 32
#: How matrices are multiplied: three products of half-precision numbers by Triton, as exact as float32, or by cuBLAS.
PRODUCTS = ("fp16x3", "float32", "tf32")
#: Matrices with fewer rows than this are left to cuBLAS in any case.
NARROWEST = 16

Matrix = Tensor | SplitMatrix


def _structure(pointers: str, numbers: str) -> type[ctypes.Structure]:
    fields = [(name, ctypes.c_void_p) for name in pointers.split()] + [(name, ctypes.c_int) for name in numbers.split()]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


#: The structs of neighbor_matrix.cu, field by field.
Messages = _structure(
    "numbers neighbors coefficients geometry counts filters phi v_in s embedding v_out gs gv g_phi gv_out pull",
    "n_atoms capacity add",
)
Update = _structure("s v u_v input dot mixing gs gv g_input g_mixing g_u_v", "n_atoms last")
Radial = _structure("numbers neighbors geometry counts radial wall coefficients", "n_atoms capacity")
Totals = _structure(
    "positions numbers starts neighbors geometry counts pull atomic repulsion wall references forces energies",
    "n_atoms n_systems capacity",
)
Virials = _structure("starts geometry counts pull atomic virials", "n_atoms n_systems capacity")
Search = _structure(
    "positions numbers first last system box grid reach periodic offset place whole cell_start radial wall "
    "neighbors geometry counts repulsion",
    "n_atoms capacity",
)


def _fill(structure: type[ctypes.Structure], **values: Tensor | int | None) -> ctypes.Structure:
    return structure(
        **{name: value.data_ptr() if isinstance(value, Tensor) else value for name, value in values.items()}
    )


class Library:
    """The compiled kernels.

    Args:
        path: from :func:`mlff_distiller.kernels.cuda.build.build`; a program, so load only what was built here.
    """

    def __init__(self, path: Path):
        self.path, self.handle = path, ctypes.CDLL(str(path))
        structures = {"messages": Messages, "update": Update, "radial": Radial, "totals": Totals, "search": Search}
        structures |= {"virials": Virials}
        sizes = {f"neighbor_matrix_sizeof_{name}": ctypes.sizeof(structure) for name, structure in structures.items()}
        check_sizes(path, self.handle, sizes)
        self.handle.neighbor_matrix_error.restype = ctypes.c_char_p
        for name in ("forward", "backward", "update", "radial", "totals", "virials", "search"):
            getattr(self.handle, f"neighbor_matrix_{name}").argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        self.coefficients, self.depth = self.handle.neighbor_matrix_coefficients(), self.handle.neighbor_matrix_depth()

    def run(self, name: str, arguments: ctypes.Structure, choice: int, stream: int) -> None:
        """Launch one of ``forward``, ``backward``, ``update``, ``radial``, ``totals``, ``virials``, ``search``.

        Raises:
            RuntimeError: CUDA refuses.
        """
        error = getattr(self.handle, f"neighbor_matrix_{name}")(ctypes.byref(arguments), choice, stream)
        if error:
            raise RuntimeError(f"{name} kernel: {self.handle.neighbor_matrix_error(error).decode()}")


@dataclass(frozen=True)
class LayerWeights:
    """One layer; matrices as in torch.nn.Linear, [out, in]. The head is the next layer's phi, or the readout."""

    filters: Tensor  # see filter_fragments
    mix: Matrix  # [2 F, F]
    mlp_in: Matrix
    mlp_in_bias: Tensor
    mlp_out: Matrix
    mlp_out_bias: Tensor
    head_in: Matrix
    head_in_bias: Tensor
    head_out: Matrix
    head_out_bias: Tensor


@dataclass(frozen=True)
class PackedStudent:
    """The student's weights."""

    products: str  # how matrices are multiplied, of PRODUCTS
    embedding: Tensor  # [elements, F]
    first_phi: Tensor  # [elements, 3 F]: phi of the embedding
    radial: Tensor  # cutoff, exponent of the Gaussians, pi / cutoff, their centers
    wall: Tensor  # [elements * elements, 2], see student/wall.py
    references: Tensor  # [elements] eV, float64
    layers: tuple[LayerWeights, ...]


def filter_fragments(weight: Tensor, bias: Tensor, depth: int) -> Tensor:
    """The filters of a layer as the lanes of a warp hold them for the tensor cores: [F / 32, 3, 4, 3, 32, 2] int32.

    Every element is a pair of half-precision numbers from two rows of the [depth, 8] matrix of eight columns: (hi, hi)
    of rows 2t, 2t + 1 and 2t + 8, 2t + 9; (lo, lo) of the same; (hi, lo) of rows 2t + 16, 2t + 17. Lane 4 g + t is for
    column g, which in product n of a quarter is feature 16 (n / 2) + 4 (g / 2) + 2 (n % 2) + g % 2 of the quarter.

    Args:
        weight: [3 F, K].
        bias: [3 F], which becomes row K.
        depth: 24, the rows of the padded matrix.
    """
    n_features = weight.shape[0] // 3
    matrix = torch.zeros([3, n_features, depth], dtype=torch.float32, device=weight.device)
    matrix[:, :, : weight.shape[1]] = weight.reshape(3, n_features, -1)
    matrix[:, :, weight.shape[1]] = bias.reshape(3, n_features)
    hi = matrix.to(torch.float16)
    lo = (matrix - hi.to(torch.float32)).to(torch.float16)
    # [3, F, depth / 2] pairs of neighboring rows, then [3, quarters, n / 2, g / 2, n % 2, g % 2, block of 8 rows, t] and
    # [3, quarters, n, g, block of 8 rows, t].
    shape = [3, n_features // LANES, 2, 4, 2, 2, depth // 8, 4]

    def arrange(half: Tensor) -> Tensor:
        return half.contiguous().view(torch.int32).reshape(shape).transpose(3, 4).flatten(4, 5).flatten(2, 3)

    hi, lo = arrange(hi), arrange(lo)
    parts = [
        torch.stack([hi[..., 0, :], hi[..., 1, :]], dim=-1),
        torch.stack([lo[..., 0, :], lo[..., 1, :]], dim=-1),
        torch.stack([hi[..., 2, :], lo[..., 2, :]], dim=-1),
    ]
    # [3, quarters, narrow, part, g, t, 2] -> [quarters, 3, narrow, part, lane, 2]
    return torch.stack(parts, dim=3).transpose(0, 1).flatten(4, 5).contiguous()


def pack(student: StudentForceField, depth: int = 24, products: str = "fp16x3") -> PackedStudent:
    """The weights of ``student``, copied, on its device, as ``products`` take them; ``depth`` is the library's."""
    config, network = student.config, student.network
    features = config.n_features

    def copy(tensor: Tensor) -> Tensor:
        return tensor.detach().to(torch.float32, copy=True).contiguous()

    def matrix(tensor: Tensor) -> Matrix:
        return SplitMatrix.of(tensor) if products == "fp16x3" and tensor.shape[0] >= NARROWEST else copy(tensor)

    with torch.no_grad():
        layers = []
        for index, update in enumerate(network.updates):
            part = slice(index * 3 * features, (index + 1) * 3 * features)
            last = index == config.n_blocks - 1
            head_in = network.readout_in if last else network.messages[index + 1].phi_in
            head_out = network.readout_out if last else network.messages[index + 1].phi_out
            filters = filter_fragments(network.filters.weight[part], network.filters.bias[part], depth)
            linears = update.mlp_in, update.mlp_out, head_in, head_out
            dense = [part for linear in linears for part in (matrix(linear.weight), copy(linear.bias))]
            layers.append(LayerWeights(filters, matrix(update.mix_uv.weight), *dense))
        constants = [config.cutoff, network.basis.exponent, torch.pi / config.cutoff]
        constants = torch.tensor(constants, dtype=torch.float64, device="cpu")
        phi = network.messages[0]
        return PackedStudent(
            products=products,
            embedding=copy(network.embedding.weight),
            first_phi=copy(phi.phi_out(silu(phi.phi_in(network.embedding.weight)))),
            radial=copy(torch.cat([constants.to(network.basis.centers), network.basis.centers])),
            wall=copy(network.wall),
            references=student.reference_energies.clone(),
            layers=tuple(layers),
        )


@dataclass(frozen=True)
class CellGrid:
    """The cells of periodic systems: as many as fit along each axis, none thinner than the cutoff where there are two."""

    box: Tensor  # [B, 3, 3] A
    inverse: Tensor  # [B, 3, 3]
    origin: Tensor  # [B, 3] A, the corner of the box
    grid: Tensor  # [B, 3] int32
    reach: Tensor  # [B, 3] int32, cells to look at on either side
    periodic: Tensor  # [B, 3] int32
    offset: Tensor  # [B] int32
    cells: int

    @classmethod
    def of(
        cls,
        cell: Tensor,
        pbc: Tensor,
        cutoff: float,
        most_cells: int,
        device: torch.device | None = None,
        origin: Tensor | None = None,
    ) -> "CellGrid":
        """For lattice vectors ``cell`` [B, 3, 3] A that are all there and span a volume, and at most ``most_cells`` a system.

        On ``device``, or else where ``cell`` is.
        """
        device = cell.device if device is None else device
        most_cells = max(most_cells, 1)
        box = cell.detach().to("cpu", torch.float64)
        inverse = torch.linalg.inv(box)
        heights = 1.0 / torch.linalg.vector_norm(inverse, dim=1)
        # Slightly wider than the cutoff, because positions are rounded.
        grid = (heights / (cutoff * 1.0001)).floor().nan_to_num(1.0).clamp(1, most_cells)
        # Every pass shrinks all sizes above 1, so this ends.
        while bool((too_many := grid.prod(dim=1) > most_cells).any()):
            grid[too_many] = torch.clamp((grid[too_many] * 0.8).floor(), min=1)
        reach = torch.ceil(cutoff * 1.0001 / (heights / grid))
        periodic = pbc.detach().cpu()
        reach = torch.where((grid == 1) & ~periodic, torch.zeros_like(reach), reach)
        sizes = grid.prod(dim=1).to(torch.int64)
        offset = torch.cumsum(sizes, 0) - sizes

        def index(tensor: Tensor) -> Tensor:
            return tensor.to(device, torch.int32)

        return cls(
            box=box.to(device, torch.float32).contiguous(),
            inverse=inverse.to(device, torch.float32).contiguous(),
            origin=torch.zeros([len(box), 3], dtype=torch.float32, device=device) if origin is None else origin,
            grid=index(grid),
            reach=index(reach),
            periodic=index(periodic),
            offset=index(offset),
            cells=int(sizes.sum()),
        )


@contextmanager
def matmul_precision(tf32: bool):
    """Products of float32 matrices in TF32 or not, whatever the caller has set."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class NeighborMatrixProgram:
    """Buffers and launches for ``n_atoms`` atoms in ``n_systems`` systems, or fewer, with ``capacity`` neighbors an atom.

    :meth:`hold` the systems, fill ``positions`` [N, 3], call :meth:`launch`, read ``energies`` and ``forces``. Where an atom
    had more neighbors than ``capacity``, :meth:`most_neighbors` is larger than that, and the results are wrong: the caller
    checks, unless no atom can have so many.

    Args:
        cells: room for that many cells, see :meth:`set_grid`; with 0 all pairs of a system are searched.
    """

    def __init__(
        self,
        library: Library,
        packed: PackedStudent,
        n_atoms: int,
        n_systems: int,
        capacity: int,
        cells: int = 0,
    ):
        self.library, self.packed, self.cells = library, packed, cells
        self.n_atoms, self.n_systems, self.capacity = n_atoms, n_systems, capacity
        self.features = features = packed.embedding.shape[1]
        device = packed.embedding.device
        layers = packed.layers

        def real(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.float32, device=device)

        def index(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int32, device=device)

        self.positions = torch.zeros([n_atoms, 3], dtype=torch.float32, device=device)
        self.forces = real(n_atoms, 3)
        self.system = torch.zeros([n_atoms], dtype=torch.int64, device=device)
        self.indices = index_buffer(n_atoms, n_systems, device)
        self.numbers, self.first, self.last, self.starts = index_parts(self.indices, n_atoms, n_systems)
        self.energies = torch.zeros([n_systems], dtype=torch.float64, device=device)
        # The arrays that the kernels use; with cells, in the order of the cells.
        self.placed = torch.zeros_like(self.positions) if cells else self.positions
        self.placed_numbers = index(n_atoms) if cells else self.numbers
        self.placed_forces = real(n_atoms, 3) if cells else self.forces
        self.place = index(n_atoms, 3) if cells else None
        self.whole = torch.zeros_like(self.positions) if cells else None
        self.cell_start = index(cells + 1) if cells else None
        self.grid: dict[str, Tensor] = {}
        self.order = torch.zeros([n_atoms], dtype=torch.int64, device=device)
        self.neighbors, self.counts, self.repulsion = index(n_atoms, capacity), index(n_atoms), real(n_atoms)
        self.most = index(1)[0]  # the largest number of neighbors since it was last set to 0
        self.geometry = real(n_atoms, capacity, 4)
        self.coefficients = torch.empty([n_atoms, capacity, library.coefficients], dtype=torch.float16, device=device)
        self.pull = real(features // LANES, n_atoms, capacity, 4)
        # Forward.
        self.s = real(n_atoms, features)
        self.v = [real(n_atoms, 3, features) for _ in layers]
        self.u_v = [real(n_atoms, 3, 2 * features) for _ in layers]
        self.input = [real(n_atoms, 2 * features) for _ in layers]
        self.dot = [real(n_atoms, features) for _ in layers]
        self.hidden = [real(n_atoms, layer.mlp_in.shape[0]) for layer in layers]
        self.mixing = [real(n_atoms, 3 * features) for _ in layers]
        self.head_hidden = [real(n_atoms, layer.head_in.shape[0]) for layer in layers]
        self.head_out = [real(n_atoms, layer.head_out.shape[0]) for layer in layers]
        # Backward; the hidden layers' buffers serve the activations of the forward pass too.
        self.narrow = [real(n_atoms, layer.mlp_in.shape[0]) for layer in layers]
        self.head_narrow = [real(n_atoms, layer.head_in.shape[0]) for layer in layers]
        self.gs = real(n_atoms, features)
        self.gv = [real(n_atoms, 3, features) for _ in range(2)]
        self.g_wide, self.g_input = real(n_atoms, 3 * features), real(n_atoms, 2 * features)
        self.g_u_v = real(n_atoms, 3, 2 * features)
        self._prepare()
        self.room = self.positions, self.forces, self.system, self.energies

    def hold(self, numbers: np.ndarray, system: np.ndarray, sizes: Sequence[int]) -> None:
        """Use it for these systems: numbers and system of each atom [N], atoms of each system [B]. There may be fewer than
        there is room for, unless there are cells: the rest is ghosts and empty systems, whose results are not shown."""
        n_atoms, n_systems = len(numbers), len(sizes)
        positions, forces, of, energies = self.room
        self.positions, self.forces, self.system = positions[:n_atoms], forces[:n_atoms], of[:n_atoms]
        self.energies = energies[:n_systems]
        found = np.empty(self.indices.shape, dtype=np.int32)
        write_indices(found, numbers, system, sizes, room=self.n_atoms)
        self.indices.copy_(torch.from_numpy(found), non_blocking=True)
        self.system.copy_(torch.from_numpy(system), non_blocking=True)

    def _prepare(self) -> None:
        """The arguments of every kernel: the buffers never move."""
        packed, last = self.packed, len(self.packed.layers) - 1
        messages = {"numbers": self.placed_numbers, "neighbors": self.neighbors, "counts": self.counts}
        messages |= {"geometry": self.geometry}
        messages |= {"coefficients": self.coefficients, "s": self.s, "embedding": packed.embedding}
        messages |= {"gs": self.gs, "gv": self.gv[1], "g_phi": self.g_wide, "gv_out": self.gv[0], "pull": self.pull}
        messages |= {"n_atoms": self.n_atoms, "capacity": self.capacity}
        self.message_arguments = [
            _fill(
                Messages,
                filters=layer.filters,
                phi=self.head_out[i - 1] if i else packed.first_phi,
                v_in=self.v[i - 1] if i else None,
                v_out=self.v[i],
                add=int(i != last),
                **messages,
            )
            for i, layer in enumerate(packed.layers)
        ]
        # dE/dv' is in gv[0]; vector_gradient's product makes dE/dv in gv[1].
        update = {"s": self.s, "gs": self.gs, "gv": self.gv[0], "g_input": self.g_input, "g_mixing": self.g_wide}
        self.update_arguments = [
            _fill(
                Update,
                v=self.v[i],
                u_v=self.u_v[i],
                input=self.input[i],
                dot=self.dot[i],
                mixing=self.mixing[i],
                g_u_v=self.g_u_v,
                n_atoms=self.n_atoms,
                last=int(i == last),
                **update,
            )
            for i in range(last + 1)
        ]
        shared = {"numbers": self.placed_numbers, "neighbors": self.neighbors, "geometry": self.geometry}
        shared |= {"counts": self.counts, "wall": packed.wall, "n_atoms": self.n_atoms, "capacity": self.capacity}
        self.radial_arguments = _fill(Radial, radial=packed.radial, coefficients=self.coefficients, **shared)
        shared |= {"positions": self.placed, "repulsion": self.repulsion}
        self.totals_arguments = _fill(
            Totals,
            starts=self.starts,
            pull=self.pull,
            atomic=self.head_out[last],
            references=packed.references,
            forces=self.placed_forces,
            energies=self.energies,
            n_systems=self.n_systems,
            **shared,
        )
        cells = {}
        if self.cells:
            device = self.positions.device
            self.placed_system = torch.zeros([self.n_atoms], dtype=torch.int32, device=device)
            for name, shape in {"box": (3, 3), "inverse": (3, 3), "origin": (3,)}.items():
                self.grid[name] = torch.zeros([self.n_systems, *shape], dtype=torch.float32, device=device)
            for name, shape in {"grid": (3,), "reach": (3,), "periodic": (3,), "offset": ()}.items():
                self.grid[name] = torch.ones([self.n_systems, *shape], dtype=torch.int32, device=device)
            cells = {name: self.grid[name] for name in ("box", "grid", "reach", "periodic", "offset")}
            cells |= {
                "place": self.place,
                "whole": self.whole,
                "cell_start": self.cell_start,
                "system": self.placed_system,
            }
        self.search_arguments = _fill(Search, first=self.first, last=self.last, radial=packed.radial, **cells, **shared)

    def results(self) -> tuple[Tensor, Tensor]:
        """Energies [B] and forces [N, 3], copied."""
        return self.energies.clone(), self.forces.clone()

    def results_on_host(self) -> tuple[Tensor, Tensor]:
        """Energies [B] and forces [N, 3] on the CPU."""
        return self.energies.cpu(), self.forces.cpu()

    def virials(self) -> Tensor:
        """dE/dstrain [B, 3, 3] eV, float64, of the last launch with forces; on the current stream.

        The sum of r (x) dE/dr over the pairs (Thompson, Plimpton & Mattson, J. Chem. Phys. 131, 154107 (2009)), which the
        kernels have for the forces. It is symmetric, as the energy does not change by rotations.
        """
        device = self.positions.device
        found = torch.empty([self.n_systems, 6], dtype=torch.float64, device=device)
        atomic = torch.empty([self.n_atoms, 6], dtype=torch.float64, device=device)
        arguments = _fill(
            Virials,
            starts=self.starts,
            geometry=self.geometry,
            counts=self.counts,
            pull=self.pull,
            atomic=atomic,
            virials=found,
            n_atoms=self.n_atoms,
            n_systems=self.n_systems,
            capacity=self.capacity,
        )
        for step in range(2):
            self._run("virials", arguments, step)
        # Not indexed by the list, which would be sent to the device each time.
        parts = found.unbind(dim=1)
        return torch.stack([parts[part] for part in OF_VOIGT.flat], dim=1).view(-1, 3, 3)

    def set_grid(self, grid: CellGrid) -> None:
        """The cells to use from now on.

        Raises:
            ValueError: more cells than there is room for.
        """
        if grid.cells > self.cells:
            raise ValueError(f"{grid.cells} cells where there is room for {self.cells}")
        for name, buffer in self.grid.items():
            buffer.copy_(getattr(grid, name))

    def most_neighbors(self, waited: bool = False) -> int:
        """The largest number of neighbors since ``most`` was last set to 0; waits for the device in any case."""
        return int(self.most)

    def most_neighbors_outside(self, lost: Tensor) -> int:
        """The largest number of neighbors in the last launch, of systems other than those that are ``lost`` [B] bool."""
        system = self.placed_system if self.cells else self.system
        return int(self.counts[: len(system)].masked_fill(lost[system], 0).max())

    @torch.no_grad()
    def launch(self, forces: bool = True) -> None:
        """Neighbors, energies and, unless told otherwise, forces; on the current stream."""
        with matmul_precision(self.packed.products == "tf32"):
            self.find_neighbors()
            self._run("radial", self.radial_arguments, 0)
            for layer in range(len(self.packed.layers)):
                self._layer_forward(layer)
            if forces:
                for layer in reversed(range(len(self.packed.layers))):
                    self._layer_backward(layer)
                self._run("totals", self.totals_arguments, 0)
                self._run("totals", self.totals_arguments, 1)
            self._run("totals", self.totals_arguments, 2)
            if forces and self.cells:
                self.forces.index_copy_(0, self.order, self.placed_forces)

    def find_neighbors(self) -> None:
        """Fill the neighbor matrix from the positions."""
        if self.cells:
            self._sort_into_cells()
        self._run("search", self.search_arguments, int(self.cells > 0))
        torch.maximum(self.most, self.counts.amax(), out=self.most)

    def _sort_into_cells(self) -> None:
        """Sort the atoms by the cell that they are in when wrapped into the box, to have neighbors close in memory."""
        grid = self.grid
        counts = grid["grid"][self.system].to(torch.int64)
        offset = self.positions - grid["origin"][self.system]
        fractional = torch.einsum("nk,nkl->nl", offset, grid["inverse"][self.system])
        whole = torch.floor(fractional) * grid["periodic"][self.system]
        place = torch.floor((fractional - whole) * counts).nan_to_num(0.0).to(torch.int64)
        place = torch.minimum(place.clamp(min=0), counts - 1)
        key = (place[:, 0] * counts[:, 1] + place[:, 1]) * counts[:, 2] + place[:, 2] + grid["offset"][self.system]
        key, order = torch.sort(key, stable=True)
        self.order.copy_(order)
        self.placed.copy_(self.positions[order])
        self.whole.copy_(whole[order])
        self.placed_numbers.copy_(self.numbers[order])
        self.placed_system.copy_(self.system[order])
        self.place.copy_(place[order])
        bounds = torch.arange(self.cells + 1, dtype=torch.int64, device=key.device)
        self.cell_start.copy_(torch.searchsorted(key, bounds))

    def _run(self, name: str, arguments: ctypes.Structure, choice: int) -> None:
        stream = torch.cuda.current_stream(self.positions.device).cuda_stream if self.positions.is_cuda else 1
        self.library.run(name, arguments, choice, stream)

    def _linear(
        self,
        x: Tensor,
        weight: Matrix,
        out: Tensor,
        bias: Tensor | None = None,
        base: Tensor | None = None,
        active: Tensor | None = None,
        slope_of: Tensor | None = None,
    ) -> None:
        """See :func:`mlff_distiller.kernels.triton.linear.linear`."""
        if isinstance(weight, SplitMatrix):
            from mlff_distiller.kernels.triton.linear import linear

            linear(x, weight, out, bias=bias, base=base, active=active, slope_of=slope_of)
            return
        start = bias if base is None else base
        if start is None:
            torch.mm(x, weight, out=out)
        elif start is out:
            out.addmm_(x, weight)
        else:
            torch.addmm(start, x, weight, out=out)
        if slope_of is not None:
            torch.ops.aten.silu_backward.grad_input(out, slope_of, grad_input=out)
        if active is not None:
            torch.ops.aten.silu.out(out, out=active)

    def _layer_forward(self, i: int) -> None:
        layer, rows = self.packed.layers[i], 3 * self.n_atoms
        self._run("forward", self.message_arguments[i], int(i == 0))
        self._linear(self.v[i].view(rows, -1), layer.mix.T, self.u_v[i].view(rows, -1))
        self._run("update", self.update_arguments[i], 0)
        self._linear(self.input[i], layer.mlp_in.T, self.hidden[i], bias=layer.mlp_in_bias, active=self.narrow[i])
        self._linear(self.narrow[i], layer.mlp_out.T, self.mixing[i], bias=layer.mlp_out_bias)
        self._run("update", self.update_arguments[i], 1)
        head, narrow = self.head_hidden[i], self.head_narrow[i]
        self._linear(self.s, layer.head_in.T, head, bias=layer.head_in_bias, active=narrow)
        self._linear(narrow, layer.head_out.T, self.head_out[i], bias=layer.head_out_bias)

    def _layer_backward(self, i: int) -> None:
        layer, rows = self.packed.layers[i], 3 * self.n_atoms
        last = i == len(self.packed.layers) - 1
        narrow, head_narrow = self.narrow[i], self.head_narrow[i]
        if last:
            slope = torch.ops.aten.silu_backward.grad_input
            slope(layer.head_out.expand(self.n_atoms, -1), self.head_hidden[i], grad_input=head_narrow)
        else:
            self._linear(self.g_wide, layer.head_out, head_narrow, slope_of=self.head_hidden[i])
        self._linear(head_narrow, layer.head_in, self.gs, base=None if last else self.gs)
        self._run("update", self.update_arguments[i], 2)
        self._linear(self.g_wide, layer.mlp_out, narrow, slope_of=self.hidden[i])
        self._linear(narrow, layer.mlp_in, self.g_input)
        self._run("update", self.update_arguments[i], 3)
        base = None if last else self.gv[0].view(rows, -1)
        self._linear(self.g_u_v.view(rows, -1), layer.mix, self.gv[1].view(rows, -1), base=base)
        self._run("backward", self.message_arguments[i], int(i == 0))
