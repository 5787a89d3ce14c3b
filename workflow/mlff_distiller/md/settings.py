"""Settings of the MD stages, with their defaults; apart from the stages themselves, so that checking them needs nothing
of them."""

from typing import Any

from mlff_distiller.utils.errors import UserError, nearest

#: What the NVE stage understands, with defaults; the configuration's ``md.settings`` overrides.
DEFAULTS: dict[str, Any] = {
    "timestep_fs": 0.5,
    "steps": 2000,
    "equilibration_steps": 200,
    "temperature_k": 300.0,
    # The start is a minimum of the energy; false for one that is equilibrated already.
    "at_minimum": True,
    "sample_every": 10,
    "force_check_every": 100,
    "seed": 0,
    "loop": "auto",  # who takes the steps: ase, device, or the device where a variant has such a loop
    "gates": {
        "drift_mev_per_atom_ps": 0.1,
        # By how much the drift may differ, beyond its error, from that of the fp64 run from the same state.
        "drift_beyond_fp64_mev_per_atom_ps": 0.01,
        "momentum": 1e-3,
        "force_rmse_mev_per_a": 0.1,
        "excursion_mev_per_atom": 5.0,
        "bonds_broken": 0,
    },
}
#: Samples of the energy from which a drift and its error can be had.
FEWEST_SAMPLES = 20
#: Drift up to which energy conservation is good, not only acceptable, meV/atom/ps.
GOOD_DRIFT = 0.01

#: The other checks: task of their records -> settings.
CHECKS: dict[str, dict[str, Any]] = {
    "timestep": {
        "timesteps_fs": [1.0, 0.5, 0.25],
        "window_fs": 100.0,
        "windows": 8,
        "equilibration_fs": 200.0,
        "temperature_k": 300.0,
        "seed": 0,
        "gates": {"ratio_error": 0.25, "coarse_ratio_error": 0.75},
    },
    "nvt": {
        "timestep_fs": 0.5,
        "friction_per_fs": 0.02,
        "temperature_k": 300.0,
        "equilibration_steps": 2000,
        "steps": 20000,
        "sample_every": 20,
        "seed": 0,
        # Right forces fall below this p-value once in a thousand runs.
        "gates": {"temperature_error_k": 6.0, "kinetic_energy_p": 0.001},
    },
    "spectra": {
        "timestep_fs": 0.5,
        "friction_per_fs": 0.002,
        "temperature_k": 300.0,
        "equilibration_steps": 4000,
        "steps": 20000,
        "sample_every": 4,
        "seed": 0,
        "gates": {"bond_distance_a": 0.01, "angle_distance_deg": 2.0, "spectrum_difference": 0.35},
    },
}


def settings_with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """``given`` over :data:`DEFAULTS`.

    Raises:
        UserError: an unknown key (the nearest right one is named), or lengths from which no drift can be had.
    """
    settings = _laid_over(given, DEFAULTS, "md")
    steps, every = settings["steps"], settings["sample_every"]
    if min(steps, every, settings["force_check_every"]) < 1:
        raise UserError("md: steps, sample_every and force_check_every must be positive")
    if (samples := -(-steps // every) + 1) < FEWEST_SAMPLES:
        raise UserError(
            f"md: {steps} steps, sampled every {every}, give {samples} samples; a drift needs {FEWEST_SAMPLES}"
        )
    return settings


def check_with_defaults(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """``given`` over the defaults of the check ``task``; an unknown key is refused with the nearest right one."""
    return _laid_over(given, CHECKS[task], f"md.{task}")


def check_md_section(section: dict[str, Any]) -> None:
    """Raise a :class:`UserError` for a setting anywhere in the configuration's ``md`` section that no stage knows."""
    shared = section.get("settings", {})
    for own in ({}, *(section.get(name, {}).get("settings", {}) for name in ("long", "liquid"))):
        settings_with_defaults(shared | own)
    for task in CHECKS:
        check_with_defaults(task, section.get(task, {}).get("settings", {}))


def _laid_over(given: dict[str, Any], defaults: dict[str, Any], where: str) -> dict[str, Any]:
    gates = given.get("gates", {})
    for place, mapping, known in ((where, given, defaults), (f"{where}: gates", gates, defaults["gates"])):
        for key in mapping:
            if key not in known:
                raise UserError(f"{place}: unknown key {key!r}{nearest(key, known)}")
    return defaults | given | {"gates": defaults["gates"] | gates}
