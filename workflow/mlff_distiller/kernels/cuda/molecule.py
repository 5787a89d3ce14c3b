"""The kernel of molecule.cu from Python: its weights, its buffers, its launch."""

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from mlff_distiller.kernels.cuda.build import padded
from mlff_distiller.kernels.cuda.indices import index_buffer, index_part
from mlff_distiller.kernels.structures import check_sizes
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.utils.errors import UserError

POINTERS = (
    "weights",
    "biases",
    "filters",
    "embedding",
    "first_phi",
    "radial",
    "wall",
    "references",
    "positions",
    "numbers",
    "first",
    "last",
    "starts",
    "messages",
    "gradients",
    "outside",
    "pulls",
    "atomic",
    "forces",
    "energies",
    "most",
    "counters",
)
NUMBERS = ("n_atoms", "n_systems", "atoms", "with_forces", "stash_shared")


class Arguments(ctypes.Structure):
    """The kernel's struct Arguments."""

    _fields_ = [(name, ctypes.c_void_p) for name in POINTERS] + [(name, ctypes.c_int) for name in NUMBERS]


class Library:
    """The compiled kernel.

    Args:
        path: from :func:`mlff_distiller.kernels.cuda.build.build`; a program, so load only what was built here.
    """

    def __init__(self, path: Path):
        self.path = path
        self.handle = handle = ctypes.CDLL(str(path))
        check_sizes(path, handle, {"molecule_sizeof_arguments": ctypes.sizeof(Arguments)})
        self._launch = handle.molecule_launch
        self._launch.argtypes = [ctypes.POINTER(Arguments), ctypes.c_int, ctypes.c_void_p]
        #: Of one block, for a number of atoms a group and 1 where the stash is in shared memory: bytes of shared memory, and
        #: floats outside of it.
        self.shared_bytes, self.outside_floats = handle.molecule_shared_bytes, handle.molecule_outside_floats
        self.counters = handle.molecule_counters
        self._error = handle.molecule_error
        self._error.restype = ctypes.c_char_p
        sizes = (ctypes.c_int * 5)()
        handle.molecule_sizes(sizes)
        #: Blocks of a group, layers of the network, room for atoms of a group and for neighbors, bytes of shared memory.
        self.ranks, self.layers, self.max_atoms, self.capacity, self.shared_limit = sizes
        #: Atoms that one group can take: as many as fit into shared memory, with the stash in global memory.
        self.atoms_each = max(
            (n for n in range(1, self.max_atoms + 1) if self.shared_bytes(n, 0) <= self.shared_limit), default=0
        )
        #: Groups that the device holds at once.
        self.groups = handle.molecule_max_groups(self.shared_limit)
        if self.groups < 0:
            raise UserError(f"{path}: {self._error(-self.groups).decode()}; was it built for another GPU?")

    def launch(self, arguments: Arguments, groups: int, stream: int) -> None:
        """Start the kernel.

        Raises:
            RuntimeError: CUDA refuses.
        """
        error = self._launch(ctypes.byref(arguments), groups, stream)
        if error:
            raise RuntimeError(f"molecule kernel: {self._error(error).decode()}")

    @property
    def most_atoms(self) -> int:
        """The largest number of atoms of one launch."""
        return self.groups * self.atoms_each


@dataclass(frozen=True)
class PackedWeights:
    """The student's weights, a slice for every block of a group (see molecule.cu)."""

    weights: Tensor
    biases: Tensor
    filters: Tensor
    embedding: Tensor
    first_phi: Tensor
    radial: Tensor
    wall: Tensor
    references: Tensor


