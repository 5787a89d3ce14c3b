"""The kernel of molecule.cu from Python: its weights, its buffers, its launch."""

import ctypes
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from mlff_distiller.kernels.cuda.build import padded
from mlff_distiller.kernels.indices import index_buffer, write_indices
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


class Reading(ctypes.Structure):
    """The kernel's struct Reading."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("numbers", "batch", "host", "known", "host_indices", "indices")),
        *((name, ctypes.c_int) for name in ("n_atoms", "room")),
    ]


class Library:
    """The compiled kernel.

    Args:
        path: from :func:`mlff_distiller.kernels.cuda.build.build`; a program, so load only what was built here.
    """

    def __init__(self, path: Path):
        self.path = path
        self.handle = handle = ctypes.CDLL(str(path))
        sizes = {"molecule_sizeof_arguments": Arguments, "molecule_sizeof_reading": Reading}
        check_sizes(path, handle, {name: ctypes.sizeof(structure) for name, structure in sizes.items()})
        self._launch = handle.molecule_launch
        self._launch.argtypes = [ctypes.POINTER(Arguments), ctypes.c_int, ctypes.c_void_p]
        self._prepare, self._start, self._forget = (
            handle.molecule_prepare,
            handle.molecule_start,
            handle.molecule_forget,
        )
        self._prepare.argtypes = [
            ctypes.POINTER(Arguments), ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
        ]  # fmt: skip
        self._start.argtypes = [ctypes.c_void_p, *self._launch.argtypes]
        self._forget.argtypes = [ctypes.c_void_p]
        self.read = handle.molecule_read
        self.read.argtypes = [ctypes.POINTER(Reading), ctypes.c_void_p]
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
        self._check(self._launch(ctypes.byref(arguments), groups, stream))

    def prepared(self, arguments: Arguments, groups: int, sent: Tensor | None = None) -> Callable[[int, int], None]:
        """A function that starts the kernel as :meth:`launch` does, in less of the host's time: with what ``arguments`` say
        then, for a number of groups and a stream. Not while a stream is being captured.

        ``sent`` [N, 3] in pinned memory of the host: each time it is brought to the positions of ``arguments`` before."""
        ready = ctypes.c_void_p()
        address = None if sent is None else sent.data_ptr()
        self._check(self._prepare(ctypes.byref(arguments), groups, address, ctypes.byref(ready)))
        start, given, check = self._start, ctypes.byref(arguments), self._check

        def run(groups: int, stream: int) -> None:
            error = start(ready, given, groups, stream)
            if error:
                check(error)

        weakref.finalize(run, self._forget, ready).atexit = False
        return run

    def _check(self, error: int) -> None:
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


def in_one(*shapes: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """Zeros of these shapes, float32, in one piece of memory, each at a multiple of 128 bytes."""
    sizes = [-(-math.prod(shape) // 32) * 32 for shape in shapes]
    pieces = torch.zeros([sum(sizes)], dtype=torch.float32, device=device).split(sizes)
    return [piece[: math.prod(shape)].view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


class Workspace:
    """What launches for up to ``n_atoms`` atoms in ``n_systems`` systems need beside positions and results.

    :meth:`hold` the systems, then :meth:`launch`. Of all launches on one workspace only one may run at a time.
    """

    def __init__(self, library: Library, packed: PackedWeights, n_atoms: int, n_systems: int):
        if not 0 < n_atoms <= library.most_atoms:
            raise UserError(f"the molecule kernel takes 1 to {library.most_atoms} atoms, not {n_atoms}")
        self.library, self.packed, self.room = library, packed, (n_atoms, n_systems)
        self.device = device = packed.weights.device
        ranks, layers, width = library.ranks, library.layers, packed.embedding.shape[1] // library.ranks
        # The largest size for each number of atoms in a group: what smaller ones need is less.
        largest = (min(n_atoms, each * library.groups) for each in range(1, -(-n_atoms // library.groups) + 1))
        outside = max(
            groups * ranks * library.outside_floats(each, stash) for each, groups, stash in map(self._split, largest)
        )
        work = in_one(
            (ranks, layers - 1, n_atoms, 6, width),
            (ranks, layers, n_atoms, 4, width),
            (outside,),
            (n_atoms, n_atoms, 4),
            (n_atoms,),
            device=device,
        )
        self.work = dict(zip(("messages", "gradients", "outside", "pulls", "atomic"), work, strict=True))
        # Blocks wait until what has arrived is a multiple of their number: each number of groups counts by itself.
        lengths = [library.counters(groups) for groups in range(1, library.groups + 1)]
        self.counters = torch.zeros([sum(lengths)], dtype=torch.int64, device=device)
        self.counters_of = [self.counters.data_ptr() + 8 * sum(lengths[:groups]) for groups in range(len(lengths))]
        # Pinned once, since that takes time.
        pinned = {"device": "cpu", "pin_memory": device.type == "cuda"}
        self.indices = index_buffer(n_atoms, n_systems, device)
        self.host_indices = torch.zeros(self.indices.shape, dtype=torch.int32, **pinned)
        self.index_values = self.host_indices.numpy()
        self.host = torch.zeros([2, n_atoms], dtype=torch.int64, **pinned).numpy()
        self.known: np.ndarray | None = None
        self.reading = Reading(
            host=self.host.ctypes.data,
            host_indices=self.host_indices.data_ptr(),
            indices=self.indices.data_ptr(),
            room=n_atoms,
        )
        # Host memory to which the kernel writes, so that it is read without a transfer.
        self.most = torch.zeros([1], dtype=torch.int32, **pinned)[0]
        self.host_energies = torch.zeros([n_systems], dtype=torch.float64, **pinned)
        self.host_forces = torch.zeros([n_atoms, 3], dtype=torch.float32, **pinned)
        tensors = {name: getattr(packed, name) for name in packed.__dataclass_fields__} | self.work
        self.arguments = Arguments(
            **{name: tensor.data_ptr() for name, tensor in (tensors | {"most": self.most}).items()}
        )
        self.prepared: Callable[[int, int], None] | None = None
        #: Where the host writes positions [N, 3] that each launch made ready is to bring to the device first; None: nowhere.
        self.sent: Tensor | None = None
        self.parts: dict[int, tuple[int, int, int]] = {}
        self.resize(n_atoms, n_systems)

    def _split(self, n_atoms: int) -> tuple[int, int, int]:
        """Atoms of a group, groups, and 1 where the stash is in shared memory."""
        atoms = -(-n_atoms // self.library.groups)
        stash_shared = int(self.library.shared_bytes(atoms, 1) <= self.library.shared_limit)
        return atoms, -(-n_atoms // atoms), stash_shared

    def fits(self, n_atoms: int, n_systems: int) -> bool:
        """Whether there is room for so many."""
        return n_atoms <= self.room[0] and n_systems <= self.room[1]

    def resize(self, n_atoms: int, n_systems: int) -> None:
        """Use it for other numbers of atoms and systems, which must fit."""
        assert self.fits(n_atoms, n_systems)
        self.n_atoms = n_atoms
        if n_atoms not in self.parts:
            self.parts[n_atoms] = self._split(n_atoms)
        atoms, self.groups, stash_shared = self.parts[n_atoms]
        # Addresses instead of views, a dozen of which take as long as a launch.
        given, integers = self.arguments, self.indices.data_ptr()
        given.numbers, given.first = integers, integers + 4 * n_atoms
        given.last, given.starts = integers + 8 * n_atoms, integers + 12 * n_atoms
        given.counters = self.counters_of[self.groups - 1]
        given.n_atoms, given.n_systems, given.atoms, given.stash_shared = n_atoms, n_systems, atoms, stash_shared

    def hold(self, numbers: np.ndarray, system: np.ndarray, sizes: Sequence[int]) -> None:
        """Use it for these systems: numbers and system of each atom [N], atoms of each system [B].

        The indices of the systems held before must have arrived on the device.
        """
        self.resize(len(numbers), len(sizes))
        write_indices(self.index_values, numbers, system, sizes)
        self.indices.copy_(self.host_indices, non_blocking=True)

    def read(self, numbers: Tensor, batch: Tensor, known: np.ndarray) -> np.ndarray | None:
        """Numbers and batch [2, N] of new atoms, which are held from now on; None where they are not one molecule of elements
        that are ``known`` [elements] bool, or cannot be read now: to say why takes longer.

        Waits for the current stream. As :meth:`hold`, in a third of the time.

        Args:
            numbers, batch: [N] int64, contiguous, on the device.
            known: whether each atomic number is answered; as long as the student's table of elements.
        """
        n_atoms, reading = numbers.shape[0], self.reading
        reading.numbers, reading.batch, reading.n_atoms = numbers.data_ptr(), batch.data_ptr(), n_atoms
        if known is not self.known:
            self.known, reading.known = known, known.ctypes.data
        if self.library.read(ctypes.byref(reading), self._stream()) != 1:
            return None
        self.resize(n_atoms, 1)
        found: np.ndarray = self.host[:, :n_atoms].copy()
        return found

    def launch(self, positions: Tensor, energies: Tensor, forces: Tensor | None, again: bool = False) -> None:
        """Energies [B] and, where there is a tensor for them, forces [N, 3] at ``positions`` [N, 3]; on the current stream.

        All contiguous, on the device or, the results, in pinned memory of the host. ``again``: one of many launches, none
        of which is captured in a graph.
        """
        given = self.arguments
        given.positions, given.energies = positions.data_ptr(), energies.data_ptr()
        given.with_forces = forces is not None
        if forces is not None:
            given.forces = forces.data_ptr()
        stream = self._stream()
        if not again:
            self.library.launch(given, self.groups, stream)
            return
        if self.prepared is None:
            self.prepared = self.library.prepared(given, self.groups, self.sent)
        self.prepared(self.groups, stream)

    def _stream(self) -> int:
        return torch.cuda.current_stream(self.device).cuda_stream if self.device.type == "cuda" else 1


class MoleculeProgram:
    """The launch of a workspace on ``positions`` [N, 3], into ``energies`` [B] and ``forces`` [N, 3].

    :meth:`most_neighbors` is above ``capacity`` when, since ``most`` was last set to 0, an atom had more neighbors than
    that: then the results are wrong.
    """

    def __init__(self, work: Workspace, positions: Tensor, energies: Tensor, forces: Tensor, again: bool = False):
        self.work, self.positions, self.energies, self.forces, self.again = work, positions, energies, forces, again
        self.capacity, self.most = work.library.capacity, work.most

    @classmethod
    def alone(cls, library: Library, packed: PackedWeights, n_atoms: int, n_systems: int) -> "MoleculeProgram":
        """With a workspace and buffers of its own, which never move: fill ``positions``, and have ``work`` hold the systems."""
        work = Workspace(library, packed, n_atoms, n_systems)
        positions, forces = (torch.zeros([n_atoms, 3], dtype=torch.float32, device=work.device) for _ in range(2))
        return cls(work, positions, torch.zeros([n_systems], dtype=torch.float64, device=work.device), forces)

    @classmethod
    def from_host(cls, library: Library, packed: PackedWeights, n_atoms: int) -> "MoleculeProgram":
        """The same for one molecule whose positions the host writes to ``work.sent``, and whose results it reads in its own
        pinned memory, too."""
        work = Workspace(library, packed, n_atoms, 1)
        positions = torch.zeros([n_atoms, 3], dtype=torch.float32, device=work.device)
        work.sent = torch.zeros_like(work.host_forces, pin_memory=work.device.type == "cuda")
        return cls(work, positions, work.host_energies, work.host_forces, again=True)

    def launch(self, forces: bool = True) -> None:
        """Energies and, unless told otherwise, forces; on the current stream."""
        self.work.launch(self.positions, self.energies, self.forces if forces else None, self.again)

    def results(self) -> tuple[Tensor, Tensor]:
        """Energies [B] and forces [N, 3]."""
        return self.energies, self.forces

    def results_on_host(self) -> tuple[Tensor, Tensor]:
        """Copies of the same on the CPU; waits for the device."""
        self.wait()
        return self.energies.to("cpu", copy=True), self.forces.to("cpu", copy=True)

    def wait(self) -> None:
        """Wait for the device."""
        if self.work.device.type == "cuda":
            torch.cuda.current_stream(self.work.device).synchronize()

    def most_neighbors(self, waited: bool = False) -> int:
        """The largest number of neighbors where it exceeded ``capacity``; waits for the device unless ``waited``."""
        if not waited:
            self.wait()
        return int(self.most)
