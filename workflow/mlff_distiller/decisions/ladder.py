"""The ladder of variants: from eager PyTorch to fused kernels, each step with one more optimization."""

from typing import Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.variants.registry import FAMILIES

#: (family, options that select the step, what the step adds), from the bottom of the ladder to the top.
LADDER_STEPS: tuple[tuple[str, dict[str, Any], str], ...] = (
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
    ("analytic", {"compile": "inductor"}, "forces derived by hand, compiled"),
    ("cuda_graph", {"forces": "autograd", "compile": "none"}, "one CUDA graph of eager"),
    ("cuda_graph", {"forces": "autograd", "compile": "inductor"}, "one CUDA graph of compiled eager"),
    ("cuda_graph", {"forces": "analytic", "compile": "none"}, "one CUDA graph of hand-derived forces"),
    ("cuda_graph", {"forces": "analytic", "compile": "inductor"}, "one CUDA graph, hand-derived and compiled"),
    ("triton", {"graph": False}, "fused Triton kernels"),
    ("triton", {"graph": True}, "fused Triton kernels as one CUDA graph"),
    ("cpp", {}, "fused C++ kernel"),
    ("cuda", {}, "fused CUDA kernel, one launch"),
    ("schnetpack", {}, "SchNetPack's PaiNN: another network"),
)


def ladder_step(spec: dict[str, Any]) -> tuple[int, str]:
    """Position of a variant in :data:`LADDER_STEPS` and what it adds, as text; families without a step come last.

    Args:
        spec: family and options, as the compile record has them (``options``).
    """
    family = spec.get("family", "")
    known = FAMILIES.get(family)
    defaults = {name: values[0] for name, values in known.options.items()} if known else {}
    given = defaults | spec
    for position, (name, options, words) in enumerate(LADDER_STEPS):
        if name == family and all(given.get(key) == value for key, value in options.items()):
            others = {key: value for key, value in defaults.items() if key not in options and given[key] != value}
            return position, ", ".join([words, *(f"{key} {given[key]}" for key in others)])
    return len(LADDER_STEPS), known.summary if known else ""


def ladder(run: Run) -> list[tuple[str, str]]:
    """(variant, what it adds) of each variant that was timed or did not work, from the bottom of the ladder to the top.

    Of one step, the fastest is on top.
    """
    specs = {entry["variant"]: entry.get("options") or {} for entry in run.of("compile")}
    shown = [name for name in run.variants if name in run.problems() or run.speedups(name, "energy_forces")]
    places = {name: ladder_step({"family": run.families[name], **specs.get(name, {})}) for name in shown}

    def place(name: str) -> tuple[int, float]:
        overall = run.overall(name, "energy_forces")
        return places[name][0], overall.value if overall else 0.0

    return [(name, places[name][1]) for name in sorted(shown, key=place)]


def rungs(run: Run, most: int = 8) -> list[tuple[str, str]]:
    """The steps of :func:`ladder` that tell the story: eager, the fastest of each family that may be used, the winner."""
    ranking = [name for name, _ in run.proven("energy_forces")]
    winner = run.winner()
    chosen = [BASELINE, *([winner[0]] if winner else [])]
    for name in ranking:
        if name not in run.same_code and run.families[name] not in {run.families[other] for other in chosen}:
            chosen.append(name)
    # Another neighbor search is a step of eager's own family.
    chosen += [name for name in ranking if run.families[name] == BASELINE][:1]
    return [step for step in ladder(run) if step[0] in chosen[:most]]
