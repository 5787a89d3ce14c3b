"""The families of variants and the options of each. Imports nothing heavy: the configuration is checked against it.

A variant in the configuration is a mapping with ``family`` and that family's options, e.g.
``torchscript_torch_cluster: {family: torchscript, neighbors: torch_cluster}``.
"""

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlff_distiller.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from mlff_distiller.variants.base import VariantFamily

#: Families whose potential takes a student of either precision.
IN_DOUBLE = ("eager", "analytic", "cpp")

NEIGHBORS = ("native", "torch_cluster", "vesin")


@dataclass(frozen=True)
class FamilyEntry:
    """Where a family lives and what may be chosen: option name -> allowed values, the first is the default."""

    module: str
    summary: str
    options: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    #: Whether it computes another network than the student: it is timed, and compared with nothing.
    another_network: bool = False


FAMILIES: dict[str, FamilyEntry] = {
    "eager": FamilyEntry(
        "mlff_distiller.variants.families.eager", "PyTorch as it comes, forces by autograd", {"neighbors": NEIGHBORS}
    ),
    "torchscript": FamilyEntry(
        "mlff_distiller.variants.families.torchscript",
        "TorchScript, forces by autograd",
        {"neighbors": ("native", "torch_cluster")},
    ),
    "torch_compile": FamilyEntry(
        "mlff_distiller.variants.families.torch_compile",
        "Inductor on the energy (autograd outside) or on energy + forces (autograd traced inside)",
        {"scope": ("energy", "energy_forces"), "neighbors": NEIGHBORS},
    ),
    "autocast": FamilyEntry(
        "mlff_distiller.variants.families.autocast",
        "mixed precision by autocast, forces by autograd",
        {"dtype": ("float16", "bfloat16"), "neighbors": NEIGHBORS},
    ),
    "analytic": FamilyEntry(
        "mlff_distiller.variants.families.analytic",
        "hand-derived forces in plain PyTorch, or compiled by Inductor",
        {"compile": ("none", "inductor"), "neighbors": NEIGHBORS},
    ),
    "cpp": FamilyEntry(
        "mlff_distiller.variants.families.cpp", "hand-derived forces as a fused, vectorized C++ kernel (CPU)"
    ),
    "cuda_graph": FamilyEntry(
        "mlff_distiller.variants.families.cuda_graph",
        "CUDA graph around PyTorch's operations (GPU)",
        {"forces": ("autograd", "analytic"), "compile": ("none", "inductor")},
    ),
    "triton": FamilyEntry(
        "mlff_distiller.variants.families.triton",
        "hand-derived forces as fused Triton kernels, launched one by one or as one CUDA graph (GPU)",
        {"precision": ("tf32x3", "ieee", "tf32", "bf16"), "graph": (True, False)},
    ),
    "schnetpack": FamilyEntry(
        "mlff_distiller.variants.families.schnetpack",
        "SchNetPack's PaiNN of the same size: another network, for its time alone",
        another_network=True,
    ),
    "cuda": FamilyEntry(
        "mlff_distiller.variants.families.cuda",
        "hand-derived forces as CUDA C++ kernels, one launch for a molecule (GPU, Ampere or newer)",
        {"products": ("fp16x3", "float32", "tf32"), "form": ("auto", "clusters", "grid16", "grid32")},
    ),
}


def check_spec(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The spec of variant ``name`` with defaults filled in.

    Raises:
        UserError: no or unknown family, unknown option or value; names the nearest right one.
    """
    if not isinstance(spec, dict) or "family" not in spec:
        raise UserError(f"variants: {name} must be a mapping with a 'family' (one of {', '.join(FAMILIES)})")
    family = spec["family"]
    if family not in FAMILIES:
        raise UserError(f"variants: {name}: unknown family {family!r}{nearest(family, FAMILIES)}")
    options = FAMILIES[family].options
    filled: dict[str, Any] = {"family": family} | {key: allowed[0] for key, allowed in options.items()}
    for key, value in spec.items():
        if key == "family":
            continue
        if key not in options:
            raise UserError(f"variants: {name}: {family} has no option {key!r}{nearest(key, options)}")
        # In Python, 1 is among (True, False).
        if not any(value is allowed or (isinstance(value, str) and value == allowed) for allowed in options[key]):
            raise UserError(f"variants: {name}: {key} cannot be {value!r}{nearest(value, options[key])}")
        filled[key] = value
    return filled


def family_of(spec: dict[str, Any]) -> "VariantFamily":
    """The family object that builds and loads variants of ``spec``."""
    return importlib.import_module(FAMILIES[spec["family"]].module).FAMILY


def has_double_form(spec: dict[str, Any]) -> bool:
    """Whether a variant's arithmetic can be had in fp64 too, from an fp64 student."""
    return spec.get("family") in IN_DOUBLE and spec.get("compile", "none") == "none"


def needs_torch_cluster(spec: dict[str, Any]) -> bool:
    """Whether a variant cannot run without torch-cluster."""
    return spec.get("neighbors") == "torch_cluster"
