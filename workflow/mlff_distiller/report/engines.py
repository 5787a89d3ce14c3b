"""Rows of the report about MD engines, from their records."""

from collections.abc import Mapping
from statistics import geometric_mean
from typing import Any

from mlff_distiller.deploy.engines.known import ENGINES
from mlff_distiller.records.collect import FEW_CORES
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record
from mlff_distiller.records.wording import number, title
from mlff_distiller.report.tables import ns_per_day

#: Single runs tell no smaller ratio to ASE's time.
SLOWER = 1.05
#: What computes the forces, where that is not the variant.
OTHER_FORMS = {"c": "the C library of the bundle", "torchscript": "TorchScript"}


def context(run: Run) -> dict[str, Any]:
    """The values of the template: a row for each run in an engine, what was not run and why, and words about all of them.

    Engines that run on the CPU beside a GPU count, too.
    """
    found = [entry for entry in run.records if entry["kind"] == "engine"]
    order = list(ENGINES)
    found.sort(key=lambda e: (order.index(e["task"]) if e["task"] in order else len(order), e["n_atoms"] or 0))
    ran = [entry for entry in found if entry.get("step_ms")]
    known = [entry["others_cores"] for entry in ran if entry.get("others_cores") is not None]
    return {
        "rows": [_row(entry) for entry in ran],
        "not_run": [
            {"engine": _name(entry), "system": title(entry["system"]) if entry["system"] else "all", **_why(entry)}
            for entry in found
            if not entry.get("step_ms")
        ],
        "variants": sorted({entry["variant"] for entry in found}),
        "other_forms": {
            _name(entry): OTHER_FORMS[entry["computed_by"]] for entry in ran if entry.get("computed_by") in OTHER_FORMS
        },
        "threads": _threads({entry["threads"] for entry in ran if entry.get("threads")}),
        "disturbed": sum(cores > FEW_CORES for cores in known),
        "slower": _slower(ran),
    }


def _slower(ran: list[Record]) -> list[str]:
    """The engines whose steps take longer than ASE's, in the geometric mean over the systems, with how much longer."""
    ratios: dict[str, list[float]] = {}
    for entry in ran:
        if entry.get("ase_step_ms"):
            ratios.setdefault(_name(entry), []).append(entry["step_ms"] / entry["ase_step_ms"])
    means = {name: geometric_mean(values) for name, values in ratios.items()}
    return [f"{name} ({mean:.1f} times ASE's time)" for name, mean in means.items() if mean > SLOWER]


def _threads(numbers: set[int]) -> str:
    return "" if not numbers else "1 thread" if numbers == {1} else f"{', '.join(map(str, sorted(numbers)))} threads"


def _row(entry: Record) -> dict[str, Any]:
    return {
        "engine": f"{_name(entry)} {entry.get('engine_version') or ''}".strip(),
        "device": entry["device"],
        "system": f"{title(entry['system'])} ({entry['n_atoms']})",
        "ns_per_day": ns_per_day(entry["step_ms"], entry["timestep_fs"]),
        "verdict": _verdict(entry),
        **{name: entry.get(name) for name in ("steps_per_s", "force_rmse_mev_per_a", "force_limit_mev_per_a")},
        "ase_steps_per_s": _rate(entry.get("ase_step_ms")),
        "kernel_per_s": _rate(entry.get("kernel_ms")),
        "drift": _drift(entry, ""),
        "beyond_ase": _drift(entry, "beyond_ase_"),
    }


def _name(entry: Record) -> str:
    return ENGINES[entry["task"]].title if entry["task"] in ENGINES else str(entry["task"])


def _why(entry: Record) -> dict[str, str]:
    return {"status": entry["status"], "reason": entry["reason"]}


def _rate(milliseconds: float | None) -> float | None:
    return 1e3 / milliseconds if milliseconds else None


def _drift(entry: Mapping[str, Any], whose: str) -> str:
    value, error = (entry.get(f"{whose}drift_{what}mev_per_atom_ps") for what in ("", "stderr_"))
    return "-" if value is None or error is None else f"{number(value, 2)} ± {number(error, 2)}"


def _verdict(entry: Record) -> str:
    if entry["status"] != "ok":
        return f"{entry['status']}: {entry['reason']}"
    conserved = entry.get("conserves_energy")
    return (
        "too short to tell of a drift" if conserved is None else "passed" if conserved else "failed: the energy drifts"
    )
