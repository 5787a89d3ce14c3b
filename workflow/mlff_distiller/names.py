"""Names of tasks and systems as people read them, the same in figures, captions and pages."""

TASK_TITLES = {"energy": "Energy", "energy_forces": "Energy + forces", "neighbors": "Neighbor search"}
SYSTEM_TITLES = {"penicillin_g": "penicillin G", "ala9_capped": "capped (Ala)9"}


def title(system: str | None) -> str:
    """A system's name for people."""
    return SYSTEM_TITLES.get(str(system), str(system).replace("_", " "))
