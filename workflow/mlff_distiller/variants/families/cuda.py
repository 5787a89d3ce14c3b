"""The CUDA C++ kernels, built by nvcc in seconds: one launch for a molecule, cells and cuBLAS for large systems."""

from typing import Any

from mlff_distiller.kernels.compile_time import copy_seconds
from mlff_distiller.kernels.cuda.build import build, unavailable
from mlff_distiller.utils.files import write_bytes
from mlff_distiller.variants.base import VariantFamily

ARTIFACT = "kernels"


class Cuda(VariantFamily):
    """The two kernels, compiled for this GPU.

    Option ``products``: how the matrices of large systems are multiplied (``fp16x3``, ``float32``, ``tf32``). Option ``form``: of
    the kernel for small molecules (:data:`~mlff_distiller.kernels.cuda.build.FORMS`); ``auto`` is the one for the GPU. Others
    are for trying on a newer card what an older one runs.

    The artifacts are programs for this GPU: load only what this workflow built.
    """

    def unavailable(self, spec, device):
        """It needs a GPU of compute capability 8.0 or newer, an nvcc that knows it, and for clusters 9.0."""
        if device != "cuda":
            return f"the CUDA kernels need a CUDA device; this run measures {device}"
        return unavailable(form_of(spec))

    def precision_of(self, spec):
        """Three products of halves are held to float32's tolerance."""
        return "tf32" if spec["products"] == "tf32" else "float32"

    def build(self, student, spec, folder):
        """Compile, or take from the user's cache, and copy."""
        import torch

        capability = torch.cuda.get_device_capability(student.device)
        for name in ("molecule", "neighbor_matrix"):
            library = build(student.config, capability, name, form_of(spec))
            write_bytes(folder / ARTIFACT / f"{name}.so", library.read_bytes())
            copy_seconds(library, folder)
        return ARTIFACT

    def load(self, student, spec, folder):
        """The potential; graphs are captured at the first call of each size."""
        from mlff_distiller.potentials.cuda import CudaPotential

        return CudaPotential(student, libraries=folder / ARTIFACT, products=spec["products"])


def form_of(spec: dict[str, Any]) -> str | None:
    """The form that a spec asks for; None for the one of the GPU."""
    return None if spec["form"] == "auto" else spec["form"]


FAMILY = Cuda()
