"""Names of tasks, systems and kinds of work as people read them, the same in figures, captions and pages."""

from typing import NamedTuple

TASK_TITLES = {"energy": "Energy", "energy_forces": "Energy + forces", "neighbors": "Neighbor search"}
#: What batches and large systems are measured by; the other tasks are those of one molecule at a time.
SCALING_TASKS = ("throughput", "periodic", "calculator", "md_steps")
SYSTEM_TITLES = {"penicillin_g": "penicillin G", "ala9_capped": "capped (Ala)9"}


class Work(NamedTuple):
    """One kind of work: its name for people, the benchmark task that speaks for it, and that task in words."""

    title: str
    task: str
    what: str


#: Kinds of work for which a variant is handed over; the keys are the folders of the bundles.
WORK = {
    "one_molecule": Work("one molecule", "energy_forces", "energy + forces of one molecule at a time"),
    "many_molecules": Work("many molecules", "throughput", "energy + forces of batches of molecules"),
    "large_systems": Work("large systems", "periodic", "energy + forces of large periodic systems"),
}


def title(system: str | None) -> str:
    """A system's name for people."""
    return SYSTEM_TITLES.get(str(system), str(system).replace("_", " "))