def pack(student: StudentForceField, ranks: int) -> PackedWeights:
    """The weights of ``student``, copied, float32, on its device."""
    config, network = student.config, student.network
    features, width = config.n_features, config.n_features // ranks
    hidden, readout = padded(config.mlp_width), padded(config.readout_width)
    widest = max(hidden, readout)

    def columns(tensor: Tensor, length: int) -> Tensor:
        return pad(tensor, [0, length - tensor.shape[-1]])

    weights, biases, filters = [], [], []
    with torch.no_grad():
        for rank in range(ranks):
            own = torch.arange(rank * width, (rank + 1) * width, device=student.device)
            two = torch.cat([own, features + own])
            three = torch.cat([two, 2 * features + own])
            for index, update in enumerate(network.updates):
                last = index == config.n_blocks - 1
                head_in = network.readout_in if last else network.messages[index + 1].phi_in
                head_out = network.readout_out if last else network.messages[index + 1].phi_out
                head_width = readout if last else hidden
                weights += [
                    update.mix_uv.weight[two],
                    columns(update.mlp_in.weight.T[two], hidden),
                    columns(update.mlp_out.weight[three], hidden),
                    columns(head_in.weight.T[own], head_width),
                    columns(head_out.weight if last else head_out.weight[three], head_width),
                ]
                biases += [
                    columns(update.mlp_in.bias, hidden),
                    update.mlp_out.bias[three],
                    columns(head_in.bias, widest),
                    columns(head_out.bias if last else head_out.bias[three], 3 * width),
                ]
                rows = index * 3 * features + three
                filters += [network.filters.weight[rows].T, network.filters.bias[rows]]
        embedding = network.embedding.weight
        phi = network.messages[0]
        constants = [config.cutoff, network.basis.exponent, torch.pi / config.cutoff]
        constants = torch.tensor(constants, dtype=torch.float64, device="cpu")

        def flat(parts: list[Tensor]) -> Tensor:
            return torch.cat([part.reshape(-1) for part in parts]).to(torch.float32)

        return PackedWeights(
            weights=flat(weights),
            biases=flat(biases),
            filters=flat(filters),
            embedding=embedding.to(torch.float32).clone(),
            first_phi=phi.phi_out(silu(phi.phi_in(embedding))).to(torch.float32).contiguous(),
            radial=flat([constants.to(network.basis.centers), network.basis.centers]),
            wall=network.wall.to(torch.float32, copy=True),
            references=student.reference_energies.clone(),
        )


def results_bytes(n_atoms: int, n_systems: int) -> int:
    """Bytes of energies, float64, and forces, float32."""
    return 8 * n_systems + 12 * n_atoms


def results_buffer(n_atoms: int, n_systems: int, device: torch.device) -> Tensor:
    """Zeros for energies and forces side by side, see :func:`split_results`."""
    return torch.zeros([results_bytes(n_atoms, n_systems)], dtype=torch.uint8, device=device)


def split_results(buffer: Tensor, n_systems: int) -> tuple[Tensor, Tensor]:
    """Energies [B] float64 and forces [N, 3] float32 in a buffer of bytes."""
    return buffer[: 8 * n_systems].view(torch.float64), buffer[8 * n_systems :].view(torch.float32).view(-1, 3)


