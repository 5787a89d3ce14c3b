"""Settings of the scaling stage, with their defaults; apart from the stage, so that checking them needs nothing of it."""

from typing import Any

from mlff_distiller.utils.errors import UserError, nearest

#: The tasks of the stage, in the order in which they are measured.
TASKS = ("throughput", "periodic", "calculator", "md_steps", "profile")
#: What the stage understands, with defaults; the configuration's ``benchmark.scaling.settings`` overrides.
DEFAULTS: dict[str, Any] = {
    "tasks": list(TASKS),
    "batches": [1, 4, 16, 64, 256, 1024],  # systems in one call
    "mixed": True,  # batches of all molecules in turn, besides those of one
    "density_g_cm3": 0.876,  # of the liquid; benzene's at 300 K
    "unit_molecules": 40,  # molecules in the box that larger boxes repeat
    "box_atoms": [480, 960, 1920, 3840],  # about so many atoms in a box
    "steps_per_sample": 50,  # MD steps between two looks at the clock
    "runs": 20,  # timed calls of a point, at most
    "max_seconds": 3.0,  # spent on timing a point, both sides together; a call longer than this is not made
    "seed": 0,
}


def settings_with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """``given`` over :data:`DEFAULTS`.

    Raises:
        UserError: an unknown key or task (the nearest right one is named), or a size that makes no sense.
    """
    where = "benchmark.scaling.settings"
    for key in given:
        if key not in DEFAULTS:
            raise UserError(f"{where}: unknown key {key!r}{nearest(key, DEFAULTS)}")
    settings = DEFAULTS | given
    for task in settings["tasks"]:
        if task not in TASKS:
            raise UserError(f"{where}: tasks: cannot be {task!r}{nearest(task, TASKS)}")
    for key in ("batches", "box_atoms"):
        if not all(isinstance(size, int) and size > 0 for size in settings[key]):
            raise UserError(f"{where}: {key} must be positive whole numbers, not {settings[key]}")
    for key in ("density_g_cm3", "unit_molecules", "steps_per_sample", "runs", "max_seconds"):
        if not settings[key] > 0:
            raise UserError(f"{where}: {key} must be positive, not {settings[key]}")
    return settings
