"""The student as a metatomic model, in metatomic's calculator for ASE."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from metatomic_ase import MetatomicCalculator

from mlff_distiller.deploy.bundle import read_bundle
from mlff_distiller.deploy.engine_runs.ase import verlet
from mlff_distiller.deploy.engine_runs.nve import Nve, Plan
from mlff_distiller.deploy.engines.metatomic import export

if TYPE_CHECKING:
    from ase import Atoms


class Runner:
    """See :class:`mlff_distiller.deploy.engine_runs.nve.Runner`."""

    computed_by = "torchscript"

    def __init__(self, bundle: Path, folder: Path, threads: int):
        torch.set_num_threads(threads)
        self.version, self.device = version("metatomic-torch"), read_bundle(bundle)["device"]
        model = export(bundle, folder / "student.pt")
        # One for all runs: TorchScript compiles in the first calls of each.
        self.calculator = MetatomicCalculator(model, device=self.device)

    def __call__(self, atoms: "Atoms", plan: Plan) -> Nve:
        return verlet(atoms, self.calculator, plan)
