"""A student as a metatomic model: one TorchScript file for the programs that read those, without this package.

Forces and stress are autograd's, through the plain student, so it is as slow as TorchScript is: a file for reach, not for speed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Dict, List, Optional  # noqa: UP035 (TorchScript)

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)

from mlff_distiller.deploy.bundle import WEIGHTS, read_bundle, refuse_damage
from mlff_distiller.student.checkpoint import load_student
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.distances import shortest_radii
from mlff_distiller.systems.limits import checked_allow
from mlff_distiller.utils.errors import UserError

#: Of the file that :func:`export` writes.
SUFFIX = ".pt"


class StudentModule(torch.nn.Module):
    """The student on neighbor lists that the engine makes; distances in float64, the network in its own dtype.

    Args:
        student: whose network, limits and reference energies these are.
    """

    def __init__(self, student: StudentForceField):
        super().__init__()
        self.network = student.network
        self.register_buffer("reference_energies", student.reference_energies)
        radii = torch.from_numpy(shortest_radii(range(len(student.reference_energies)))).to(student.device)
        # Zero: no distance is too short.
        self.register_buffer("shortest_radii", radii if student.limits.distances else torch.zeros_like(radii))
        self.neighbors = NeighborListOptions(cutoff=student.cutoff, full_list=True, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006 (TorchScript)
        """What the engine has to hand over: all ordered pairs within the cutoff."""
        return [self.neighbors]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels],  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        """Energies in eV, of the systems or of their atoms.

        Raises:
            ValueError: atoms closer than anything that the student learned; energies that are not finite.
        """
        results: Dict[str, TensorMap] = {}  # noqa: UP006
        if "energy" not in outputs:
            return results
        energies: List[torch.Tensor] = []  # noqa: UP006
        samples: List[torch.Tensor] = []  # noqa: UP006
        per_atom = outputs["energy"].sample_kind == "atom"
        for index, system in enumerate(systems):
            numbers = system.types.to(torch.int64)
            pairs = system.get_neighbor_list(self.neighbors)
            receivers = pairs.samples.column("first_atom").to(torch.int64)
            senders = pairs.samples.column("second_atom").to(torch.int64)
            vectors = pairs.values.reshape(-1, 3)
            self._check_distances(vectors, numbers, receivers, senders)
            dtype = self.network.readout_out.weight.dtype
            atomic = self.network(numbers, vectors.to(dtype), receivers, senders).to(torch.float64)
            atomic = atomic + self.reference_energies[numbers]
            if not bool(torch.isfinite(atomic).all()):
                raise ValueError("an energy is not finite; has the simulation blown up?")
            atoms = torch.arange(len(system), device=numbers.device)
            if selected_atoms is not None:
                of_system = selected_atoms.column("system") == index
                atoms = selected_atoms.column("atom")[of_system].to(torch.int64)
                atomic = atomic[atoms]
            if per_atom:
                energies.append(atomic.reshape(-1, 1))
                samples.append(torch.stack([torch.full_like(atoms, index), atoms], dim=1))
            else:
                energies.append(atomic.sum().reshape(1, 1))
                samples.append(torch.full([1, 1], index, dtype=torch.int64, device=numbers.device))
        device = self.reference_energies.device
        names = ["system", "atom"] if per_atom else ["system"]
        block = TensorBlock(
            values=torch.cat(energies),
            samples=Labels(names, torch.cat(samples).to(torch.int32)),
            components=torch.jit.annotate(List[Labels], []),  # noqa: UP006
            properties=Labels(["energy"], torch.zeros([1, 1], dtype=torch.int32, device=device)),
        )
        results["energy"] = TensorMap(Labels(["_"], torch.zeros([1, 1], dtype=torch.int32, device=device)), [block])
        return results

    def _check_distances(
        self, vectors: torch.Tensor, numbers: torch.Tensor, receivers: torch.Tensor, senders: torch.Tensor
    ) -> None:
        if vectors.shape[0] == 0:
            return
        distances = torch.linalg.vector_norm(vectors.detach(), dim=1)
        excess = distances - self.shortest_radii[numbers[receivers]] - self.shortest_radii[numbers[senders]]
        worst = int(torch.argmin(excess).item())
        if bool(excess[worst] < 0):
            first, second = int(receivers[worst].item()), int(senders[worst].item())
            raise ValueError(
                f"atoms {first} and {second} (elements {int(numbers[first].item())} and {int(numbers[second].item())}) are "
                f"{float(distances[worst].item())} A apart, closer than anything that the student learned: its energy would "
                "mean nothing. Mend the structure, take a smaller step, or export with allow=('distances',)"
            )


def export(source: str | Path, output: str | Path, allow: Iterable[str] = ()) -> Path:
    """Write a student as a metatomic model.

    Args:
        source: a bundle's folder, or a ``.safetensors`` checkpoint.
        output: the file, ``.pt``.
        allow: ``elements`` that it never learned, ``distances`` shorter than any learned, see
            :class:`~mlff_distiller.systems.limits.Limits`. A charge or spin cannot be seen: metatomic has none.

    Returns:
        ``output``.

    Raises:
        UserError: no student there; a damaged bundle, or one of another version; a file of another ending.
    """
    source, output = Path(source), Path(output)
    if output.suffix != SUFFIX:
        raise UserError(f"{output}: metatomic models are files *{SUFFIX}")
    if source.is_dir():
        refuse_damage(source, read_bundle(source))
        source = source / WEIGHTS
    student = load_student(source, allow=checked_allow(allow))
    limits, module = student.limits, StudentModule(student).eval()
    known = limits.elements
    if known is None or "elements" in limits.allow:
        known = frozenset(range(1, limits.most + 1))
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom")},
        atomic_types=sorted(known),
        # Messages go on from neighbor to neighbor.
        interaction_range=student.cutoff * student.config.n_blocks,
        length_unit="angstrom",
        supported_devices=["cpu", "cuda"],
        # Not that of the network: total energies of thousands of eV need it.
        dtype="float64",
    )
    metadata = ModelMetadata(name="MLFF Distiller's student", description=f"PaiNN, exported from {source.name}")
    AtomisticModel(module, metadata, capabilities).save(str(output))
    return output
