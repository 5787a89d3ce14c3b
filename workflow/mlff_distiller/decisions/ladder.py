"""The ladder of variants, from eager to fused kernels: the order in which one thing after another was added."""

from typing import Any

from mlff_distiller.records.run import Run
from mlff_distiller.variants.registry import FAMILIES

#: (family, options that tell its rungs apart, what it adds), lowest rung first.
RUNGS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("eager", {"neighbors": "native"}, "PyTorch as it comes"),
    ("eager", {"neighbors": "torch_cluster"}, "torch-cluster's neighbor search"),
    ("eager", {"neighbors": "vesin"}, "vesin's neighbor search"),
    ("autocast", {"dtype": "float16"}, "16-bit products by autocast"),
    ("autocast", {"dtype": "bfloat16"}, "16-bit products by autocast"),
    ("torchscript", {"neighbors": "native"}, "scripted model"),
    ("torchscript", {"neighbors": "torch_cluster"}, "scripted, torch-cluster's search"),
    ("torch_compile", {"scope": "energy"}, "Inductor on the energy"),
    ("torch_compile", {"scope": "energy_forces"}, "Inductor on energy and forces"),
    ("analytic", {"compile": "none"}, "forces derived by hand"),
    ("analytic", {"compile": "inductor"}, "… and compiled"),
    ("cuda_graph", {"forces": "autograd", "compile": "none"}, "one CUDA graph of eager"),
    ("cuda_graph", {"forces": "autograd", "compile": "inductor"}, "… compiled first"),
    ("cuda_graph", {"forces": "analytic", "compile": "none"}, "… of hand-derived forces"),
    ("cuda_graph", {"forces": "analytic", "compile": "inductor"}, "… of both"),
    ("triton", {"graph": False}, "fused Triton kernels"),
    ("triton", {"graph": True}, "… as one CUDA graph"),
    ("cpp", {}, "fused C++ kernel"),
    ("cuda", {}, "fused CUDA kernel, one launch"),
    ("schnetpack", {}, "SchNetPack's PaiNN: another network"),
)


def rung_of(spec: dict[str, Any]) -> tuple[int, str]:
    """Where a variant stands on the ladder, and what it adds in words; families without a rung stand last.

    Args:
        spec: family and options, as the compile record has them (``options``).
    """
    family = spec.get("family", "")
    known = FAMILIES.get(family)
    defaults = {name: values[0] for name, values in known.options.items()} if known else {}
    given = defaults | spec
    for position, (name, options, words) in enumerate(RUNGS):
        if name == family and all(given.get(key) == value for key, value in options.items()):
            others = {key: value for key, value in defaults.items() if key not in options and given[key] != value}
            return position, ", ".join([words, *(f"{key} {given[key]}" for key in others)])
    return len(RUNGS), known.summary if known else ""


def ladder(run: Run) -> list[tuple[str, str]]:
    """(variant, what it adds) of every variant that was timed or that did not work, lowest rung first."""
    specs = {entry["variant"]: entry.get("options") or {} for entry in run.of("compile")}
    shown = [name for name in run.variants if name in run.problems() or run.speedups(name, "energy_forces")]
    places = {name: rung_of({"family": run.families[name], **specs.get(name, {})}) for name in shown}
    return [(name, places[name][1]) for name in sorted(shown, key=lambda name: places[name][0])]
