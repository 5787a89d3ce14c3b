"""Hand-derived forces in plain PyTorch: as they stand, or compiled by Inductor as one function without autograd."""

from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.utils.compilers import no_compiler
from mlff_distiller.variants.base import VariantFamily
from mlff_distiller.variants.families.torch_compile import ARTIFACT, CompiledEdgeGradient, use_cache


class Analytic(VariantFamily):
    """Option ``compile``: ``none`` or ``inductor``."""

    def unavailable(self, spec, device):
        """Inductor writes C++; without it nothing is needed."""
        return no_compiler() if spec["compile"] == "inductor" else None

    def build(self, student, spec, folder):
        """With Inductor: its cache, which loading and the first calls fill."""
        return None if spec["compile"] == "none" else ARTIFACT

    def load(self, student, spec, folder):
        """The potential; compiled code comes from the cache at the first call."""
        if spec["compile"] == "none":
            return AnalyticPotential(student)
        use_cache(folder / ARTIFACT)
        compiled = CompiledEdgeGradient(analytic_edge_gradient(student), student)
        return AnalyticPotential(student, compiled)

    def in_double(self, student):
        """The same in fp64, uncompiled."""
        return AnalyticPotential(student)


FAMILY = Analytic()
