"""Settings of the MD stage, with their defaults; apart from the stage itself, so that checking them needs nothing of it."""

from typing import Any

from mlff_distiller.errors import UserError, nearest

#: What the stage understands, with defaults; the configuration's ``md`` section overrides.
DEFAULTS: dict[str, Any] = {
    "timestep_fs": 0.5,
    "steps": 2000,
    "equilibration_steps": 200,
    "temperature_k": 300.0,
    "sample_every": 10,
    "force_check_every": 100,
    "seed": 0,
    "gates": {
        "drift_mev_per_atom_ps": 0.1,
        "momentum": 1e-3,
        "force_rmse_mev_per_a": 0.1,
        "excursion_mev_per_atom": 5.0,
        "bonds_broken": 0,
    },
}


def settings_with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """``given`` over :data:`DEFAULTS`; an unknown key is refused with the nearest right one."""
    for where, mapping, known in (("md", given, DEFAULTS), ("md: gates", given.get("gates", {}), DEFAULTS["gates"])):
        for key in mapping:
            if key not in known:
                raise UserError(f"{where}: unknown key {key!r}{nearest(key, known)}")
    return DEFAULTS | given | {"gates": DEFAULTS["gates"] | given.get("gates", {})}