def in_one(*shapes: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """Zeros of these shapes, float32, in one piece of memory, each at a multiple of 128 bytes."""
    sizes = [-(-math.prod(shape) // 32) * 32 for shape in shapes]
    pieces = torch.zeros([sum(sizes)], dtype=torch.float32, device=device).split(sizes)
    return [piece[: math.prod(shape)].view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


class MoleculeProgram:
    """Buffers for ``n_atoms`` atoms in ``n_systems`` systems, and the launch on them.

    Fill ``positions`` and ``indices``, call :meth:`launch`, read ``energies`` and
    ``forces``. :meth:`most_neighbors` is above ``capacity`` when, since ``most`` was last set to 0, an atom had more
    neighbors than that: then the results are wrong. Of all programs of one device only one may run at a time.
    """

    def __init__(self, library: Library, packed: PackedWeights, n_atoms: int, n_systems: int):
        if not 0 < n_atoms <= library.most_atoms:
            raise UserError(f"the molecule kernel takes 1 to {library.most_atoms} atoms, not {n_atoms}")
        self.library, self.packed, self.room = library, packed, (n_atoms, n_systems)
        self.capacity = library.capacity
        device = packed.weights.device
        ranks, layers, width = library.ranks, library.layers, packed.embedding.shape[1] // library.ranks
        # The largest size for each number of atoms in a group: what smaller ones need is less.
        largest = (min(n_atoms, each * library.groups) for each in range(1, -(-n_atoms // library.groups) + 1))
        outside = max(
            groups * ranks * library.outside_floats(each, stash) for each, groups, stash in map(self._split, largest)
        )
        self.positions_room, *work = in_one(
            (n_atoms, 3),
            (ranks, layers - 1, n_atoms, 6, width),
            (ranks, layers, n_atoms, 4, width),
            (outside,),
            (n_atoms, n_atoms, 4),
            (n_atoms,),
            device=device,
        )
        self.work = dict(zip(("messages", "gradients", "outside", "pulls", "atomic"), work, strict=True))
        self.work["counters"] = torch.zeros([library.counters(library.groups)], dtype=torch.int64, device=device)
        self.outputs_room = results_buffer(n_atoms, n_systems, device)
        # Pinned, for direct transfers; allocated once, since that takes as long as a transfer.
        pinned = {"device": "cpu", "pin_memory": device.type == "cuda"}
        self.host_room = torch.empty(self.outputs_room.shape, dtype=torch.uint8, **pinned)
        self.index_room = index_buffer(n_atoms, n_systems, device)
        # Host memory to which the kernel writes, so that it is read without a transfer.
        self.most = torch.zeros([1], dtype=torch.int32, **pinned)[0]
        tensors = {name: getattr(packed, name) for name in packed.__dataclass_fields__} | self.work
        tensors |= {"positions": self.positions_room, "most": self.most}
        self.arguments = Arguments(**{name: tensor.data_ptr() for name, tensor in tensors.items()})
        self.groups = 0
        self.resize(n_atoms, n_systems)

    def _split(self, n_atoms: int) -> tuple[int, int, int]:
        """Atoms of a group, groups, and 1 where the stash is in shared memory."""
        atoms = -(-n_atoms // self.library.groups)
        stash_shared = int(self.library.shared_bytes(atoms, 1) <= self.library.shared_limit)
        return atoms, -(-n_atoms // atoms), stash_shared

    def fits(self, n_atoms: int, n_systems: int) -> bool:
        """Whether the buffers have room for so many."""
        return n_atoms <= self.room[0] and n_systems <= self.room[1]

    def resize(self, n_atoms: int, n_systems: int) -> None:
        """Use the same buffers for other numbers of atoms and systems, which must fit."""
        assert self.fits(n_atoms, n_systems)
        before = self.groups
        atoms, self.groups, stash_shared = self._split(n_atoms)
        if before not in (0, self.groups):
            # Blocks wait until what has arrived is a multiple of their number.
            self.work["counters"].zero_()
        self.n_atoms, self.n_systems = n_atoms, n_systems
        self.positions = self.positions_room[:n_atoms]
        self.outputs = self.outputs_room[: results_bytes(n_atoms, n_systems)]
        self.indices = index_part(self.index_room, n_atoms, n_systems)
        # Addresses instead of views, a dozen of which take as long as a launch.
        given, integers, results = self.arguments, self.index_room.data_ptr(), self.outputs_room.data_ptr()
        given.numbers, given.first = integers, integers + 4 * n_atoms
        given.last, given.starts = integers + 8 * n_atoms, integers + 12 * n_atoms
        given.energies, given.forces = results, results + 8 * n_systems
        given.n_atoms, given.n_systems, given.atoms = n_atoms, n_systems, atoms
        given.with_forces, given.stash_shared = 1, stash_shared

    @property
    def energies(self) -> Tensor:
        """[B] eV, float64."""
        return split_results(self.outputs, self.n_systems)[0]

    @property
    def forces(self) -> Tensor:
        """[N, 3] eV/A."""
        return split_results(self.outputs, self.n_systems)[1]

    def results(self) -> tuple[Tensor, Tensor]:
        """Energies [B] and forces [N, 3], by a single copy, since each one takes time."""
        return split_results(self.outputs.clone(), self.n_systems)

    def results_on_host(self) -> tuple[Tensor, Tensor]:
        """The same on the CPU; waits for the device."""
        return split_results(self.host_room[: len(self.outputs)].copy_(self.outputs).clone(), self.n_systems)

    def most_neighbors(self, waited: bool = False) -> int:
        """The largest number of neighbors where it exceeded ``capacity``; waits for the device unless ``waited``."""
        if self.positions.is_cuda and not waited:
            torch.cuda.current_stream(self.positions.device).synchronize()
        return int(self.most)

    def launch(self, forces: bool = True) -> None:
        """Energies and, unless told otherwise, forces; on the current stream."""
        self.arguments.with_forces = int(forces)
        self.library.launch(self.arguments, self.groups, self._stream())

    def _stream(self) -> int:
        return torch.cuda.current_stream(self.positions.device).cuda_stream if self.positions.is_cuda else 1
