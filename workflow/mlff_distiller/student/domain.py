"""What a student was trained on, and the errors to expect: by how rigidly its training fixes the last layer.

With g_i [R + 1] the values that the readout's last layer sums for atom i (and a 1 for its bias), and F the mean of g g^T over
the training, g^T F^-1 g says how little the training says of the energy of such an atom (Bigi, Chong, Ceriotti, Grasselli,
Mach. Learn.: Sci. Technol. 5, 045018 (2024)). F is taken over the atoms of each element by itself: a carbon that looks like a
trained nitrogen is no trained carbon. Three things are made of it, each with scales fitted to held-out errors:

- ``distance`` of an atom from the training, 1 in the root mean square over the trained atoms of its element;
- the error to expect of a force component of the atom, a power of its distance;
- the error to expect of the energy of a system, from the sum of g over its atoms and from F of systems.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

#: Added to the mean square of each value, as a share of the mean over all: directions in which nothing varied stay rigid.
RIDGE = 1e-6
#: Stands for whole systems among the atomic numbers.
SYSTEMS = 0
#: Share of held-out atoms that are closer than what counts as inside.
INSIDE = 0.999


@dataclass(frozen=True)
class Domain:
    """Fitted to a student; tensors are float64 on the CPU.

    Attributes:
        elements: [Z], the atomic numbers trained on, ascending.
        atoms: [Z, R + 1, R + 1], L with L L^T the inverse of F over the atoms of each element.
        systems: [R + 1, R + 1], the same over systems.
        energy_scale: eV by which the rigidity of a system's energy is multiplied.
        force_scale, force_power: the expected error of a force component is ``force_scale * distance ** force_power`` eV/A.
        limit: distance beyond which an atom counts as unlike any trained.
    """

    elements: Tensor
    atoms: Tensor
    systems: Tensor
    energy_scale: float
    force_scale: float
    force_power: float
    limit: float

    def distances(self, features: Tensor, numbers: Tensor) -> Tensor:
        """Of each atom [N], infinite for elements that were not trained on.

        Args:
            features: [N, R + 1], see :mod:`mlff_distiller.student.last_layer`.
            numbers: [N], atomic numbers.
        """
        features, numbers = features.to("cpu", torch.float64), numbers.cpu()
        found = features.new_full([len(numbers)], math.inf)
        for number, root in zip(self.elements.tolist(), self.atoms, strict=True):
            mine = numbers == int(number)
            found[mine] = (features[mine] @ root).square().mean(dim=1).sqrt()
        return found

    def force_errors(self, distances: Tensor) -> Tensor:
        """[N] -> [N] eV/A, of a force component."""
        return self.force_scale * distances**self.force_power

    def energy_errors(self, features: Tensor, batch: Tensor, n_systems: int) -> Tensor:
        """[N, R + 1] of atoms and [N] their systems -> [B] eV."""
        totals = _summed(features.to("cpu", torch.float64), batch.cpu(), n_systems)
        scaled: Tensor = self.energy_scale * (totals @ self.systems).square().mean(dim=1).sqrt()
        return scaled

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as a checkpoint holds it."""
        return {each.name: torch.as_tensor(getattr(self, each.name), dtype=torch.float64) for each in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Domain":
        """What :meth:`tensors` gave."""
        return cls(**{name: value if value.dim() else float(value) for name, value in tensors.items()})


@dataclass(frozen=True)
class Seen:
    """What a student makes of one batch: ``features`` [N, R + 1] of its last layer."""

    features: Tensor
    numbers: Tensor  # [N]
    batch: Tensor  # [N]
    n_systems: int


@dataclass(frozen=True)
class Labeled(Seen):
    """The same of a batch that was not trained on, and the student's errors there against the labels."""

    energy_errors: Tensor  # [B] eV
    force_errors: Tensor  # [N, 3] eV/A


def fit(training: Iterable[Seen], held_out: Iterable[Labeled]) -> Domain:
    """The domain of a student from what it was trained on, with scales from data that it was not trained on."""
    plain = _rigid(training)
    distances, forces, energies = [], [], []
    for part in held_out:
        known = torch.isin(part.numbers.cpu(), plain.elements.long())
        distances.append(plain.distances(part.features, part.numbers)[known])
        forces.append(part.force_errors.to("cpu", torch.float64).square().mean(dim=1)[known])
        expected = plain.energy_errors(part.features, part.batch, part.n_systems)
        energies.append(part.energy_errors.to("cpu", torch.float64) / expected)
    distance = torch.cat(distances)
    scale, power = _power_law(distance, torch.cat(forces))
    return replace(
        plain,
        energy_scale=float(torch.cat(energies).square().mean().sqrt()),
        force_scale=scale,
        force_power=power,
        limit=float(torch.quantile(distance[:: max(1, len(distance) // 1_000_000)], INSIDE)),
    )


def _rigid(training: Iterable[Seen]) -> Domain:
    """A domain whose scales are 1."""
    sums: dict[int, Tensor] = {}
    counts: Counter[int] = Counter()
    for part in training:
        features, numbers = part.features.to("cpu", torch.float64), part.numbers.cpu()
        groups = {int(number): features[numbers == number] for number in numbers.unique()}
        groups[SYSTEMS] = _summed(features, part.batch.cpu(), part.n_systems)
        for key, values in groups.items():
            sums[key] = sums.get(key, 0.0) + values.T @ values
            counts[key] += len(values)
    systems = _root(sums.pop(SYSTEMS) / counts.pop(SYSTEMS))
    # Of few atoms their element says too little: as many of all elements as there are values are mixed in.
    everything = sum(sums.values()) / counts.total()
    mixed = len(everything)
    elements = sorted(sums)
    atoms = [_root((sums[key] + mixed * everything) / (counts[key] + mixed)) for key in elements]
    numbers = torch.tensor(elements, dtype=torch.float64)
    return Domain(numbers, torch.stack(atoms), systems, 1.0, 1.0, 1.0, math.inf)


def _root(mean: Tensor) -> Tensor:
    """L with L L^T the inverse of ``mean`` [R + 1, R + 1], which :data:`RIDGE` keeps from being singular."""
    ridge = RIDGE * mean.diagonal().mean() * torch.eye(len(mean), dtype=torch.float64)
    return torch.linalg.inv(torch.linalg.cholesky(mean + ridge)).T.contiguous()


def _power_law(distance: Tensor, square: Tensor, bins: int = 20) -> tuple[float, float]:
    """Scale and power of the root mean square error in bins of equal numbers of atoms, by least squares of the logarithms."""
    order = torch.argsort(distance)
    parts = [part for part in order.chunk(bins) if len(part)]
    x = torch.stack([distance[part].mean().log() for part in parts])
    y = torch.stack([square[part].mean().sqrt().log() for part in parts])
    if len(parts) < 2 or float(x.std()) == 0.0:
        return float(square.mean().sqrt()), 0.0
    power = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    return float((y.mean() - power * x.mean()).exp()), power


def _summed(values: Tensor, batch: Tensor, n_systems: int) -> Tensor:
    return torch.zeros([n_systems, values.shape[1]], dtype=values.dtype).index_add(0, batch, values)
