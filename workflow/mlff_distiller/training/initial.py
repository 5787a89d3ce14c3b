"""Start of a training: device, initial student with reference energies, subset of the held-out configurations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.student import wall
from mlff_distiller.student.checkpoint import learned_elements, load_student
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.training.data import Configurations, composition_energies, fit_reference_energies
from mlff_distiller.training.evaluate import predict
from mlff_distiller.training.settings import TrainingSettings
from mlff_distiller.training.shortest import shortest_distances
from mlff_distiller.utils import gpus
from mlff_distiller.utils.errors import UserError


def choose_device(name: str) -> torch.device:
    """The torch device; ``auto`` is a GPU if torch finds one, else the CPU. Of several GPUs the process takes one.

    Raises:
        UserError: ``cuda``, but torch finds no GPU.
    """
    if name != "cpu":
        gpus.take_one("student")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: PyTorch finds no GPU here; set device to cpu, or see `snakemake -c4 preflight`")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu" if name == "auto" else name)


def initial_student(settings: TrainingSettings, training: Dataset, device: torch.device) -> StudentForceField:
    """A student with seeded random weights, or the one in ``start_from``, with reference energies fitted to ``training``."""
    if settings.start_from is None:
        config = settings.student
        references = fit_reference_energies(training, config.max_atomic_number)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return StudentForceField(config, torch.from_numpy(references)).to(device)
    student = _with_epsilon(load_student(settings.start_from, device=device), settings)
    # Teachers differ in their zero of energy: fit the references to what the network does not explain.
    references = student.reference_energies.cpu().numpy()
    configurations = Configurations.build(training, references, student.cutoff, device)
    parameters = dict(student.network.named_parameters())
    predicted = predict(student.network, parameters, configurations, 2 * settings.batch_atoms)
    explained = predicted.energies.cpu().numpy().astype(np.float64) + composition_energies(training, references)
    left = replace(training, energies=training.energies - explained)
    references = references + fit_reference_energies(left, student.config.max_atomic_number)
    student.reference_energies.copy_(torch.from_numpy(references))
    return student


def _with_epsilon(student: StudentForceField, settings: TrainingSettings) -> StudentForceField:
    if "norm_epsilon" not in settings.student.model_fields_set:
        return student
    config = student.config.model_copy(update={"norm_epsilon": settings.student.norm_epsilon})
    made = StudentForceField(config, neighbors=student.neighbor_search.name).to(student.device)
    made.load_state_dict(student.state_dict())
    made.limits = student.limits
    return made


def build_wall(student: StudentForceField, training: Configurations) -> None:
    """Give ``student`` walls that begin where ``training`` ends; a student that has walls keeps those that begin nearer."""
    most = student.config.max_atomic_number
    shortest, before = shortest_distances(training, most), student.network.wall.cpu()
    if not torch.equal(before, wall.no_wall(most)):
        shortest = torch.fmin(shortest, before[:, 0].double().reshape(most + 1, most + 1))
    student.network.wall.copy_(wall.pair_table(wall.ends_of(shortest)))


def thinned(dataset: Dataset, n: int, seed: int) -> Dataset:
    """At most ``n`` configurations of ``dataset``, chosen at random with the seed, in their order."""
    if len(dataset) <= n:
        return dataset
    return dataset.select(np.sort(np.random.default_rng([seed, n]).choice(len(dataset), n, replace=False)))


def check_learned(dataset: Dataset, checkpoint: Path) -> None:
    """Raise a :class:`UserError` for elements in ``dataset`` that the student in ``checkpoint`` was not trained on."""
    learned = learned_elements(checkpoint)
    if learned is not None and (strange := set(np.unique(dataset.numbers).tolist()) - learned):
        from ase.data import chemical_symbols

        names = ", ".join(chemical_symbols[number] for number in sorted(strange))
        raise UserError(f"the dataset has {names}, which the student in {checkpoint} was not trained on; leave it out")
