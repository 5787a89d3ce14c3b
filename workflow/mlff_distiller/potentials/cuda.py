"""Energies and forces by the CUDA C++ kernels.

As many atoms as fit (about a hundred) are one launch (molecule.cu) on the caller's positions, straight into what is returned.
More atoms, and periodic systems, are a sequence of kernels and matrix products (neighbor_matrix.cu), captured in CUDA graphs,
with neighbors from cells on the GPU; so is whatever is asked for its stress.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mlff_distiller.kernels.cuda import molecule, neighbor_matrix
from mlff_distiller.kernels.cuda.build import FORMS, build, check_built_for
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.checks import Cells, InputCheck, Systems, Topology, undisturbed
from mlff_distiller.potentials.graphed import (
    CALLS_BEFORE_CAPTURE,
    CapturedCall,
    InTurn,
    Recent,
    made_current,
    systems_with_nan,
)
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.stress import volumes
from mlff_distiller.utils.errors import UserError, nearest

Result = TypeVar("Result")

#: Room for the neighbors of an atom before any were counted; molecules and liquids have 20 to 60 within 5 A.
FIRST_CAPACITY = 64
#: Molecules with at most this many other atoms get room for all of them: no overflow is possible, and none is checked.
ALWAYS_ENOUGH = 64
#: Above this many atoms in a system that is not periodic, cells in a box around it replace the search of all pairs.
ALL_PAIRS_LIMIT = 4000
#: Up to so many atoms sizes that are met a few times share buffers and graphs of more atoms; from there on the host's part of
#: a call is small.
GHOST_LIMIT = 4096
#: With more atoms than this the device is busy for milliseconds, and a graph would only hold its memory.
GRAPH_LIMIT = 200_000


@dataclass
class Evaluation:
    """Buffers for one set of sizes, the topology they hold, and the captured launches on them."""

    program: neighbor_matrix.NeighborMatrixProgram
    energy: CapturedCall
    both: CapturedCall
    topology: Topology | None = None
    box: neighbor_matrix.CellGrid | None = None


class DeviceProgram:
    """A :class:`~mlff_distiller.potentials.base.Program` of CUDA kernels."""

    def __init__(self, program: Any, overflowed: Callable[[], bool]):
        self.positions, self.forces, self.energies = program.positions, program.forces, program.energies
        self.program = program
        self.overflowed = overflowed

    def launch(self) -> None:
        """Energies and forces at the positions."""
        with made_current(self.positions.device):
            self.program.launch()


class MoleculeOnHost:
    """A :class:`~mlff_distiller.potentials.base.HostProgram`: transfer and kernel are one launch, which writes to the host."""

    def __init__(self, program: molecule.MoleculeProgram, positions: Tensor):
        self.positions, self.program, self.device = positions, program, program.work.device

    def run(self) -> tuple[Tensor, Tensor] | None:
        """Energy [1] eV and forces [N, 3] eV/A; None where an atom has too many neighbors."""
        with made_current(self.device):
            self.program.launch()
            self.program.wait()
        if self.program.most_neighbors(waited=True) > self.program.capacity:
            self.program.most.zero_()
            return None
        return self.program.results()


class CudaPotential(Potential):
    """See :mod:`mlff_distiller.kernels.cuda`.

    Args:
        student: on a GPU of compute capability 8.0 or newer, float32; its weights are copied.
        libraries: the folder of the compiled kernels (``molecule.so``, ``neighbor_matrix.so``); built, or taken from the user's
            cache, otherwise.
        products: how the matrices of large systems and batches are multiplied; see
            :data:`~mlff_distiller.kernels.cuda.neighbor_matrix.PRODUCTS`.
        single_launch: False sends small molecules through the kernels for many atoms, too.
        form: of the kernel for small molecules, one of :data:`~mlff_distiller.kernels.cuda.build.FORMS`; the one for the GPU
            otherwise. It is chosen when the kernels are compiled, so not with ``libraries``.
    """

    def __init__(
        self,
        student: StudentForceField,
        libraries: Path | None = None,
        products: str = "fp16x3",
        single_launch: bool = True,
        form: str | None = None,
    ):
        self.cutoff, self.limits = student.cutoff, student.limits
        self.device, self.dtype = student.device, student.dtype
        if self.dtype != torch.float32:
            raise UserError(f"the CUDA kernels compute in float32, not {self.dtype}; use student.to(torch.float32)")

        if products not in neighbor_matrix.PRODUCTS:
            raise UserError(f"unknown products {products!r}; there are {', '.join(neighbor_matrix.PRODUCTS)}")
        if form and libraries:
            raise UserError(f"{libraries}: compiled in a form of their own; leave out form={form!r}")
        if form not in (None, *FORMS):
            raise UserError(f"unknown form {form!r}{nearest(form, FORMS)}; there are {', '.join(FORMS)}")

        def library(name: str) -> Path:
            if libraries:
                return libraries / f"{name}.so"
            return build(student.config, torch.cuda.get_device_capability(self.device), name, form)

        self.student, self.libraries, self.products, self.form = student, libraries, products, form
        self.neighbor_matrix = neighbor_matrix.Library(library("neighbor_matrix"))
        check_built_for(self.neighbor_matrix.path, self.neighbor_matrix.handle, "neighbor_matrix", student.config)
        with made_current(self.device), undisturbed(self.device):
            # The library asks its device for what fits.
            self.molecule = molecule.Library(library("molecule")) if single_launch else None
            if self.molecule:
                check_built_for(self.molecule.path, self.molecule.handle, "molecule", student.config)
            self.neighbor_matrix_weights = neighbor_matrix.pack(student, self.neighbor_matrix.depth, products)
            self.molecule_weights = molecule.pack(student, self.molecule.ranks) if single_launch else None
        self.inputs = InputCheck(student)
        self.evaluations: Recent = Recent()
        self.met: Recent = Recent()
        self.turn = InTurn(self.device)
        self.release()

    def __reduce__(self):
        return type(self), (self.student, self.libraries, self.products, self.molecule is not None, self.form)

    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV."""
        return self._run(numbers, positions, batch, cell, pbc, False, lambda program: program.energies.clone())

    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A."""
        return self._run(numbers, positions, batch, cell, pbc, True, lambda program: program.results())

    def on_host(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A on the CPU, with a single wait for the device."""
        return self._run(
            numbers, positions, batch, cell, pbc, True, lambda program: program.results_on_host(), on_host=True
        )

    def program_on_host(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> MoleculeOnHost | None:
        """Transfer and kernel as one launch, for a molecule that one launch takes."""
        with self.turn:
            topology, cells = self.inputs(numbers, positions, batch, cell, pbc)
            n_atoms = positions.shape[0]
            if self.molecule is None or cells is not None or len(topology.sizes) > 1:
                return None
            if n_atoms > self.most_in_one_launch:
                return None
            with made_current(self.device), torch.inference_mode(False):
                program = molecule.MoleculeProgram.from_host(self.molecule, self.molecule_weights, n_atoms)
                program.work.hold(*topology.on_host, topology.sizes)
                # Launches may come from other streams.
                program.wait()
            return MoleculeOnHost(program, program.work.sent)

    def with_stress(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies [B] eV, forces [N, 3] eV/A and stresses [B, 3, 3] eV/A^3, always by the kernels for many atoms."""

        def taken(program: Any) -> tuple[Tensor, Tensor, Tensor]:
            with made_current(self.device):
                return (*program.results(), program.virials())

        energies, forces, virials = self._run(numbers, positions, batch, cell, pbc, True, taken, in_one=False)
        # A lost atom makes the energy of its system NaN; with too little room not all of its pairs may be.
        virials = virials.masked_fill(energies.isnan()[:, None, None], torch.nan)
        return energies, forces, (virials / volumes(cell.detach().double())[:, None, None]).to(self.dtype)

    def release(self) -> None:
        """Free all buffers and graphs, and reset the room for neighbors."""
        self.evaluations.clear()
        self.work: molecule.Workspace | None = None
        self.held: Topology | None = None
        self.met.clear()
        self.inputs.forget()
        self.capacity = FIRST_CAPACITY
        self.most_in_one_launch = self.molecule.most_atoms if self.molecule else 0
        self.grid: neighbor_matrix.CellGrid | None = None
        self.grid_of: tuple[Cells, int] | None = None

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The search of the kernels for many atoms, as edges; not for periodic systems, whose neighbor matrix holds no shifts."""
        with self.turn:
            systems = self.inputs(None, positions, batch, cell, pbc)
            if systems.cells is not None:
                raise NotImplementedError("the periodic neighbor rows of the CUDA kernels hold vectors, not shifts")
            while True:
                program = self._many(systems.topology, None).program
                program.positions.copy_(positions.detach())
                with made_current(self.device):
                    program.find_neighbors()
                most = self._too_many(program, systems)
                if not most or not self._make_room(program, systems.topology, most):
                    break
            slots = torch.arange(program.capacity, device=self.device)
            filled = slots[None, :] < program.counts[:, None]
            return torch.nonzero(filled)[:, 0], program.neighbors[filled].to(torch.int64), None

    def _run(
        self,
        numbers: Tensor,
        positions: Tensor,
        batch: Tensor,
        cell: Tensor | None,
        pbc: Tensor | None,
        forces: bool,
        taken: Callable[[Any], Result],
        on_host: bool = False,
        in_one: bool = True,
        own: bool = False,
    ) -> Result:
        """Run the program of these systems; the result of ``taken(program)``.

        ``on_host``: the results are wanted there, and ``taken`` waits for the device. ``in_one``: by one launch, where the
        systems are small enough, or else by launches that they may share with others. ``own``: by a program that systems of
        other sizes do not use.
        """
        positions = positions.detach()
        with self.turn:
            systems = None
            if in_one and not own and cell is None and pbc is None:
                systems = self._new_molecule(numbers, positions, batch)
            if systems is None:
                systems = self.inputs(numbers, positions, batch, cell, pbc)
            box = self._cells(positions, systems)
            small = max(numbers.shape[0], len(systems.topology.sizes))
            while True:
                if in_one and box is None and small <= self.most_in_one_launch:
                    if own:
                        program = self._alone(systems.topology, positions)
                    else:
                        program = self._shared(systems.topology, positions, on_host)
                    with made_current(self.device):
                        program.launch(forces)
                else:
                    evaluation = self._many(systems.topology, box, own or not in_one)
                    program = evaluation.program
                    program.positions.copy_(positions)
                    (evaluation.both if forces else evaluation.energy)()
                # Before the check, which waits for the device, so that no work is launched after the wait.
                found = taken(program)
                most = self._too_many(program, systems, on_host)
                if not most:
                    return found
                if not self._make_room(program, systems.topology, most):
                    return taken(program)

    def _too_many(self, program: Any, systems: Systems, waited: bool = False) -> int:
        """The largest number of neighbors since the last check, if that exceeds the room; otherwise 0.

        ``waited``: the caller has waited for the device since the program ran.
        """
        if systems.cells is None and program.capacity >= max(systems.topology.sizes) - 1:
            return 0
        most = program.most_neighbors(waited)
        if most <= program.capacity:
            return 0
        program.most.zero_()
        return most

    def _make_room(self, program: Any, topology: Topology, most: int) -> bool:
        """Make more room. If only atoms at non-finite positions need it, set their systems to NaN and return False.

        The kernels take such an atom for a neighbor of every other; room for all of those would slow down all later calls.
        """
        lost = systems_with_nan(program.positions, topology)
        if bool(lost.any()):
            sound = [size for size, bad in zip(topology.sizes, lost.tolist(), strict=True) if not bad]
            if isinstance(program, neighbor_matrix.NeighborMatrixProgram):
                most = program.most_neighbors_outside(lost)
            elif max(sound, default=0) - 1 <= program.capacity:
                most = 0
            if most <= program.capacity:
                device = program.energies.device
                program.energies.masked_fill_(lost.to(device), torch.nan)
                program.forces.masked_fill_(lost[topology.batch][:, None].to(device), torch.nan)
                return False
        if isinstance(program, molecule.MoleculeProgram):
            # Its capacity is fixed: from now on molecules of this size use the kernels for many atoms.
            self.most_in_one_launch = program.work.n_atoms - 1
        self.capacity = max(self.capacity, rounded(most + most // 8))
        return True

    def program(
        self,
        numbers: Tensor,
        positions: Tensor,
        batch: Tensor,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
    ) -> "DeviceProgram":
        """Buffers and launches for these systems, see :class:`~mlff_distiller.potentials.base.HasProgram`."""
        with self.turn:
            program = self._run(numbers, positions, batch, cell, pbc, True, lambda program: program, own=True)
            systems = self.inputs(numbers, positions, batch, cell, pbc)

        def overflowed() -> bool:
            most = self._too_many(program, systems)
            return most > 0 and self._make_room(program, systems.topology, most)

        return DeviceProgram(program, overflowed)

    def _cells(self, positions: Tensor, systems: Systems) -> neighbor_matrix.CellGrid | None:
        """The grid of cells, or None where all pairs are searched; cached while cells and the largest system stay the same."""
        topology, cells = systems
        most = max(topology.sizes)
        if cells is None:
            if most <= ALL_PAIRS_LIMIT:
                return None
            # A box around each system: rebuilt every time, since the atoms may have left it.
            nowhere = positions.new_zeros([1, 3])
            parts = [part if len(part) else nowhere for part in positions.split(topology.sizes)]
            low = torch.stack([part.amin(dim=0) for part in parts])
            high = torch.stack([part.amax(dim=0) for part in parts])
            extent = torch.clamp((high - low).nan_to_num(1.0, 1.0, 1.0), min=self.cutoff)
            none = torch.zeros_like(extent, dtype=torch.bool)
            origin = low.nan_to_num(0.0, 0.0, 0.0)
            return neighbor_matrix.CellGrid.of(torch.diag_embed(extent), none, self.cutoff, most, self.device, origin)
        # The program has room for as many cells as the largest system has atoms.
        if self.grid_of is None or self.grid_of[0] is not cells or self.grid_of[1] != most:
            self.grid = neighbor_matrix.CellGrid.of(cells.box, cells.pbc, self.cutoff, most, self.device)
            self.grid_of = cells, most
        return self.grid

    def _new_molecule(self, numbers: Tensor, positions: Tensor, batch: Tensor) -> Systems | None:
        """The checked arguments, where these are the sound ones of one small molecule that is not known yet; to be screened
        with thousands of others, it may be, each once. None: all else, also whatever is to be refused, in words."""
        known, n_atoms = self.inputs.last, batch.numel()
        if (
            (known[0] is numbers and known[1] is batch)
            or not 0 < n_atoms <= self.most_in_one_launch
            or not batch.dtype is numbers.dtype is torch.int64
            or not batch.device == numbers.device == positions.device == self.device
            or not batch.shape == numbers.shape == (n_atoms,)
            or positions.shape != (n_atoms, 3)
            or positions.dtype is not self.dtype
            or not (numbers.is_contiguous() and batch.is_contiguous())
        ):
            return None
        with made_current(self.device):
            on_host = self._workspace().read(numbers, batch, self.limits.answered)
        if on_host is None:
            return None
        self.held = Topology(numbers, batch, (n_atoms,), on_host)
        return self.inputs.remember(Systems(self.held, None), numbers, batch)

    def _workspace(self) -> molecule.Workspace:
        """The one that all small sizes share."""
        if self.work is None:
            most = self.molecule.most_atoms
            with torch.inference_mode(False):
                self.work = molecule.Workspace(self.molecule, self.molecule_weights, most, most)
        return self.work

    def _alone(self, topology: Topology, positions: Tensor) -> molecule.MoleculeProgram:
        """The launch for these systems, on buffers of its own that hold ``positions``."""
        sizes = topology.numbers.shape[0], len(topology.sizes)
        with torch.inference_mode(False):
            program = molecule.MoleculeProgram.alone(self.molecule, self.molecule_weights, *sizes)
            program.work.hold(*topology.on_host, topology.sizes)
            program.positions.copy_(positions)
        return program

    def _shared(self, topology: Topology, positions: Tensor, on_host: bool) -> molecule.MoleculeProgram:
        """The launch on ``positions`` into new tensors, or into those of the host, in the workspace that all sizes share."""
        n_atoms, n_systems, work = positions.shape[0], len(topology.sizes), self._workspace()
        if self.held is not topology:
            # Those held before have arrived: to read these, the check has waited for this stream.
            work.hold(*topology.on_host, topology.sizes)
            self.held = topology
        if on_host:
            energies, forces = work.host_energies[:n_systems], work.host_forces[:n_atoms]
        else:
            energies = torch.empty([n_systems], dtype=torch.float64, device=self.device)
            forces = torch.empty([n_atoms, 3], dtype=self.dtype, device=self.device)
        return molecule.MoleculeProgram(work, positions.contiguous(), energies, forces, again=True)

    def _many(self, topology: Topology, box: neighbor_matrix.CellGrid | None, own: bool = True) -> Evaluation:
        """Buffers and launches for these systems. Not ``own``: sizes that were met a few times may share those of more atoms."""
        n_atoms, n_systems = topology.numbers.shape[0], len(topology.sizes)
        capacity = rounded(max(topology.sizes) - 1)
        if box is not None or capacity > ALWAYS_ENOUGH:
            capacity = self.capacity
        cells = n_systems * max(topology.sizes) if box else 0
        key = (n_atoms, n_systems, capacity, cells)
        if not own and box is None and n_atoms <= GHOST_LIMIT and key not in self.evaluations:
            calls = self.met.find(key, lambda: [0])
            calls[0] += 1
            if calls[0] <= CALLS_BEFORE_CAPTURE:
                n_atoms, n_systems = roomy(n_atoms), n_systems if n_systems == 1 else roomy(n_systems)
                key = (n_atoms, n_systems, capacity, cells)

        def make() -> Evaluation:
            arguments = self.neighbor_matrix, self.neighbor_matrix_weights, n_atoms, n_systems, capacity, cells
            return self._captured(neighbor_matrix.NeighborMatrixProgram(*arguments), n_atoms)

        if n_atoms > GRAPH_LIMIT and key not in self.evaluations:
            self.evaluations.clear()  # two of these may not fit
        evaluation = self.evaluations.find(key, make)
        if evaluation.topology is not topology:
            with torch.inference_mode(False):
                evaluation.program.hold(*topology.on_host, topology.sizes)
            evaluation.topology = topology
        if box is not None and evaluation.box is not box:
            evaluation.program.set_grid(box)
            evaluation.box = box
        return evaluation

    def _captured(self, program: neighbor_matrix.NeighborMatrixProgram, n_atoms: int) -> Evaluation:
        def call(forces: bool) -> Any:
            def launch() -> None:
                with made_current(self.device):
                    program.launch(forces=forces)

            return CapturedCall(launch, self.device) if n_atoms <= GRAPH_LIMIT else launch

        return Evaluation(program, call(False), call(True))


def roomy(n: int) -> int:
    """The next multiple of 32 or, beyond 256, of a power of two: at most an eighth more."""
    step = max(32, 1 << n.bit_length() >> 4)
    return -(-n // step) * step


def rounded(capacity: int) -> int:
    """The next multiple of 16."""
    return max(16, (capacity + 15) // 16 * 16)
