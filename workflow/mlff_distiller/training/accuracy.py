"""Stage ``accuracy``: errors of the student against its teacher's labels, per split, in fp32 as it runs by default."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.data.read import read_dataset
from mlff_distiller.records import schema
from mlff_distiller.student.checkpoint import load_student
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.training.data import Configurations
from mlff_distiller.training.evaluate import MEV, predict, stress_errors
from mlff_distiller.training.expected import compare, sample_identity
from mlff_distiller.training.initial import check_learned, choose_device, thinned
from mlff_distiller.training.reliability import reliability
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import load_settings, read_json, sha256_of
from mlff_distiller.utils.settings import Seed, Settings

#: Force MAE on held-out molecules, meV/A, up to which a student has each name (scale of Amin et al., ICLR 2025).
TIERS = ((20.0, "excellent"), (50.0, "good"), (100.0, "usable with a warning"))
BEYOND_TIERS = "not usable"
#: Lower ends of the bins of force length (eV/A) and of molecule size (atoms).
FORCE_BINS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SIZE_BINS = (1, 9, 17, 25, 33, 49, 65, 97)
#: Splits of more molecules are not told apart by molecule.
MOST_MOLECULES = 100

Count = Annotated[int, Field(ge=1)]


class AccuracySettings(Settings):
    """What ``accuracy`` may be told by ``--settings``."""

    place: ClassVar[str] = "accuracy --settings"

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the student runs")
    n_configurations: Count = Field(20_000, description="most of a split")
    n_points: Count = Field(1000, description="kept for parity plots")
    seed: Seed = Field(0, description="of both choices")
    batch_atoms: Count = Field(4096, description="atoms at once")
    threads: Count | None = Field(None, description="of PyTorch; null: as PyTorch chooses")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``accuracy``."""
    parser.description = "Compare a student with its teacher's labels on parts of a dataset."
    parser.add_argument("--checkpoint", type=Path, required=True, help="student (safetensors)")
    parser.add_argument("--dataset", type=Path, required=True, help="labeled configurations (HDF5 or extxyz)")
    parser.add_argument(
        "--splits",
        help="comma-separated, or all for the whole dataset as one; default: all splits of the dataset except train",
    )
    parser.add_argument("--dataset-card", type=Path, help="card of the dataset, which identifies its sample")
    parser.add_argument("--expected", type=Path, help="accuracy records shipped with the student, to compare with")
    parser.add_argument(
        "--settings", default="{}", help=f"JSON text or file with any of {', '.join(AccuracySettings.model_fields)}"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON of records (kind accuracy) to write")


def run(args: argparse.Namespace) -> int:
    """One record for each split; 0 when they are written, whatever the accuracy."""
    settings = AccuracySettings.from_mapping(load_settings(args.settings))
    if settings.threads:
        torch.set_num_threads(settings.threads)
    student = load_student(args.checkpoint, device=choose_device(settings.device))
    dataset = read_dataset(args.dataset)
    check_learned(dataset, args.checkpoint)
    about = {"student_sha256": sha256_of(args.checkpoint), "labels": dataset.teacher or None}
    about["sample_sha256"] = sample_identity(read_json(args.dataset_card)) if args.dataset_card else None
    trained = names_in(dataset.of_split("train")) if "train" in dataset.splits else set()
    made = []
    for split in args.splits.split(",") if args.splits else held_out_splits(dataset):
        split = split.strip()
        part = dataset if split == "all" else dataset.of_split(split)
        if len(part) == 0:
            reason = f"no labeled configurations of the split {split!r} in {args.dataset.name}"
            made.append(_record(student, split, **about, status="unavailable", reason=reason))
            print(f"{split}: {reason}")
            continue
        part = thinned(part, settings.n_configurations, settings.seed)
        found = measure(student, part, settings.n_points, settings.seed, settings.batch_atoms)
        if trained:
            found["trained_molecules"] = len(names_in(part) & trained)
        made.append(_record(student, split, **about, **found))
        print(
            f"{split}: force MAE {found['force_mae_mev_per_a']:.1f} meV/A ({found['tier']}), "
            f"R2 {found['force_r2']:.5f}, energy MAE {found['energy_mae_mev_per_atom']:.2f} meV/atom, "
            + (f"stress MAE {found['stress_mae_gpa']:.2f} GPa, " if "stress_mae_gpa" in found else "")
            + f"{found['n_configurations']} configurations"
        )
    if args.expected:
        made = compare(made, args.expected)
        for record in made:
            if record["card"]:
                print(f"{record['split']}: {'as the card says' if record['card']['agrees'] else record['reason']}")
    schema.write(args.output, made)
    return 0


def held_out_splits(dataset: Dataset) -> list[str]:
    """The splits of ``dataset`` other than ``train``.

    Raises:
        UserError: there are none.
    """
    present = [name for row, name in enumerate(dataset.splits) if name != "train" and (dataset.split == row).any()]
    if not present:
        raise UserError("the dataset has no held-out configurations: all are in the split 'train'")
    return present


def names_in(dataset: Dataset) -> set[str]:
    """Names of the molecules and structures of which ``dataset`` has configurations."""
    return {dataset.molecules[i] for i in np.unique(dataset.molecule)}


def measure(
    student: StudentForceField, dataset: Dataset, n_points: int = 1000, seed: int = 0, batch_atoms: int = 4096
) -> dict[str, Any]:
    """The student's errors on labeled configurations.

    Args:
        student: on its device.
        dataset: at least one configuration.
        n_points: force components in the parity plot, chosen at random.
        seed: of that choice.
        batch_atoms: see :func:`predict`.

    Returns:
        Fields of an ``accuracy`` record. Forces: MAE, RMSE (meV/A), R2 and the labels' own root mean square over components,
        mean cosine over atoms with labels above 0.05 eV/A. Energies: MAE and RMSE per atom (meV), and the MAE after
        subtracting each molecule's mean error (which does not matter in MD). Where any label has a stress its errors, too
        (:func:`~mlff_distiller.training.evaluate.stress_errors`). Force errors also ``by_element`` and
        ``by_force``, force and energy errors ``by_size`` and ``by_method``, and ``by_molecule`` where they are not too many
        (:data:`MOST_MOLECULES`). ``parity``: force components of ``teacher`` and
        ``student``, eV/A, and the atomic number of each. Of a student with a domain
        also :func:`~mlff_distiller.training.reliability.reliability`.
    """
    references = student.reference_energies.cpu().numpy()
    configurations = Configurations.build(dataset, references, student.cutoff, student.device, student.dtype)
    parameters = dict(student.network.named_parameters())
    energies, forces, stresses = predict(student.network, parameters, configurations, batch_atoms)
    truth = dataset.forces.astype(np.float64)
    forces = forces.cpu().numpy().astype(np.float64)
    wrong = forces - truth
    # eV/atom; the references were subtracted in fp64 on both sides
    energy_errors = (energies - configurations.energies).cpu().numpy().astype(np.float64) / dataset.n_atoms
    owner = np.repeat(np.arange(len(dataset)), dataset.n_atoms)
    mae = MEV * float(np.abs(wrong).mean())
    chosen = np.sort(np.random.default_rng(seed).permutation(truth.size)[:n_points])
    elements, element = np.unique(dataset.numbers, return_inverse=True)
    by_force = Groups.of_values(np.linalg.norm(truth, axis=1), FORCE_BINS)
    by_size = Groups.of_values(dataset.n_atoms, SIZE_BINS)
    by_method = Groups(dataset.method, dataset.methods)
    molecules, molecule = np.unique([dataset.molecules[row] for row in dataset.molecule], return_inverse=True)
    few = len(molecules) <= MOST_MOLECULES
    return {
        "n_configurations": len(dataset),
        "n_molecules": len(np.unique(dataset.molecule)),
        "force_mae_mev_per_a": mae,
        "force_rmse_mev_per_a": MEV * float(np.sqrt((wrong**2).mean())),
        "force_rms_mev_per_a": MEV * float(np.sqrt((truth**2).mean())),
        "force_r2": _r2(truth, wrong),
        "force_cosine": _cosine(truth, forces),
        "energy_mae_mev_per_atom": MEV * float(np.abs(energy_errors).mean()),
        "energy_rmse_mev_per_atom": MEV * float(np.sqrt((energy_errors**2).mean())),
        "relative_energy_mae_mev_per_atom": MEV * _mae_without_offset(energy_errors, dataset.molecule),
        **({} if stresses is None else stress_errors(configurations, stresses)),
        "tier": tier(mae),
        "by_element": Groups(element, [str(number) for number in elements]).force_errors(wrong),
        "by_force": by_force.force_errors(wrong),
        "by_size": by_size.errors(owner, wrong, energy_errors),
        "by_method": by_method.errors(owner, wrong, energy_errors),
        **({"by_molecule": Groups(molecule, molecules.tolist()).errors(owner, wrong, energy_errors)} if few else {}),
        "parity": {
            "teacher": np.round(truth.reshape(-1)[chosen], 5).tolist(),
            "student": np.round(forces.reshape(-1)[chosen], 5).tolist(),
            "numbers": dataset.numbers[chosen // 3].tolist(),
        },
    } | ({} if student.domain is None else {"reliability": reliability(student, dataset, wrong, seed)})


def tier(force_mae: float) -> str:
    """The name in :data:`TIERS` of a force MAE (meV/A) on held-out molecules."""
    return next((name for limit, name in TIERS if force_mae <= limit), BEYOND_TIERS)


def _record(student: StudentForceField, split: str, **fields: Any) -> dict[str, Any]:
    dtype = str(student.dtype).removeprefix("torch.")
    return schema.record("accuracy", variant="student", split=split, device=student.device.type, dtype=dtype, **fields)


def _r2(truth: np.ndarray, wrong: np.ndarray) -> float | None:
    spread = ((truth - truth.mean()) ** 2).sum()
    return float(1.0 - (wrong**2).sum() / spread) if spread > 0 else None


def _cosine(truth: np.ndarray, forces: np.ndarray) -> float | None:
    lengths, others = np.linalg.norm(truth, axis=1), np.linalg.norm(forces, axis=1)
    strong = lengths > 0.05  # the direction of a nearly zero force is noise
    if not strong.any():
        return None
    product = (truth[strong] * forces[strong]).sum(axis=1)
    return float((product / (lengths[strong] * np.maximum(others[strong], 1e-12))).mean())


def _mae_without_offset(energy_errors: np.ndarray, molecule: np.ndarray) -> float:
    _, row, count = np.unique(molecule, return_inverse=True, return_counts=True)
    offset = np.bincount(row, weights=energy_errors) / count
    several = count[row] > 1
    return float(np.abs(energy_errors - offset[row])[several].mean()) if several.any() else float("nan")


@dataclass(frozen=True)
class Groups:
    """Assigns n items to groups: ``member`` [n] indexes ``names``; results leave out empty groups."""

    member: np.ndarray
    names: Sequence[str]

    @classmethod
    def of_values(cls, values: np.ndarray, edges: Sequence[float]) -> "Groups":
        """Groups by bins of the value, with lower ends ``edges``; the last bin has no upper end."""
        names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)] + [f"{edges[-1]:g} and more"]
        return cls(np.searchsorted(edges, values, side="right") - 1, names)

    def force_errors(self, wrong: np.ndarray) -> dict[str, dict[str, float]]:
        """Group -> number of atoms, MAE and RMSE (meV/A) of the errors ``wrong`` [n, 3] eV/A."""
        found = {}
        for row, name in enumerate(self.names):
            if len(own := wrong[self.member == row]):
                found[name] = {
                    "n_atoms": len(own),
                    "force_mae_mev_per_a": MEV * float(np.abs(own).mean()),
                    "force_rmse_mev_per_a": MEV * float(np.sqrt((own**2).mean())),
                }
        return found

    def errors(self, owner: np.ndarray, wrong: np.ndarray, energy_errors: np.ndarray) -> dict[str, dict[str, float]]:
        """Group of configurations -> errors of forces and energies; ``owner`` [T] is the configuration of each atom."""
        found = Groups(self.member[owner], self.names).force_errors(wrong)
        for row, name in enumerate(self.names):
            if name in found:
                here = energy_errors[self.member == row]
                found[name]["n_configurations"] = len(here)
                found[name]["energy_mae_mev_per_atom"] = MEV * float(np.abs(here).mean())
        return found
