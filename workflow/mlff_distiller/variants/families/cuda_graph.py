"""CUDA graphs around PyTorch's own operations: autograd or the hand-derived forces, as they stand or through Inductor."""

from mlff_distiller.potentials.analytic import analytic_edge_gradient
from mlff_distiller.potentials.edgewise import autograd_edge_gradient
from mlff_distiller.potentials.graphed import GraphedPotential
from mlff_distiller.utils.compilers import no_compiler
from mlff_distiller.variants.base import VariantFamily
from mlff_distiller.variants.families.torch_compile import ARTIFACT, CompiledEdgeGradient, use_cache

EDGE_GRADIENTS = {"autograd": autograd_edge_gradient, "analytic": analytic_edge_gradient}


class CudaGraph(VariantFamily):
    """Options: ``forces`` (``autograd``, ``analytic``) and ``compile`` (``none``, ``inductor``)."""

    def unavailable(self, spec, device):
        """It needs a CUDA device, with Inductor a C++ compiler too."""
        if device != "cuda":
            return f"CUDA graphs need a CUDA device; this run measures {device}"
        return no_compiler() if spec["compile"] == "inductor" else None

    def build(self, student, spec, folder):
        """With Inductor: its cache, which loading and the first calls fill."""
        return None if spec["compile"] == "none" else ARTIFACT

    def load(self, student, spec, folder):
        """The potential; a graph is captured at the first call of each number of atoms and edges."""
        edge_gradient = EDGE_GRADIENTS[spec["forces"]](student)
        if spec["compile"] == "inductor":
            use_cache(folder / ARTIFACT)
            edge_gradient = CompiledEdgeGradient(edge_gradient, student)
        return GraphedPotential(student, edge_gradient)


FAMILY = CudaGraph()
