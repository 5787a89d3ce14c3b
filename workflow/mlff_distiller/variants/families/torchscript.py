"""TorchScript: the whole energy, neighbor search included, as one scripted module; forces by autograd through it."""

import io
from typing import Any

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
        return ScriptedPotential(student, torch.jit.load(str(folder / ARTIFACT), map_location=student.device))


class ScriptedPotential(AutogradPotential):
    """Autograd through the scripted student; in a pickle the program is what its file holds."""

    def __getstate__(self) -> dict[str, Any]:
        program = io.BytesIO()
        torch.jit.save(self.module, program)
        return self.__dict__ | {"module": program.getvalue()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        module = torch.jit.load(io.BytesIO(state["module"]), map_location=state["device"])
        self.__dict__.update(state | {"module": module})


FAMILY = TorchScript()
