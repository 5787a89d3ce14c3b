"""Check of the teacher before any work: it can be made, knows the elements, and forces and stress belong to its energy."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlff_distiller.data.gradient_check import TOLERANCE, slopes, strain_slopes
from mlff_distiller.data.structures import read_structures
from mlff_distiller.data.teacher import LabelError, label, make_calculator, teacher_name
from mlff_distiller.data.teacher_settings import TeacherInput, TeacherSettings
from mlff_distiller.records import schema
from mlff_distiller.systems.read import read_systems
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import load_settings

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

#: Of a wrong stress that no label has.
NOT_LEARNED = "this stress is no derivative, and no label has it; set teacher.stress: false before cells are labeled"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules; the smallest is labeled")
    parser.add_argument("--structures", nargs="*", default=[], help="files that are sampled; each is labeled")
    parser.add_argument(
        "--structures-alone",
        action="store_true",
        help="nothing else is sampled: the systems may have their elements only",
    )
    parser.add_argument(
        "--cells-learned",
        action="store_true",
        help="other cells are labeled, too (boxes of liquids, frames that the student visits)",
    )
    parser.add_argument("--settings", default="{}", help="with a 'teacher' mapping (JSON text or a file)")
    parser.add_argument("--output", type=Path, required=True, help="the record to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """Label the smallest molecule and every structure, compare forces and stress with energies; what is wrong is a UserError."""
    settings = TeacherInput.from_mapping(load_settings(args.settings)).teacher
    systems, structures = read_systems(args.systems), read_structures(args.structures)
    if args.structures_alone:
        _check_covered(systems, structures)
    smallest = min(systems, key=lambda name: len(systems[name]))
    calculator = make_calculator(settings.to_mapping())
    labeled = {smallest: systems[smallest]} | structures
    checks = [_labels(name, atoms, calculator, settings) for name, atoms in labeled.items()]
    # Both kinds once: a teacher may be right for molecules and wrong for cells.
    first = min(structures, key=lambda name: len(structures[name])) if structures else smallest
    checks += [_forces(name, labeled[name], calculator, settings) for name in dict.fromkeys((smallest, first))]
    # Structures are learned; the stress of a system says something of labels only where other cells have some.
    for among in (structures, labeled):
        if cells := [name for name, atoms in among.items() if atoms.pbc.all()]:
            cell = min(cells, key=lambda name: len(labeled[name]))
            checks += _stress(cell, labeled[cell], calculator, settings, cell in structures or args.cells_learned)
            break
    schema.write(args.output, [schema.record("preflight", task="teacher", checks=checks)])
    return 0


def _check_covered(systems: "Mapping[str, Atoms]", structures: "Mapping[str, Atoms]") -> None:
    learned = {symbol for atoms in structures.values() for symbol in atoms.get_chemical_symbols()}
    for name, atoms in systems.items():
        if strange := sorted(set(atoms.get_chemical_symbols()) - learned):
            raise UserError(
                f"{name}: no {', '.join(strange)} in student.sampling.structures, and nothing else is sampled, so that the "
                "student would know nothing of it; leave it out of molecules.systems (and of md.systems), or add a file"
            )


def _labels(name: str, atoms: "Atoms", calculator: "Calculator", settings: TeacherSettings) -> dict[str, object]:
    teacher = teacher_name(settings.to_mapping())
    started = time.perf_counter()
    try:
        energy, _ = label(atoms, calculator)
    except LabelError as error:
        unknown = _unknown_elements(atoms, calculator)
        told = f"it gives no energy for {', '.join(unknown)} either" if unknown else ""
        raise UserError(
            f"teacher: {teacher} cannot label {name}: {error}; {told or 'mend teacher.calculator or teacher.arguments'}"
            f"{'; leave the file out, or name a teacher that knows these elements' if unknown else ''}"
        ) from None
    value = f"{teacher}: {name} has {energy:.6g} eV, in {time.perf_counter() - started:.2g} s"
    return {"name": "teacher", "value": value, "ok": True, "advice": ""}


def _unknown_elements(atoms: "Atoms", calculator: "Calculator") -> list[str]:
    """Elements of ``atoms`` of which the teacher does not label a single atom, where it labels one of another element."""
    from ase import Atoms

    refused = []
    symbols = sorted(set(atoms.get_chemical_symbols()))
    for symbol in symbols:
        try:
            label(Atoms(symbol, cell=[12.0] * 3, pbc=atoms.pbc), calculator)
        except LabelError:
            refused.append(symbol)
    return refused if len(refused) < len(symbols) or len(symbols) == 1 else []


def _forces(name: str, atoms: "Atoms", calculator: "Calculator", settings: TeacherSettings) -> dict[str, object]:
    try:
        found = slopes(atoms, calculator)
    except LabelError as error:
        raise UserError(
            f"teacher: {teacher_name(settings.to_mapping())} cannot label {name} with its atoms displaced: {error}; mend "
            "teacher.calculator or teacher.arguments"
        ) from None
    value = f"gradient of the energy to {found.worst:.1%} for {name} (limit {TOLERANCE:.0%})"
    if not found.agree and settings.check_forces:
        raise UserError(
            f"teacher: the forces of {teacher_name(settings.to_mapping())} are not the gradient of its energy: for {name} the "
            f"energy's slopes along random directions, by finite differences and by the forces, are {found.told()} eV/A. A "
            "student's forces are its energy's gradient, so it cannot learn both. Are the units eV and eV/A? Does the model "
            "predict forces directly? Then name one with conservative forces; teacher.check_forces: false takes it as it is"
        )
    advice = "" if found.agree else "these forces are no gradient: teacher.check_forces is false"
    return {"name": "teacher's forces", "value": value, "ok": True, "advice": advice}


def _stress(
    name: str, atoms: "Atoms", calculator: "Calculator", settings: TeacherSettings, learned: bool
) -> list[dict[str, object]]:
    """The check of the stress of a periodic cell; a wrong one that is not ``learned`` is advice alone."""
    if not settings.stress:
        return []
    teacher = teacher_name(settings.to_mapping())
    try:
        found = strain_slopes(atoms, calculator)
    except LabelError as error:
        if not learned:
            value = f"{teacher} cannot label {name} in a strained cell: {error}"
            return [{"name": "teacher's stress", "value": value, "ok": True, "advice": NOT_LEARNED}]
        raise UserError(
            f"teacher: {teacher} cannot label {name} in a strained cell: {error}; mend teacher.calculator or "
            "teacher.arguments, or label without stress: teacher.stress: false"
        ) from None
    if found is None:
        value, advice = f"{teacher} gives none for {name}", "the student learns from energies and forces alone"
        return [{"name": "teacher's stress", "value": value, "ok": True, "advice": advice}]
    if not found.agree and settings.check_forces and learned:
        raise UserError(
            f"teacher: the stress of {teacher} is not the derivative of its energy by the strain: for {name} the energy's slopes "
            f"along random strains, by finite differences and by the stress times the volume, are {found.told()} eV. Expected "
            "is ASE's stress: eV/A^3, positive where the cell pulls. Mend teacher.calculator or teacher.arguments; "
            "teacher.stress: false labels without it, teacher.check_forces: false takes it as it is"
        )
    value = f"derivative of the energy by the strain to {found.worst:.1%} for {name} (limit {TOLERANCE:.0%})"
    taken = "this stress is no derivative: teacher.check_forces is false" if learned else NOT_LEARNED
    advice = "" if found.agree else taken
    return [{"name": "teacher's stress", "value": value, "ok": True, "advice": advice}]
