"""Stage ``train``: trains a student on the energies and forces, and of crystals the stress, of a teacher's labels.

The whole dataset is on the device as flat tensors, and its neighbors are searched once; each step packs whole molecules
into a batch of fixed size. The final student has the moving average of the weights with the smallest force error on
held-out molecules. A training that was interrupted, or paused by ``--pause-after`` or shortly before the end of its batch
job, continues with the same command.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch

from mlff_distiller.data.dataset import Dataset, content_hash
from mlff_distiller.data.read import read_dataset
from mlff_distiller.records import schema
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.training import schedule
from mlff_distiller.training.card import make_card
from mlff_distiller.training.data import Configurations, pack, plan_capacity
from mlff_distiller.training.display import ProgressDisplay
from mlff_distiller.training.domain import learn_domain
from mlff_distiller.training.evaluate import errors, predict
from mlff_distiller.training.initial import build_wall, choose_device, initial_student, thinned
from mlff_distiller.training.interruption import Interruption
from mlff_distiller.training.precision import matmul_precision
from mlff_distiller.training.settings import TrainingSettings
from mlff_distiller.training.state import Progress, load_state, save_state, state_path
from mlff_distiller.training.step import Stepper, Weights
from mlff_distiller.training.weights import FlatWeights
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import load_settings
from mlff_distiller.utils.time_left import seconds_left

#: Exit status after a pause or an interruption, with the state saved (EX_TEMPFAIL: try again).
PAUSED = 75
#: Seconds before the end of a batch job at which its training pauses: for a step, an evaluation and the state.
MARGIN = 120.0
#: Seconds between synchronizations of the device, so that the clock does not run ahead of it.
WAIT_EVERY = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``train``."""
    parser.description = "Distill: train the student on a labeled dataset; an interrupted training continues."
    parser.add_argument("--dataset", type=Path, required=True, help="labeled configurations (HDF5 or extxyz)")
    parser.add_argument("--settings", required=True, help="JSON text or file, e.g. '{\"max_seconds\": 60}'")
    parser.add_argument(
        "--start-from", type=Path, help="student to go on from instead of settings.start_from; it brings its sizes"
    )
    parser.add_argument("--output", type=Path, required=True, help="student checkpoint to write (safetensors)")
    parser.add_argument("--record", type=Path, required=True, help="JSON to write: learning curve and errors")
    parser.add_argument("--checkpoint-dir", type=Path, required=True, help="folder for the state of the training")
    parser.add_argument(
        "--pause-after",
        type=float,
        metavar="SECONDS",
        help=f"save the state and stop with exit status {PAUSED} after this time; the same command continues",
    )


def run(args: argparse.Namespace) -> int:
    """Train to the end; 0 if the student was written, :data:`PAUSED` if the training is not finished."""
    given = load_settings(args.settings)
    started = args.start_from and TrainingSettings.continued(given, str(args.start_from))
    settings = started or TrainingSettings.from_mapping(given)
    dataset = read_dataset(args.dataset)
    trainer = Trainer(dataset, settings, args.checkpoint_dir)
    student = trainer.run(pause_after(args.pause_after, seconds_left(), time.monotonic() - trainer.started))
    progress = trainer.progress
    if student is None:
        print(f"paused at step {progress.step}, {100 * trainer.done():.0f} %; the same command continues from there")
        return PAUSED
    student.domain = learn_domain(student.to(trainer.device), dataset, settings.seed)
    card = make_card(dataset, settings, progress, trainer.made_on())
    save_student(args.output, student, card)
    schema.write(args.record, [training_record(card, progress)])
    # Deleted only now, so that an interruption while writing loses nothing; left here, newer code would reuse it.
    trainer.state_path.unlink()
    print(f"{args.output}: force MAE {progress.best_error:.1f} meV/A on held-out molecules after {progress.step} steps")
    return 0


def pause_after(asked: float | None, left: float | None, spent: float = 0.0) -> float | None:
    """When to pause, in seconds of the trainer's clock; None: not at all.

    Args:
        asked: for a pause by then.
        left: until the batch system ends the job; None without a limit. A short job keeps half of it.
        spent: on that clock already.
    """
    by_the_job = None if left is None else spent + max(left - MARGIN, left / 2)
    return min((limit for limit in (asked, by_the_job) if limit is not None), default=None)


