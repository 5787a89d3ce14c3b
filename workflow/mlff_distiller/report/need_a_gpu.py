"""Whether a GPU is worth it: its fastest variant beside the fastest that the same run timed on the host's CPU."""

from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio, geometric_mean, ratio_of
from mlff_distiller.records.wording import number, spread, times_as_fast

TASK = "energy_forces"


def need_a_gpu(run: Run, winner: str) -> str:
    """The answer as text; empty where the run is of a CPU, or timed no variant that is equal to the model on its host."""
    if run.device == "cpu":
        return ""
    host = Run(run.records, device="cpu")
    ours = run.times(winner, TASK)
    theirs = {name: host.times(name, TASK) for name in host.equivalent}
    theirs = {name: times for name, times in theirs.items() if times and times.keys() == ours.keys()}
    if not theirs:
        return ""
    name = min(theirs, key=lambda name: geometric_mean(list(theirs[name].values())).value)
    ratios = {system: ratio_of(theirs[name][system], ours[system]) for system in run.systems}
    threads = {entry["threads"] for entry in host.timings() if entry["variant"] == name and entry.get("threads")}
    with_threads = f" with {number(max(threads))} threads" if threads else ""
    return (
        f"On this host's CPU{with_threads}, `{name}` takes {spread(time.value for time in theirs[name].values())} ms a call: "
        f"`{winner}` is {times_as_fast(geometric_mean(list(ratios.values())))} as fast on average, {_by_size(run, ratios)}."
    )


def _by_size(run: Run, ratios: dict[str, Ratio]) -> str:
    """The gain on the smallest and on the largest molecule."""
    smallest, largest = next(iter(run.systems)), next(reversed(run.systems))
    return (
        f"{number(ratios[smallest].value, 2)} times with {run.systems[smallest]} atoms, "
        f"{number(ratios[largest].value, 2)} times with {run.systems[largest]}"
    )
