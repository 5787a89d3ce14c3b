"""Fits a student's :class:`~mlff_distiller.student.domain.Domain` to the labels that it was trained on.

Command ``learn-domain``: gives one to a checkpoint that has none. A training does the same at its end.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.data.read import read_dataset
from mlff_distiller.student.checkpoint import load_student, read_card, save_student
from mlff_distiller.student.domain import Domain, Labeled, Seen, fit
from mlff_distiller.student.last_layer import last_layer
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.batch import Batch
from mlff_distiller.training.data import Configurations
from mlff_distiller.training.evaluate import chunks, predict
from mlff_distiller.training.initial import check_learned, choose_device, thinned
from mlff_distiller.utils.errors import UserError

#: Configurations of a split that are looked at, and atoms at once.
MOST, BATCH_ATOMS = 20_000, 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``learn-domain``."""
    parser.description = (
        "Fit what a student knows, and the errors to expect, to labels like those that it was trained on."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="student (safetensors)")
    parser.add_argument("--dataset", type=Path, required=True, help="labels with the splits train and val")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, help="student checkpoint to write, weights as they were")


def run(args: argparse.Namespace) -> int:
    """Write the same student with its domain."""
    dataset = read_dataset(args.dataset)
    check_learned(dataset, args.checkpoint)
    student = load_student(args.checkpoint, device=choose_device(args.device))
    domain = learn_domain(student, dataset)
    student.domain = domain
    save_student(args.output, student, read_card(args.checkpoint))
    print(
        f"{args.output}: a force component is expected to be off by {1e3 * domain.force_scale:.1f} meV/A where the surroundings "
        f"are as in the training, and more by the power {domain.force_power:.2f} of the distance from it; outside begins at "
        f"{domain.limit:.2f}"
    )
    return 0


def learn_domain(student: StudentForceField, dataset: Dataset, seed: int = 0) -> Domain:
    """The domain of ``student``: rigidity by the split ``train``, scales by ``val``, at most :data:`MOST` of each.

    Raises:
        UserError: one of the splits is empty.
    """
    parts = {name: dataset.of_split(name) for name in ("train", "val")}
    for name, part in parts.items():
        if len(part) == 0:
            raise UserError(f"the dataset has no configurations in the split {name!r}: sample more molecules")
    training, held_out = (thinned(part, MOST, seed) for part in parts.values())
    return fit(seen(student, training), compared(student, held_out))


def seen(student: StudentForceField, dataset: Dataset) -> Iterator[Seen]:
    """What ``student`` makes of each batch of a dataset, in the order of the configurations."""
    return (_seen(student, part) for part in _parts(dataset))


def compared(student: StudentForceField, dataset: Dataset) -> Iterator[Labeled]:
    """The same, with its errors against the labels."""
    references = student.reference_energies.cpu().numpy()
    parameters = dict(student.network.named_parameters())
    for part in _parts(dataset):
        labels = Configurations.build(part, references, student.cutoff, student.device, student.dtype)
        energies, forces, _ = predict(student.network, parameters, labels, BATCH_ATOMS)
        yield Labeled(**vars(_seen(student, part)), energy_errors=energies - labels.energies,
                      force_errors=forces - labels.forces)  # fmt: skip


def _seen(student: StudentForceField, part: Dataset) -> Seen:
    frames = [part.atoms(i) for i in range(len(part))]
    inputs = Batch.from_atoms(frames, student.device, student.dtype, allow=("charge", "spin"))
    return Seen(last_layer(student, *inputs), inputs.numbers, inputs.batch, len(part))


def _parts(dataset: Dataset) -> Iterator[Dataset]:
    for first, last in chunks(dataset.n_atoms, BATCH_ATOMS):
        yield dataset.select(np.arange(first, last))
