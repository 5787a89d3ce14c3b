"""The fused Triton kernels, launched one by one or as one CUDA graph."""

import importlib.util
import os

from mlff_distiller.variants.base import VariantFamily

ARTIFACT = "triton_cache"


class Triton(VariantFamily):
    """Options: ``precision`` of matrix products (see the potential) and ``graph``."""

    def unavailable(self, spec, device):
        """It needs a CUDA device and Triton, which PyTorch brings on Linux."""
        if device != "cuda":
            return f"the Triton kernels need a CUDA device; this run measures {device}"
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed; it comes with PyTorch's CUDA wheels for Linux"
        return None

    def precision_of(self, spec):
        """tf32x3 and ieee are held to float32's tolerance."""
        return {"tf32x3": "float32", "ieee": "float32", "tf32": "tf32", "bf16": "16bit"}[spec["precision"]]

    def build(self, student, spec, folder):
        """Triton's cache, which the first calls fill."""
        return ARTIFACT

    def load(self, student, spec, folder):
        """The potential; kernels come from the cache, graphs are captured at the first call of each size."""
        os.environ["TRITON_CACHE_DIR"] = str((folder / ARTIFACT).resolve())
        from mlff_distiller.potentials.triton import TritonPotential

        return TritonPotential(student, precision=spec["precision"], graph=spec["graph"])


FAMILY = Triton()
