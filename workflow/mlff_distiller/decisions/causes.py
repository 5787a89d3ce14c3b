"""Evidence for the cause that a claim names: operations and launches, graphs of compiled variants, first calls."""

from collections.abc import Callable
from fnmatch import fnmatchcase

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import TASKS
from mlff_distiller.records.wording import title


def evidence(words: list[str], run: Run, pattern: str) -> str:
    """One sentence per word of ``words`` (keys of :data:`EVIDENCE`) and variant that matches ``pattern``.

    Words and variants without such a record give no sentence.
    """
    names = [name for name in run.variants if fnmatchcase(name, pattern)]
    return " ".join(sentence for word in words for name in names if (sentence := EVIDENCE[word](run, name)))


def _launches(run: Run, name: str) -> str:
    per_task = []
    for task in TASKS:
        found = [e for e in run.benchmarks(name, task).values() if e.get("n_operations") is not None]
        if not found:
            continue
        words = f"{found[0]['n_operations']:.0f} operations"
        if found[0].get("n_launches") is not None:
            words += f", {found[0]['n_launches']:.0f} launches of {found[0]['n_kernels']:.0f} kernels"
            busy = [e["gpu_busy_percent"] for e in found if e.get("gpu_busy_percent") is not None]
            words += f", GPU {min(busy):.2g} to {max(busy):.2g} % busy over the molecules" if busy else ""
        per_task.append(f"{words} per {task.replace('_', ' + ')}")
    return f"{name}: {'; '.join(per_task)}." if per_task else ""


def _graphs(run: Run, name: str) -> str:
    entry = next((e for e in run.of("compile", variant=name) if e.get("n_graphs") is not None), None)
    if entry is None:
        return ""
    return (
        f"{name}: {entry['n_graphs']} graphs, {entry['n_graph_breaks']} breaks, {entry['n_recompiles']} recompilations."
    )


def _first_calls(run: Run, name: str) -> str:
    calls = run.first_calls().get(name) or {}
    if not calls:
        return ""
    system, times = next(iter(calls.items()))
    shown = ", ".join(f"{time:.3g}" for time in times)
    return f"{name}: the first calls on {title(system)} took {shown} ms."


def _spread(run: Run, name: str) -> str:
    found = [e for e in run.benchmarks(name, "energy_forces").values() if e.get("median_ms") and e.get("p95_ms")]
    if not found:
        return ""
    worst = max(found, key=lambda e: e["p95_ms"] / e["median_ms"])
    ratio = worst["p95_ms"] / worst["median_ms"]
    return f"{name}, once warm: the 95th percentile is at most {ratio:.2f} times the median ({title(worst['system'])})."


#: Word in a file of claims -> function of run and variant that returns a sentence, empty without a record.
EVIDENCE: dict[str, Callable[[Run, str], str]] = {
    "launches": _launches,
    "graphs": _graphs,
    "first_calls": _first_calls,
    "spread": _spread,
}
