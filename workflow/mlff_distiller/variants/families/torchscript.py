"""TorchScript: the whole energy, neighbor search included, as one scripted module; forces by autograd through it."""

import torch

from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.variants.base import VariantFamily

ARTIFACT = "student_model_jit.pt"


class TorchScript(VariantFamily):
    """``torch.jit.script``. The artifact is a program: load only what this workflow built."""

    def build(self, student, spec, folder):
        """Script and save the student."""
        torch.jit.script(student).save(str(folder / ARTIFACT))
        return ARTIFACT

    def load(self, student, spec, folder):
        """The saved program on the student's device."""
        return AutogradPotential(student, torch.jit.load(str(folder / ARTIFACT), map_location=student.device))


FAMILY = TorchScript()
