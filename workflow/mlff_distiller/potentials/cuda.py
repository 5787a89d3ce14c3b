"""Energies and forces by the CUDA C++ kernels, captured in CUDA graphs.

As many atoms as fit (about a hundred) are one launch (molecule.cu); more atoms, and periodic systems, are a sequence of
kernels and matrix products (neighbor_matrix.cu), with neighbors from cells on the GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mlff_distiller.kernels.cuda import molecule, neighbor_matrix
from mlff_distiller.kernels.cuda.build import build
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.graphed import CapturedCall, Recent, Topology, TopologyReader
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.utils.errors import UserError

Result = TypeVar("Result")

#: Neighbors that an atom gets room for before any was counted; molecules and liquids have 20 to 60 within 5 A.
FIRST_CAPACITY = 64
#: Rows up to this long hold all other atoms of a molecule: nothing can overflow, and nothing is checked.
ALWAYS_ENOUGH = 64
#: Above this many atoms in a system that is not periodic, cells in a box around it replace looking at all pairs.
ALL_PAIRS_LIMIT = 4000
#: With more atoms than this the device is busy for milliseconds, and a graph would only hold its memory.
GRAPH_LIMIT = 200_000


@dataclass
class Evaluation:
    """Buffers for one set of sizes, the topology they hold, and the captured launches on them."""

    program: Any
    energy: CapturedCall
    both: CapturedCall
    topology: Topology | None = None
    box: neighbor_matrix.CellGrid | None = None


class DeviceProgram:
    """Energies and forces on buffers that never move: fill ``positions``, launch, read ``energies`` and ``forces``."""

    def __init__(self, program: Any, overflowed: Callable[[], bool]):
        self.positions, self.forces, self.energies = program.positions, program.forces, program.energies
        self.launch = program.launch
        #: Whether, in any launch since it was asked last, an atom had more neighbors than there was room for. Then the
        #: results since are wrong, and the potential's next program has more room.
        self.overflowed = overflowed


def architecture(device: torch.device) -> str:
    """What nvcc calls ``device``, such as ``sm_90``."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


