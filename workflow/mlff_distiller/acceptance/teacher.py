"""Stage ``acceptance-teacher``: molecules and crystals of the acceptance suite, and what the teacher finds. Imports no torch."""

import argparse
from pathlib import Path

from mlff_distiller.acceptance.cases import CaseMaker
from mlff_distiller.acceptance.crystal_cases import crystal_cases, unserved
from mlff_distiller.acceptance.exchange import write_cases
from mlff_distiller.acceptance.molecules import trained_on
from mlff_distiller.acceptance.settings import AcceptanceInput
from mlff_distiller.data.always_trained import read_always_trained
from mlff_distiller.data.coverage import check_periodic
from mlff_distiller.data.molecule_list import read_molecule_list
from mlff_distiller.data.structures import read_structures
from mlff_distiller.data.teacher import make_calculator, teacher_name
from mlff_distiller.utils.files import load_settings, read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.description = "Optimise, vibrate and turn small unseen molecules and your own; strain and shake crystals."
    parser.add_argument("--molecules", type=Path, required=True, help="list of molecules (CSV: name, smiles, class)")
    parser.add_argument(
        "--settings", default="{}", help="'acceptance', 'teacher' and 'sampling' mappings (JSON text or a file)"
    )
    parser.add_argument("--always-trained", type=Path, help="molecules that `coverage` trains on (CSV)")
    parser.add_argument("--dataset-card", type=Path, help="of what a given checkpoint was trained on (JSON)")
    parser.add_argument("--crystals", nargs="*", default=[], help="structures; molecules among them are passed over")
    parser.add_argument(
        "--crystals-split",
        default="unknown",
        help="part of the student's data that they belong to (default %(default)s)",
    )
    parser.add_argument("--own-molecules", nargs="*", default=[], help="structures; periodic ones are passed over")
    parser.add_argument(
        "--own-molecules-split",
        default="unknown",
        help="part of the student's data that they belong to (default %(default)s)",
    )
    parser.add_argument("--own-alone", action="store_true", help="no molecules of the list: the student knows none")
    parser.add_argument("--output", type=Path, required=True, help="what the teacher found (JSON), for `acceptance`")


def run(args: argparse.Namespace) -> int:
    """Write the cases; 0 also when some of them failed: they say why."""
    settings = AcceptanceInput.from_mapping(load_settings(args.settings))
    teacher = settings.teacher.to_mapping()
    crystals = read_structures(args.crystals)
    if any(not unserved(atoms, settings.acceptance.crystals) for atoms in crystals.values()):
        instead = "Name another teacher, or compare no crystals (acceptance.crystals.files: [])"
        check_periodic(teacher, "acceptance.crystals", instead)
    calculator = make_calculator(teacher)
    cases = list(
        crystal_cases(
            calculator, settings.acceptance.crystals, crystals, args.crystals_split, with_stress=settings.teacher.stress
        )
    )
    always = read_always_trained(args.always_trained) if args.always_trained else []
    card = read_json(args.dataset_card) if args.dataset_card else None
    trained = trained_on(always, settings.sampling, card)
    maker = CaseMaker(calculator, settings.acceptance, settings.sampling, trained)
    own = {name: atoms for name, atoms in read_structures(args.own_molecules).items() if not atoms.pbc.any()}
    cases += maker.of_own(own, args.own_molecules_split)
    if not args.own_alone:
        cases += maker.all(read_molecule_list(args.molecules))
    write_cases(args.output, teacher_name(teacher), settings.acceptance.to_mapping(), cases)
    failed = sum(case["status"] != "ok" for case in cases)
    print(f"{len(cases)} cases, {failed} failed")
    return 0