def training_record(card: dict, progress: Progress) -> dict:
    """The record of a training: kind ``accuracy``, task ``training``, with the ``learning_curve``."""
    made = card["training"]
    more = {"settings": card["settings"], "training": made, "learning_curve": progress.history}
    common = {"variant": "student", "task": "training", "device": made["device"], "dtype": "float32"}
    return schema.record("accuracy", **common, **card["figures"], **more)


class Trainer:
    """A training, from the start or from the state in ``checkpoint_dir``; its clock starts with the constructor.

    Args:
        dataset: with configurations in the splits ``train`` and ``val``.
        settings: see :class:`TrainingSettings`.
        checkpoint_dir: folder of the states, one file for each combination of settings and data.

    Raises:
        UserError: no data to train or validate on, or a damaged state.
    """

    def __init__(self, dataset: Dataset, settings: TrainingSettings, checkpoint_dir: Path):
        self.started = time.monotonic()
        self.settings = settings
        self.device = choose_device(settings.device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.state_path = state_path(checkpoint_dir, settings.fingerprint() | {"dataset": content_hash(dataset)})
        stored = load_state(self.state_path)

        training, validation = dataset.of_split("train"), dataset.of_split("val")
        for split, part in (("train", training), ("val", validation)):
            if len(part) == 0:
                raise UserError(f"the dataset has no configurations in the split {split!r}: sample more molecules")
        validation = thinned(validation, settings.n_validation, settings.seed)
        self.student = initial_student(settings, training, self.device)
        references = self.student.reference_energies.cpu().numpy()
        self.training = Configurations.build(training, references, self.student.cutoff, self.device)
        self.validation = Configurations.build(validation, references, self.student.cutoff, self.device)
        build_wall(self.student, self.training)
        self.capacity = plan_capacity(self.training, settings.batch_atoms)

        self.layout = FlatWeights(self.student.network)
        self.weights = Weights.start(self.student.network, settings.optimizer)
        self.best = self.weights.average.clone()
        self.progress = Progress()
        if stored is not None:
            tensors, self.progress = stored
            self.best.copy_(tensors.pop("best"))
            self.weights.copy_(tensors)
        self.seconds_before = self.progress.seconds
        self.learning_rate = 0.0
        self._epoch = -1
        self.stepper = self.make_stepper()
        self.stepper.sums.copy_(torch.tensor(self.progress.sums))

    def make_stepper(self) -> Stepper:
        """What makes the updates from here on: in fp32 in the last share of the training, compiled where that pays."""
        settings = self.settings
        wanted = self.device.type == "cuda" if settings.compile == "auto" else settings.compile
        # A finished training only returns its student, so nothing is compiled.
        compiled = wanted and not self.is_finished()
        tf32 = settings.tf32 and not schedule.in_last_share(settings, self.done())
        return Stepper(self.student.network, self.weights, self.training, self.capacity, settings, tf32, compiled)

    def run(self, pause_after: float | None = None) -> StudentForceField | None:
        """Train to the end, or save the state and stop after ``pause_after`` seconds or an interruption.

        Returns:
            The student with the best weights, on the CPU; None if the training is not finished.

        Raises:
            UserError: the training diverged.
        """
        with Interruption() as interruption, ProgressDisplay(self) as display:
            saved = waited = time.monotonic()
            while not self.is_finished():
                self.step()
                now = time.monotonic()
                if now - waited > WAIT_EVERY:
                    self.wait()
                    display.update()
                    waited = now
                if interruption.happened or (pause_after is not None and now - self.started > pause_after):
                    self.save()
                    return None
                if now - saved > self.settings.checkpoint_seconds:
                    self.save()
                    saved = now
            if not self.progress.history or self.progress.history[-1]["step"] < self.progress.step:
                self.evaluate()
                display.update()
            self.save()
        self.layout.write(self.student.network, self.best)
        return self.student.cpu().eval().requires_grad_(False)

    def step(self) -> None:
        """One update, and an evaluation at the end of every ``evaluate_every``-th epoch."""
        progress, table, done = self.progress, self.batches(), self.done()
        if self.stepper.tf32 and schedule.in_last_share(self.settings, done):
            sums, self.stepper = self.stepper.sums, self.make_stepper()
            self.stepper.sums.copy_(sums)
        progress.step += 1
        self.learning_rate = schedule.learning_rate(self.settings, done, progress.step)
        share = schedule.averaging_weight(self.settings, progress.step)
        weight = schedule.energy_weight(self.settings, done)
        self.stepper(table[progress.batch], progress.step, self.learning_rate, share, weight)
        progress.batch += 1
        if progress.batch == len(table):
            progress.epoch, progress.batch = progress.epoch + 1, 0
            if progress.epoch % self.settings.evaluate_every == 0:
                self.evaluate()

    def batches(self) -> np.ndarray:
        """The batches of this epoch (see :func:`pack`); their order depends only on the seed and the epoch."""
        if self._epoch != self.progress.epoch:
            order = np.random.default_rng([self.settings.seed, self.progress.epoch]).permutation(len(self.training))
            self._epoch, self._batches = self.progress.epoch, pack(order, self.training, self.capacity)
        return self._batches

    def evaluate(self) -> None:
        """Adds the held-out errors of the averaged weights to the learning curve; remembers the weights with the smallest."""
        progress = self.progress
        parameters = self.layout.named(self.weights.average)
        # In full precision, as the student runs later, even if the steps use TF32.
        with matmul_precision(self.device, tf32=False):
            predicted = predict(self.student.network, parameters, self.validation, 2 * self.settings.batch_atoms)
        found = errors(self.validation, predicted)
        means = self.stepper.read_sums()
        if not all(map(math.isfinite, (*means.values(), *found.values()))):
            raise self.diverged()
        progress.history.append(
            {"step": progress.step, "epoch": progress.epoch, "seconds": round(self.clock(), 3)}
            | {"learning_rate": self.learning_rate}
            | {f"train_{name}": value for name, value in means.items()}
            | {f"val_{name}": value for name, value in found.items()}
        )
        error = found["force_mae_mev_per_a"]
        if progress.best_error is None or error < progress.best_error:
            progress.best_error, progress.stale = error, 0
            self.best.copy_(self.weights.average)
        else:
            progress.stale += 1

    def save(self) -> None:
        """Saves the state of the training.

        Raises:
            UserError: the weights are not finite; the file is not changed.
        """
        if not torch.isfinite(self.weights.current).all():
            raise self.diverged()
        self.progress.seconds, self.progress.sums = self.clock(), self.stepper.sums.tolist()
        save_state(self.state_path, self.weights, self.best, self.progress)

    def clock(self) -> float:
        """Wall time of this training, summed over interrupted runs, s."""
        return self.seconds_before + time.monotonic() - self.started

    def done(self) -> float:
        """Fraction of the training that is done, 0 to 1."""
        return schedule.progress(self.settings, self.progress.step, self.clock())

    def is_finished(self) -> bool:
        """Whether the schedule, early stopping or an error that is small enough has ended the training."""
        patience, enough, best = self.settings.patience, self.settings.enough_mev_per_a, self.progress.best_error
        return (
            self.done() >= 1.0
            or (patience is not None and self.progress.stale >= patience)
            or (enough is not None and best is not None and best <= enough)
        )

    def wait(self) -> None:
        """Synchronize the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def diverged(self) -> UserError:
        """The error to raise when weights or losses are not finite."""
        return UserError(
            f"the training diverged before step {self.progress.step}: numbers are no longer finite; "
            f"lower learning_rate (now {self.settings.learning_rate})"
        )

    def made_on(self) -> dict:
        """Device, mode of the steps and sizes, for the card."""
        return {
            "device": self.device.type,
            "steps_ran": self.stepper.mode,
            "batch_atoms": self.capacity.n_atoms,
            "parameters": sum(self.layout.sizes),
            "n_training": len(self.training),
            "n_validation": len(self.validation),
        }

    def describe(self) -> str:
        """Data, sizes and mode of the training in one line."""
        atoms = int(self.training.host_atom_counts.sum())
        stressed = self.training.has_virial
        words = "" if stressed is None else f", {int(stressed.sum())} with a stress"
        return (
            f"{len(self.training)} configurations ({atoms} atoms{words}) to learn from, {len(self.validation)} held out; "
            f"{sum(self.layout.sizes)} parameters on {self.device.type}, {self.stepper.mode}; "
            f"batches of {self.capacity.n_atoms} atoms and {self.capacity.n_pairs} pairs"
        )
