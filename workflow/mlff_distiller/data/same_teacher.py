"""Stage ``same-teacher``: whether labels of one's own are those of the teacher that is to label more: some are labeled again."""

import argparse
from pathlib import Path

import numpy as np

from mlff_distiller.data.dataset import Dataset, content_hash
from mlff_distiller.data.labeling_settings import LabelInput
from mlff_distiller.data.read import read_dataset
from mlff_distiller.data.teacher_settings import TeacherSettings
from mlff_distiller.utils.errors import UserError

#: Configurations that are labeled again.
ASKED = 8
#: By how much labels of one teacher may differ, eV/atom, eV/A, eV/A^3: programs round, and files are written with few digits.
ENERGY_TOLERANCE, FORCE_TOLERANCE, STRESS_TOLERANCE = 1e-3, 1e-2, 1e-3


def differences(dataset: Dataset, teacher: dict) -> tuple[float, float, float | None]:
    """Largest difference of the teacher's energies (eV/atom), forces (eV/A), stress (eV/A^3) from some labels of ``dataset``.

    The stress is compared where both have one, unless ``teacher["stress"]`` is false; None where it nowhere is.

    Raises:
        UserError: the teacher cannot be made, or labels none of them.
    """
    from mlff_distiller.data.teacher import LabelError, label, label_stress, make_calculator

    calculator = make_calculator(teacher)
    with_stress = dataset.has_stress & TeacherSettings.from_mapping(teacher).stress
    energies, forces, stresses, failed = [], [], [], ""
    for i in np.unique(np.linspace(0, len(dataset) - 1, ASKED).round().astype(int)).tolist():
        atoms = dataset.atoms(i)
        known = atoms.info["energy"], atoms.arrays["forces"]
        calculator.reset()
        try:
            energy, found = label(atoms, calculator)
            stress = label_stress(atoms, calculator) if with_stress[i] else None
        except LabelError as error:
            failed = str(error)
            continue
        energies.append(abs(energy - known[0]) / len(atoms))
        forces.append(float(np.abs(found - known[1]).max()))
        if stress is not None:
            stresses.append(float(np.abs(stress - dataset.stresses[i]).max()))
    if not energies:
        raise UserError(f"same-teacher: the teacher labels none of {ASKED} configurations again: {failed}")
    return max(energies), max(forces), max(stresses, default=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``same-teacher``."""
    parser.description = "Label some configurations of a dataset again: are its labels those of this teacher?"
    parser.add_argument("--dataset", type=Path, required=True, help="labeled dataset (HDF5 or extxyz)")
    parser.add_argument("--settings", default="{}", help="JSON text or file: the mapping 'teacher'")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write for 'merge-data --same-teacher'")


def run(args: argparse.Namespace) -> int:
    """Compare and write; a :class:`UserError` where the labels are another teacher's."""
    from mlff_distiller.data.teacher import teacher_name
    from mlff_distiller.utils.files import load_settings, write_json

    teacher = LabelInput.from_mapping(load_settings(args.settings)).teacher.to_mapping()
    dataset = read_dataset(args.dataset)
    energy, force, stress = differences(dataset, teacher)
    told = f"energies differ by up to {energy:.2g} eV/atom, forces by up to {force:.2g} eV/A"
    told += f", the stress by up to {stress:.2g} eV/A^3" if stress is not None else ""
    if energy > ENERGY_TOLERANCE or force > FORCE_TOLERANCE or (stress or 0.0) > STRESS_TOLERANCE:
        raise UserError(
            f"{args.dataset}: these labels are not those of {teacher_name(teacher)}: {told} when labeled again. Name the "
            "teacher that made them in teacher.calculator and teacher.arguments, or set student.rounds.number: 0"
        )
    found = {"energy_ev_per_atom": energy, "force_ev_per_a": force, "stress_ev_per_a3": stress}
    write_json(
        args.output,
        {"content_sha256": content_hash(dataset), "teacher": teacher_name(teacher), "largest_difference": found},
    )
    print(f"{args.dataset}: labels of {teacher_name(teacher)} ({told})")
    return 0
