"""Job records with realistic numbers, as input for the tests of tables, figures and reports.

These are made up, with known truths (a speed-up put in must come out); no result of the project comes from here.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from mlff_distiller.records import schema

SYSTEMS = {
    "water": 3,
    "methane": 5,
    "benzene": 12,
    "caffeine": 24,
    "penicillin_g": 41,
    "cholesterol": 74,
    "ala9_capped": 102,
}
#: variant -> (family, dtype, speed-up on energy, on energy + forces, compile seconds)
VARIANTS = {
    "eager": ("eager", "float32", 1.0, 1.0, None),
    "torchscript": ("torchscript", "float32", 1.45, 1.1, 2.1),
    "torch_compile": ("torch_compile", "float32", 1.9, 1.3, 31.0),
    "torch_compile_forces": ("torch_compile", "float32", 1.9, 2.6, 48.0),
    "bf16": ("autocast", "bfloat16", 0.7, 0.72, None),
    "vesin": ("eager", "float32", 1.08, 1.05, None),
    "analytic": ("analytic", "float32", 1.0, 1.6, None),
    "cpp": ("cpp", "float32", 5.5, 6.1, 14.0),
}
UNAVAILABLE = {
    "torch_cluster": "torch-cluster could not be built: no C++ compiler; install g++ and run again",
    "cuda_graph": "needs a CUDA device; this machine has none",
}
FAILS_EQUIVALENCE = "bf16"
FAILS_MD = "analytic"


def options(variant: str, family: str) -> dict[str, Any]:
    """The options of a variant as its compile record has them."""
    scope = {"scope": "energy_forces" if variant == "torch_compile_forces" else "energy"}
    return {
        "family": family,
        "neighbors": "vesin" if variant == "vesin" else "native",
        **(scope if family == "torch_compile" else {}),
    }


def eager_ms(n_atoms: int, task: str) -> float:
    """A plausible CPU time of the baseline."""
    energy = 1.6 + 0.2 * n_atoms
    return {"energy": energy, "energy_forces": 2.6 * energy, "neighbors": 0.15 + 0.0004 * n_atoms**2}[task]


def benchmark(
    variant: str,
    task: str,
    system: str,
    speedup: float,
    *,
    replicate: int = 1,
    runs: int = 20,
    process_spread: float = 0.02,
    **fields: Any,
) -> dict[str, Any]:
    """One replicate: log-normal samples, a common slow-down of both sides of the pair, a process effect on each."""
    seed = [replicate, *map(ord, variant + task + system)]
    random = np.random.default_rng(seed)
    center = eager_ms(SYSTEMS[system], task)
    common = np.exp(random.normal(0, 0.05)) * np.exp(random.gamma(2, 0.01, runs))
    samples, baseline = (
        (center / ratio * common * np.exp(random.normal(0, process_spread) + random.normal(0, 0.02, runs))).tolist()
        for ratio in (speedup, 1.0)
    )
    given = {
        "n_atoms": SYSTEMS[system],
        "n_edges": SYSTEMS[system] * min(SYSTEMS[system] - 1, 24),
        "batch": 1,
        "device": "cpu",
        "dtype": VARIANTS.get(variant, (None, "float32"))[1],
        "samples_ms": samples,
        "baseline_samples_ms": baseline,
    }
    if system == "water" and replicate == 1:
        given["n_operations"] = {"energy": 200, "energy_forces": 470, "neighbors": None}[task]
    common_fields = {"replicate": replicate, "warmup": 10, "runs": runs, "threads": 1}
    return schema.record("benchmark", variant=variant, task=task, system=system, **common_fields, **given | fields)


def equivalence(variant: str, system: str, **fields: Any) -> dict[str, Any]:
    """One equivalence record: passes unless told otherwise."""
    bad = variant == FAILS_EQUIVALENCE
    given = {
        "n_atoms": SYSTEMS[system],
        "batch": 1,
        "device": "cpu",
        "dtype": VARIANTS[variant][1],
        "energy_error_mev_per_atom": 2e-4,
        "force_rmse_mev_per_a": 4.1 if bad else 3e-3,
        "force_max_mev_per_a": 9.0 if bad else 1e-2,
        "eager_force_rmse_mev_per_a": 2.8e-3,
        "eager_energy_error_mev_per_atom": 2e-4,
        "tolerance_mev_per_a": 0.05,
        "equivalent": not bad,
    }
    return schema.record("equivalence", variant=variant, system=system, **given | fields)


def md(variant: str, system: str, **fields: Any) -> dict[str, Any]:
    """One MD record with a bounded energy trace; the variant that fails heats up."""
    bad = variant == FAILS_MD
    random = np.random.default_rng([7, *map(ord, variant + system)])
    drift = 1.8 if bad else random.normal(0, 0.004)
    time = np.linspace(0, 500, 51)
    trace = drift * time / 1000 + random.normal(0, 0.03, 51)
    given = {
        "n_atoms": SYSTEMS.get(system),
        "batch": 1,
        "device": "cpu",
        "dtype": "float32",
        "ensemble": "NVE",
        "timestep_fs": 0.5,
        "n_steps": 1000,
        "drift_mev_per_atom_ps": drift,
        "drift_stderr_mev_per_atom_ps": 0.006,
        "mean_temperature_k": 287.0,
        "max_momentum": 1e-6,
        "max_energy_excursion_mev_per_atom": float(np.abs(trace).max()),
        "force_rmse_mev_per_a": 4e-3,
        "bonds_broken": 0,
        "steps_per_s": 120.0,
        "passed": not bad,
        "gates": {"drift_mev_per_atom_ps": {"value": abs(drift), "limit": 0.1, "passed": not bad}},
        "energy_trace": {"time_fs": time.tolist(), "total_mev_per_atom": (trace - trace[0]).tolist()},
    }
    return schema.record("md", **{"variant": variant, "system": system, "task": "nve"} | given | fields)


def md_checks(variant: str = "cpp") -> list[dict[str, Any]]:
    """One record of each check beyond NVE of molecules, all of them passed."""
    random = np.random.default_rng(11)
    shared = {"variant": variant, "batch": 1, "device": "cpu", "threads": 1, "passed": True}
    passed = {"value": 0.1, "limit": 0.25, "passed": True}

    def curves(shift: float) -> dict[str, Any]:
        lengths, angles, numbers = np.arange(0.9, 1.6, 0.01), np.arange(90.0, 130.0), np.arange(0.0, 4200.0, 10.0)
        lines = sum(np.exp(-(((numbers - at - 500 * shift) / 25) ** 2)) for at in (700, 1100, 1500, 3050))
        return {
            "bond_lengths": {
                "edges": lengths.tolist(),
                "density": np.exp(-(((lengths[1:] - 1.1 - shift) / 0.03) ** 2)).tolist(),
            },
            "angles": {"edges": angles.tolist(), "density": np.exp(-(((angles[1:] - 110) / 5) ** 2)).tolist()},
            "spectrum": {"wavenumbers": numbers.tolist(), "density": (lines / lines.sum() / 10).tolist()},
        }

    made = []
    for system in ("methane", "benzene", "caffeine"):
        common = shared | {"system": system, "n_atoms": SYSTEMS[system]}
        shape = 1.5 * SYSTEMS[system]
        density, edges = np.histogram(random.gamma(shape, size=800), bins=30, density=True)
        made += [
            schema.record(
                "md",
                task="timestep",
                dtype="float64",
                timesteps_fs=[1.0, 0.5, 0.25],
                fluctuation_mev_per_atom=[0.016, 0.004, 0.00098],
                ratios=[4.1, 4.04],
                gates={"ratio_1_0.5_fs": passed, "ratio_0.5_0.25_fs": passed},
                **common,
            ),
            schema.record(
                "md",
                task="nvt",
                dtype="float32",
                p_value=0.4,
                independent_samples=700,
                degrees_of_freedom=3 * SYSTEMS[system],
                mean_temperature_k=301.2,
                temperature_stderr_k=1.4,
                temperature_k=300.0,
                kinetic_histogram={"edges_kt": edges.tolist(), "density": density.tolist()},
                gates={"kinetic_energy_p": {"value": 0.4, "limit": 0.001, "passed": True}},
                **common,
            ),
            schema.record(
                "md",
                task="spectra",
                dtype="float32",
                bond_distance_a=0.003,
                angle_distance_deg=0.3,
                spectrum_difference=0.12,
                floor={"bond_distance_a": 0.001, "angle_distance_deg": 0.2, "spectrum_difference": 0.08},
                distributions={"student": curves(0.01), "teacher": curves(0.0)},
                gates={"spectrum_difference": passed},
                **common,
            ),
        ]
    distances = np.arange(0.05, 5.0, 0.1)

    def shells(at):
        return {pair: (1 + np.cos(distances * at)).tolist() for pair in ("O-O", "O-H", "H-H")}

    liquid = shared | {"system": "methanol_64", "n_atoms": 384}
    made.append(
        schema.record(
            "md",
            task="pairs",
            dtype="float32",
            timestep_fs=0.5,
            n_steps=40000,
            temperature_k=300.0,
            pair_difference=0.06,
            worst_pair="O-O",
            floor=0.03,
            pair_distributions={"student": shells(3.1), "teacher": shells(3.0)},
            bin_a=0.1,
            diffusion_e9_m2_s=2.1,
            diffusion_stderr_e9_m2_s=0.2,
            teacher_diffusion_e9_m2_s=2.3,
            teacher_diffusion_stderr_e9_m2_s=0.3,
            pressure_gpa=0.12,
            pressure_stderr_gpa=0.02,
            teacher_pressure_gpa=0.08,
            teacher_pressure_stderr_gpa=0.02,
            nvt_steps_per_s=500.0,
            teacher_steps_per_s=2.0,
            gates={"pair_difference": {"value": 0.06, "limit": 0.1, "passed": True}},
            **liquid,
        )
    )
    return [*made, md(variant, "methanol_64", task="liquid", n_atoms=384)]


def scaling(variant: str, speedup: float) -> list[dict[str, Any]]:
    """What the scaling stage writes for a variant: eager fits up to 256 molecules and 2,000 atoms."""
    made = []

    def point(task: str, system: str, batch: int, n_atoms: int, ms: float, beside: bool, **fields: Any) -> None:
        common = {"variant": variant, "task": task, "system": system, "batch": batch, "n_atoms": n_atoms}
        common |= {"device": "cpu", "dtype": VARIANTS[variant][1], "threads": 1, "replicate": 0, "runs": 5}
        noise = 1 + 0.01 * np.random.default_rng([n_atoms, batch]).random(5)
        fields["samples_ms"] = (ms / speedup * noise).tolist()
        if (bare := fields.pop("bare_ms", None)) is not None:
            fields["bare_samples_ms"] = (bare * noise).tolist()
        if beside:
            fields["baseline_samples_ms"] = (ms * noise).tolist()
        made.append(schema.record("benchmark", **common, **fields))

    for batch in (1, 4, 16, 64, 256, 1024):
        cost = {"gflop": 0.1 * batch, "mbyte": 1.7 + 0.6 * batch, "peak_memory_mib": 0.5 * batch}
        for system, atoms in (("caffeine", 24), ("mix", 37)):
            point("throughput", system, batch, atoms * batch, 3 + 0.3 * atoms * batch, batch <= 256, **cost)
    for n_atoms in (480, 1920, 4800):
        cost = {"gflop": 0.007 * n_atoms, "mbyte": 1.7 + 0.025 * n_atoms, "force_rmse_mev_per_a": 1.4e-3}
        point("periodic", f"benzene_box_{n_atoms}", 1, n_atoms, 1.5 * n_atoms, n_atoms <= 2000, **cost)
    for system, n_atoms in SYSTEMS.items():
        through_ase = 0.3 + eager_ms(n_atoms, "energy_forces")
        point("calculator", system, 1, n_atoms, through_ase, True, bare_ms=0.8 * through_ase / speedup)
    point("md_steps", "caffeine", 1, 24, 20.0, True, loop="ase")
    kernels = [{"name": f"kernel_{k}", "calls": 3.0, "us": 900.0 / (k + 1)} for k in range(9)]
    common = {"variant": variant, "task": "energy_forces", "system": "caffeine", "n_atoms": 24, "device": "cpu"}
    roofs = {"copy_gb_per_s": 12.0, "float32_gflop_per_s": 90.0}
    profiled = {"unit": "operator", "wall_ms": 17.0 / speedup, "kernels": kernels, "n_kernels": 27.0}
    return [
        *made,
        schema.record(
            "profile", **common, dtype="float32", ceilings=roofs, **profiled, baseline=profiled | {"wall_ms": 17.0}
        ),
    ]


def accuracy(split: str, mae: float) -> dict[str, Any]:
    """One accuracy record: errors that grow with force and size, and parity points to match."""
    random = np.random.default_rng([*map(ord, split)])
    teacher = random.normal(0, 1.5, 300)

    def group(factor: float) -> dict[str, Any]:
        errors = {"force_mae_mev_per_a": mae * factor, "force_rmse_mev_per_a": 1.5 * mae * factor}
        return {"n_atoms": 100, "n_configurations": 10, "energy_mae_mev_per_atom": mae * factor / 20} | errors

    return schema.record(
        "accuracy",
        variant="student",
        device="cpu",
        dtype="float32",
        split=split,
        force_mae_mev_per_a=mae,
        force_rmse_mev_per_a=mae * 1.5,
        force_r2=0.994,
        force_cosine=0.997,
        energy_mae_mev_per_atom=mae / 20,
        n_configurations=200,
        n_molecules=20,
        by_element={z: group(factor) for z, factor in (("1", 0.6), ("6", 1.2), ("8", 1.4), ("16", 2.5))},
        by_force={"0 to 0.5": group(0.6), "0.5 to 1": group(0.9), "16 and more": group(4)},
        by_size={"1 to 9": group(0.8), "9 to 17": group(1.0), "97 and more": group(1.3)},
        reliability={
            "expected_mev_per_a": [0.5 * mae, mae, 2 * mae],
            "found_mev_per_a": [0.6 * mae, mae, 1.8 * mae],
            "detection": {"a bond pulled": 0.97, "a hydrogen less": 0.91},
        },
        parity={
            "teacher": teacher.tolist(),
            "student": (teacher + random.normal(0, mae / 800, 300)).tolist(),
            "numbers": [1] * 300,
        },
    )


def training() -> dict[str, Any]:
    """The record of a training of ten epochs, the eighth of which was best."""
    curve = [
        {
            "step": 100 * n,
            "epoch": n,
            "seconds": 30.0 * n,
            "val_force_mae_mev_per_a": 40 + 100 / n + (n > 8),
            "val_energy_mae_mev_per_atom": 2 + 9 / n,
        }
        for n in range(1, 11)
    ]
    return schema.record(
        "accuracy",
        variant="student",
        task="training",
        device="cpu",
        split="val",
        force_mae_mev_per_a=52.5,
        training={"n_training": 5000, "steps": 1000, "seconds": 300.0, "device": "cpu"},
        learning_curve=curve,
    )


def crystals() -> list[dict[str, Any]]:
    """Silicon by the acceptance suite: energy along the volume, elastic constants, phonons."""
    volumes = np.linspace(18.8, 21.2, 9)
    theirs, ours = 1000 * (volumes / 20.0 - 1) ** 2 * 6.2, 1000 * (volumes / 20.1 - 1) ** 2 * 6.0
    elastic = np.diag([150.0] * 3 + [75.0] * 3)
    modes = np.array([[0.0, 0.0, 0.0, 15.2, 15.2, 15.2], [4.5, 4.5, 12.1, 12.1, 13.6, 13.6]])
    fields: dict[str, dict[str, Any]] = {
        "volume": {
            "volume_a3_per_atom": 20.0,
            "volume_error_percent": 0.5,
            "bulk_modulus_gpa": 88.2,
            "bulk_modulus_error_gpa": -3.1,
            "volume_mae_mev_per_atom": float(np.abs(ours - theirs).mean()),
            "points": 9,
            "refused": 0,
            "volume_curve": {
                "volumes_a3_per_atom": volumes.tolist(),
                "teacher_mev_per_atom": theirs.tolist(),
                "student_mev_per_atom": ours.tolist(),
            },
        },
        "elastic": {
            "elastic_mae_gpa": 2.0,
            "elastic_error_gpa": -4.0,
            "worst_elastic": "C44",
            "worst_elastic_gpa": 75.0,
            "stable": True,
            "elastic": {"teacher_gpa": elastic.tolist(), "student_gpa": (0.97 * elastic).tolist()},
        },
        "phonons": {
            "phonon_mae_thz": 0.2,
            "phonon_error_thz": -0.4,
            "worst_phonon_thz": 15.2,
            "worst_wave_vector": [0.0, 0.0, 0.0],
            "imaginary": 0,
            "teacher_imaginary": 0,
            "phonons": {
                "wave_vectors": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0]],
                "teacher_thz": modes.tolist(),
                "student_thz": (0.97 * modes).tolist(),
            },
        },
    }
    common = {"variant": "student", "device": "cpu", "dtype": "float64", "split": "train", "system": "silicon"}
    return [schema.record("acceptance", task=task, **common, **values) for task, values in fields.items()]


def acceptance() -> list[dict[str, Any]]:
    """A record of each task of the acceptance suite, with a methane whose bend depends on the displacement, and a failure."""
    common = {"variant": "student", "device": "cpu", "dtype": "float64", "split": "test"}

    def made(task: str, system: str, **fields: Any) -> dict[str, Any]:
        return schema.record("acceptance", task=task, system=system, **(common | fields))

    entries = []
    for system, change in (("methane", 150.0), ("carbonic_acid", 20.0), ("vinyl_alcohol", 5.0)):
        modes = np.array([500.0, 1400.0, 3000.0])
        entries.append(
            made(
                "geometry",
                system,
                rmsd_a=0.01,
                bond_error_a=-0.002,
                worst_bond="C0-H1",
                energy_error_kcal_mol=change / 50,
            )
        )
        entries.append(
            made(
                "frequencies",
                system,
                frequency_mae_per_cm=change / 3,
                frequency_error_per_cm=-change,
                worst_frequency_per_cm=1400.0,
                imaginary=0,
                change_per_cm=change,
                changed_frequency_per_cm=1400.0,
                teacher_change_per_cm=2.0,
                vibrations={
                    "displacements_a": [0.01, 0.002, 0.05],
                    "teacher_per_cm": [modes.tolist()] * 3,
                    "student_per_cm": [(modes - [0, factor * change, 0]).tolist() for factor in (1.0, 1.5, 0.5)],
                },
            )
        )
    angles = np.arange(0, 360, 15.0)
    profile = 2 * (1 - np.cos(np.radians(angles)))
    distances = np.arange(2, 8, 0.2)
    curve = 4 * ((3 / distances) ** 12 - 2 * (3 / distances) ** 6)
    smooth = {"holes_a": [], "cusps_a": [], "below_minimum_a": None, "teacher_holes_a": [], "teacher_cusps_a": []}
    entries += [
        made(
            "torsion",
            "vinyl_alcohol",
            coordinate="C0-C1-O2-H6",
            barrier_kcal_mol=4.0,
            barrier_error_kcal_mol=-0.4,
            profile_mae_kcal_mol=0.2,
            curve=_curve(angles, profile, 0.9 * profile),
        ),
        made("conformers", "ethanolamine", conformer_mae_kcal_mol=0.2, spearman=0.9, n_conformers=5, same_lowest=True),
        made(
            "dimer",
            "water_hydrogen_bond",
            split="benchmark",
            dimer_mae_kcal_mol=0.5,
            well_depth_kcal_mol=4.0,
            well_depth_error_kcal_mol=-0.8,
            minimum_a=3.0,
            student_minimum_a=3.2,
            curve=_curve(distances, curve, 0.8 * curve),
        ),
        made("dissociation", "methane", coordinate="C0-H1", **smooth),
        made(
            "approach",
            "C-O",
            **smooth
            | {
                "split": "train",
                "holes_a": [1.0],
                "walls_kcal_mol": [60.0],
                "below_minimum_a": 1.0,
                "below_minimum_kcal_mol": 90.0,
            },
        ),
        made("geometry", "triazine", status="failed", reason="the student's optimisation did not end in 300 steps"),
    ]
    return entries


def _curve(x: np.ndarray, teacher: np.ndarray, student: np.ndarray) -> dict[str, list[float]]:
    return {"x": x.tolist(), "teacher_kcal_mol": teacher.tolist(), "student_kcal_mol": student.tolist()}


def run_records(replicates: int = 3) -> list[dict[str, Any]]:
    """Everything a default run on a CPU would write: winners, losers, a failure of each kind, things unavailable."""
    made = [
        schema.record(
            "preflight",
            device="cpu",
            checks=[
                {"name": "CPU", "value": "Test processor, 2 cores", "ok": True, "advice": ""},
                {"name": "GPU", "value": "none", "ok": True, "advice": ""},
                {"name": "torch", "value": "2.5.1", "ok": True, "advice": ""},
                {"name": "C++ compiler", "value": "none", "ok": False, "advice": "install g++ to build torch-cluster"},
            ],
        ),
        schema.record(
            "torch_cluster", status="unavailable", reason=UNAVAILABLE["torch_cluster"], route=None, version=None
        ),
    ]
    for variant, (family, dtype, energy, forces, compile_s) in VARIANTS.items():
        made.append(
            schema.record(
                "compile",
                variant=variant,
                family=family,
                device="cpu",
                dtype=dtype,
                compile_s=compile_s or 0.1,
                artifact=f"{variant}.bin",
                artifact_sha256=hashlib.sha256(variant.encode()).hexdigest(),
                options=options(variant, family),
                first_calls_ms={
                    system: [center * (20 if i == 0 and variant == "torchscript" else 1.0) for i in range(5)]
                    for system, center in ((name, eager_ms(size, "energy_forces")) for name, size in SYSTEMS.items())
                },
                **({"n_graphs": 2, "n_graph_breaks": 0, "n_recompiles": 1} if "compile" in variant else {}),
            )
        )
        for system in SYSTEMS:
            made.append(equivalence(variant, system))
            for task, speedup in (("energy", energy), ("energy_forces", forces), ("neighbors", 1.0)):
                made += [benchmark(variant, task, system, speedup, replicate=r + 1) for r in range(replicates)]
            if variant != FAILS_EQUIVALENCE and system in ("benzene", "caffeine", "penicillin_g"):
                made.append(md(variant, system))
    made += md_checks()
    for variant, reason in UNAVAILABLE.items():
        family = "eager" if variant == "torch_cluster" else variant
        made.append(
            schema.record(
                "compile",
                variant=variant,
                family=family,
                device="cpu",
                dtype="float32",
                status="unavailable",
                reason=reason,
                options={"family": family} | ({"neighbors": "torch_cluster"} if family == "eager" else {}),
            )
        )
        for system, n_atoms in SYSTEMS.items():
            made.append(
                schema.record(
                    "benchmark",
                    variant=variant,
                    task="energy_forces",
                    system=system,
                    n_atoms=n_atoms,
                    batch=1,
                    device="cpu",
                    dtype="float32",
                    status="unavailable",
                    reason=reason,
                )
            )
    for variant in ("analytic", "cpp"):
        made += scaling(variant, VARIANTS[variant][3])
    for system, n_atoms in SYSTEMS.items():
        slow = benchmark("teacher", "energy_forces", system, 0.5 / (1 + n_atoms / 30), dtype="float64")
        del slow["baseline_samples_ms"]
        made.append(slow)
    for split, mae in (("test", 41.0), ("larger", 46.5), ("benchmark", 71.0), ("visited", 38.2)):
        made.append(accuracy(split, mae))
    made.append(training())
    made += acceptance() + crystals()
    return made


def write_run(folder: Path, replicates: int = 3) -> list[Path]:
    """The records of :func:`run_records` in one file per kind, as the stages would leave them."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for entry in run_records(replicates):
        by_kind.setdefault(entry["kind"], []).append(entry)
    return [schema.write(folder / f"{kind}.json", entries) for kind, entries in by_kind.items()]