class CudaPotential(Potential):
    """See :mod:`mlff_distiller.kernels.cuda`.

    Args:
        student: on a GPU of compute capability 9.0 or newer, float32; its weights are copied.
        libraries: the folder of the compiled kernels (``molecule.so``, ``neighbor_matrix.so``); built, or taken from the user's
            cache, otherwise.
        products: how the matrices of large systems and batches are multiplied; see
            :data:`~mlff_distiller.kernels.cuda.neighbor_matrix.PRODUCTS`.
        single_launch: False sends small molecules through the kernels for many atoms, too.
    """

    def __init__(
        self,
        student: StudentForceField,
        libraries: Path | None = None,
        products: str = "fp16x3",
        single_launch: bool = True,
    ):
        self.cutoff, self.device, self.dtype = student.cutoff, student.device, student.dtype
        if self.dtype != torch.float32:
            raise UserError(f"the CUDA kernels compute in float32, not {self.dtype}; use student.to(torch.float32)")

        if products not in neighbor_matrix.PRODUCTS:
            raise UserError(f"unknown products {products!r}; there are {', '.join(neighbor_matrix.PRODUCTS)}")

        def library(name: str) -> Path:
            return libraries / f"{name}.so" if libraries else build(student.config, architecture(self.device), name)

        self.rows = neighbor_matrix.Library(library("neighbor_matrix"))
        self.rows_weights = neighbor_matrix.pack(student, self.rows.depth, products)
        self.molecule = molecule.Library(library("molecule")) if single_launch else None
        self.molecule_weights = molecule.pack(student, self.molecule.ranks) if single_launch else None
        self.most_in_one_launch = self.molecule.most_atoms if self.molecule else 0
        self.topology = TopologyReader()
        self.evaluations: Recent = Recent()
        self.capacity = FIRST_CAPACITY
        self.grid: neighbor_matrix.CellGrid | None = None
        self.grid_of: tuple = ()

    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV."""
        if numbers.shape[0] == 0:
            return torch.zeros([0 if cell is None else cell.shape[0]], dtype=torch.float64, device=self.device)
        return self._run(numbers, positions, batch, cell, pbc, False, lambda program: program.energies.clone())

    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A."""
        if numbers.shape[0] == 0:
            return self.energy(numbers, positions, batch, cell, pbc), torch.zeros_like(positions)
        return self._run(numbers, positions, batch, cell, pbc, True, lambda program: program.results())

    def on_host(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A on the CPU, with a single wait for the device."""
        if numbers.shape[0] == 0:
            return super().on_host(numbers, positions, batch, cell, pbc)
        return self._run(
            numbers, positions, batch, cell, pbc, True, lambda program: program.results_on_host(), waits=True
        )

    def release(self) -> None:
        """Let go of all buffers and graphs."""
        self.evaluations.clear()

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The search of the kernels for many atoms, as edges; not for periodic systems, whose rows hold no shifts."""
        if periodic(cell, pbc):
            raise NotImplementedError("the periodic neighbor rows of the CUDA kernels hold vectors, not shifts")
        topology = self.topology(batch, batch)
        while True:
            program = self._many(topology, len(topology.sizes), None).program
            program.positions.copy_(positions)
            program.find_neighbors()
            if not self._overflowed(program, topology, None):
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
        waits: bool = False,
    ) -> Result:
        """What is ``taken`` of the program that ran for these systems; ``waits``: taking it waits for the device."""
        topology = self.topology(numbers, batch)
        n_systems = cell.shape[0] if cell is not None else len(topology.sizes)
        box = self._cells(positions, topology, cell, pbc)
        while True:
            if box is None and numbers.shape[0] <= self.most_in_one_launch:
                evaluation = self._single(topology, n_systems)
            else:
                evaluation = self._many(topology, n_systems, box)
            evaluation.program.positions.copy_(positions)
            (evaluation.both if forces else evaluation.energy)()
            # Before the check, which waits for the device: nothing is left to start after that.
            found = taken(evaluation.program)
            if not self._overflowed(evaluation.program, topology, box, waits):
                return found

    def _overflowed(
        self, program: Any, topology: Topology, box: neighbor_matrix.CellGrid | None, waited: bool = False
    ) -> bool:
        """Whether an atom had more neighbors than there was room for; then there will be more room next time.

        ``waited``: for the device, since the program ran.
        """
        if box is None and program.capacity >= max(topology.sizes) - 1:
            return False
        most = program.most_neighbors(waited)
        if most <= program.capacity:
            return False
        program.most.zero_()
        if isinstance(program, molecule.MoleculeProgram):
            # Its capacity is fixed: molecules as large as this one go through the kernels for many atoms from now on.
            self.most_in_one_launch = program.n_atoms - 1
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
        """Buffers and launches for these systems, for loops that stay on the device; ready at ``positions``."""
        program = self._run(numbers, positions, batch, cell, pbc, True, lambda program: program)
        topology = self.topology(numbers, batch)
        box = self.grid if isinstance(program, neighbor_matrix.RowsProgram) and program.cells else None
        return DeviceProgram(program, lambda: self._overflowed(program, topology, box))

    def _cells(
        self, positions: Tensor, topology: Topology, cell: Tensor | None, pbc: Tensor | None
    ) -> neighbor_matrix.CellGrid | None:
        """The grid of cells, or None where all pairs are looked at; kept while cell and pbc stay the same."""
        if cell is None or pbc is None:
            if max(topology.sizes) <= ALL_PAIRS_LIMIT:
                return None
            # A box around each system: rebuilt every time, since the atoms may have left it.
            low = torch.stack([part.amin(dim=0) for part in positions.split(topology.sizes)])
            high = torch.stack([part.amax(dim=0) for part in positions.split(topology.sizes)])
            extent = torch.clamp((high - low).nan_to_num(1.0, 1.0, 1.0), min=self.cutoff)
            none = torch.zeros_like(extent, dtype=torch.bool)
            most = max(topology.sizes)
            return neighbor_matrix.CellGrid.of(
                torch.diag_embed(extent), none, self.cutoff, most, low.nan_to_num(0.0, 0.0, 0.0)
            )
        versions = () if cell.is_inference() or pbc.is_inference() else (cell._version, pbc._version)
        known = self.grid_of
        if len(known) != 4 or known[0] is not cell or known[1] is not pbc or known[2:] != versions:
            self.grid_of = (cell, pbc, *versions)
            self.grid = None
            if bool(pbc.any()):
                full = torch.stack([_complete(one, axes) for one, axes in zip(cell, pbc, strict=True)])
                self.grid = neighbor_matrix.CellGrid.of(full, pbc, self.cutoff, max(topology.sizes))
        if self.grid is None:
            return self._cells(positions, topology, None, None)
        return self.grid

    def _single(self, topology: Topology, n_systems: int) -> Evaluation:
        key = ("single", topology.numbers.shape[0], n_systems)

        def make() -> Evaluation:
            program = molecule.MoleculeProgram(self.molecule, self.molecule_weights, key[1], n_systems)
            return self._captured(program, key[1])

        return self._filled(self.evaluations.find(key, make), topology, n_systems)

    def _many(self, topology: Topology, n_systems: int, box: neighbor_matrix.CellGrid | None) -> Evaluation:
        n_atoms = topology.numbers.shape[0]
        capacity = rounded(max(topology.sizes) - 1)
        if box is not None or capacity > ALWAYS_ENOUGH:
            capacity = self.capacity
        cells = n_systems * max(topology.sizes) if box else 0
        key = ("many", n_atoms, n_systems, capacity, cells)

        def make() -> Evaluation:
            arguments = self.rows, self.rows_weights, n_atoms, n_systems, capacity, cells
            return self._captured(neighbor_matrix.RowsProgram(*arguments), n_atoms)

        if n_atoms > GRAPH_LIMIT and key not in self.evaluations:
            self.evaluations.clear()  # two of these may not fit
        evaluation = self.evaluations.find(key, make)
        if evaluation.topology is not topology:
            evaluation.program.system.copy_(topology.batch)
        if box is not None and evaluation.box is not box:
            evaluation.program.set_grid(box)
            evaluation.box = box
        return self._filled(evaluation, topology, n_systems)

    def _filled(self, evaluation: Evaluation, topology: Topology, n_systems: int) -> Evaluation:
        if evaluation.topology is not topology:
            program = evaluation.program
            sizes = torch.tensor(topology.sizes + (0,) * (n_systems - len(topology.sizes)), device=self.device)
            program.starts[1:] = torch.cumsum(sizes, 0)
            program.numbers.copy_(topology.numbers)
            program.first.copy_(program.starts[topology.batch])
            program.last.copy_(program.starts[topology.batch + 1])
            evaluation.topology = topology
        return evaluation

    def _captured(self, program: Any, n_atoms: int) -> Evaluation:
        def call(forces: bool) -> Any:
            def launch() -> None:
                program.launch(forces=forces)

            return CapturedCall(launch, self.device) if n_atoms <= GRAPH_LIMIT else launch

        return Evaluation(program, call(False), call(True))


def rounded(capacity: int) -> int:
    """The next multiple of 16."""
    return max(16, (capacity + 15) // 16 * 16)


def periodic(cell: Tensor | None, pbc: Tensor | None) -> bool:
    """Whether any system repeats along any axis."""
    return cell is not None and pbc is not None and bool(pbc.any())


def _complete(cell: Tensor, pbc: Tensor) -> Tensor:
    from mlff_distiller.neighbors.native import complete_cell

    return complete_cell(cell, pbc)
