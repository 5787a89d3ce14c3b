"""Energies and forces by the fused Triton kernels, each set of sizes captured in one CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor

from mlff_distiller.kernels.triton.program import PRECISIONS, Program, Tiles
from mlff_distiller.kernels.triton.weights import pack
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.checks import InputCheck, Topology, undisturbed
from mlff_distiller.potentials.graphed import CapturedCall, InTurn, Recent, made_current, systems_with_nan
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.utils.errors import UserError

#: Room for the neighbors of an atom before any were counted; molecules and liquids have 20 to 60 within 5 A.
FIRST_CAPACITY = 64
#: Molecules with at most this many other atoms get room for all of them: no overflow is possible, and none is checked.
ALWAYS_ENOUGH = 128
PERIODIC = "the Triton kernels do not search periodic systems; use another variant for them"


class TritonPotential(Potential):
    """See :mod:`mlff_distiller.kernels.triton`.

    Args:
        student: on a GPU, in float32; its weights are copied.
        precision: of matrix products: ``tf32x3`` (as exact as float32), ``ieee`` (float32), ``tf32`` or ``bf16``.
        graph: replay CUDA graphs instead of launching kernels one by one.
        tiles: sizes of the kernels' tiles; chosen by the number of atoms otherwise.

    Raises:
        UserError: unknown precision, or sizes that the kernels cannot tile.
    """

    def __init__(
        self, student: StudentForceField, precision: str = "tf32x3", graph: bool = True, tiles: Tiles | None = None
    ):
        if precision not in PRECISIONS:
            raise UserError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
        self.student = student
        with undisturbed(student.device):
            self.packed = pack(student)
        self.precision, self.graph, self.tiles = precision, graph, tiles
        self.cutoff, self.limits = student.cutoff, student.limits
        self.device, self.dtype = student.device, student.dtype
        self.inputs = InputCheck(student)
        self.evaluations: Recent = Recent()
        self.turn = InTurn(self.device)
        self.capacity = FIRST_CAPACITY

    def __reduce__(self):
        return type(self), (self.student, self.precision, self.graph, self.tiles)

    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV."""
        with self.turn:
            return self._run(numbers, positions, batch, cell, pbc, forces=False).energies.clone()

    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A."""
        with self.turn:
            program = self._run(numbers, positions, batch, cell, pbc, forces=True)
            return program.energies.clone(), program.forces.clone()

    def release(self) -> None:
        """Free all buffers and graphs, and reset the room for neighbors."""
        self.evaluations.clear()
        self.inputs.forget()
        self.capacity = FIRST_CAPACITY

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The neighbor matrix that the kernels fill, as edges."""
        with self.turn:
            topology, cells = self.inputs(None, positions, batch, cell, pbc)
            if cells is not None:
                raise NotImplementedError(PERIODIC)
            while True:
                program = self._evaluation(topology)[0]
                program.positions.copy_(positions.detach())
                with made_current(self.device):
                    program.find_neighbors()
                if not self._full(program, topology) or not self._make_room(program, topology):
                    break
            slots = torch.arange(program.capacity, device=self.device)
            filled = slots[None, :] < program.counts[:, None]
            receivers = torch.nonzero(filled)[:, 0]
            return receivers, program.neighbors[filled].to(torch.int64), None

    def _run(
        self,
        numbers: Tensor,
        positions: Tensor,
        batch: Tensor,
        cell: Tensor | None,
        pbc: Tensor | None,
        forces: bool,
    ) -> Program:
        topology, cells = self.inputs(numbers, positions, batch, cell, pbc)
        if cells is not None:
            raise NotImplementedError(PERIODIC)
        while True:
            program, run = self._evaluation(topology, forces)
            program.positions.copy_(positions.detach())
            run()
            if not self._full(program, topology) or not self._make_room(program, topology):
                return program

    @staticmethod
    def _full(program: Program, topology: Topology) -> bool:
        """Whether an atom has more neighbors than there is room for; waits for the device only where that is possible."""
        return program.capacity < max(topology.sizes) - 1 and int(program.counts.max()) > program.capacity

    def _make_room(self, program: Program, topology: Topology) -> bool:
        """Make more room. If only atoms at non-finite positions need it, set their systems to NaN and return False."""
        lost = systems_with_nan(program.positions, topology)
        atoms = lost[topology.batch]
        most = int(torch.where(atoms, 0, program.counts).max())
        if most > program.capacity:
            self.capacity = rounded(most + most // 8)
            return True
        program.energies.masked_fill_(lost, torch.nan)
        program.forces.masked_fill_(atoms[:, None], torch.nan)
        return False

    def _evaluation(self, topology: Topology, forces: bool = True) -> tuple[Program, Callable[[], None]]:
        n_systems = len(topology.sizes)
        capacity = rounded(max(topology.sizes) - 1)
        if capacity > ALWAYS_ENOUGH:
            capacity = min(capacity, self.capacity)
        key = (topology.numbers.shape[0], n_systems, capacity)
        entry = self.evaluations.find(key, lambda: self._new(*key))
        program = entry["program"]
        if entry["topology"] is not topology:
            parts = (program.numbers, program.first, program.last, program.starts)
            indices = topology.indices.to(self.device).split([len(part) for part in parts])
            # Not views of one piece of memory: those would not be aligned, for which Triton compiles anew.
            for part, given in zip(parts, indices, strict=True):
                part.copy_(given)
            entry["topology"] = topology
        return program, entry[forces]

    def _new(self, n_atoms: int, n_systems: int, capacity: int) -> dict:
        program = Program(self.packed, n_atoms, n_systems, capacity, self.precision, self.tiles)
        return {
            "program": program,
            "topology": None,
            True: self._call(program, forces=True),
            False: self._call(program, forces=False),
        }

    def _call(self, program: Program, forces: bool) -> Callable[[], None]:
        def launch() -> None:
            with made_current(self.device):
                program.launch(forces=forces)

        return CapturedCall(launch, self.device) if self.graph else launch


def rounded(capacity: int) -> int:
    """The next multiple of 16."""
    return max(16, (capacity + 15) // 16 * 16)
