"""Stage ``engine``: a variant, as the bundle that users get, in one MD engine, held against the fp64 student and against ASE."""

import argparse
import importlib
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.deploy.engine_runs.nve import Nve, Plan, Runner, plan_of
from mlff_distiller.deploy.engine_runs.settings import EngineRunSettings
from mlff_distiller.deploy.engines.known import ENGINES
from mlff_distiller.md.settings import FEWEST_SAMPLES
from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.rattle import rattled
from mlff_distiller.systems.read import read_system, read_systems
from mlff_distiller.utils.errors import Words
from mlff_distiller.utils.files import load_settings
from mlff_distiller.utils.other_work import OtherWork
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.gate import refusal

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.md.measures import Slope

#: A first run: what an engine does once is done then, and how long a step takes is seen.
FIRST_WINDOWS, FIRST_EVERY = 3, 2
#: Calls of the kernel alone.
KERNEL_RUNS, KERNEL_FRAMES = 10, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--engine", required=True, choices=ENGINES, help="in which engine")
    artifact.add_arguments(parser)
    parser.add_argument("--equivalence", type=Path, required=True, help="records of the variant's equivalence check")
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules")
    parser.add_argument("--box", help="file of a periodic box, if there is to be one")
    parser.add_argument("--settings", default="{}", help="steps, timestep_fs, ... (JSON text or a file)")
    parser.add_argument("--output", type=Path, required=True, help="records to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """Records of kind ``engine``: one for each system, or one that says why there are none."""
    settings = EngineRunSettings.from_mapping(load_settings(args.settings))
    made = artifact.read_metadata(args.variant)
    common = artifact.shared_fields(made) | {"task": args.engine, "threads": args.threads}
    engine = ENGINES[args.engine]
    if importlib.util.find_spec(engine.module) is None:
        rows = [common | {"status": "unavailable", "reason": not_installed(args.engine)}]
    elif refused := refusal(args.equivalence):
        rows = [common | refused]
    else:
        systems = read_systems(args.systems)
        boxes = [read_system(args.box)] if args.box else []
        rows = [
            common | fields
            for fields in measure(args.engine, VariantFiles.from_arguments(args), settings, systems, boxes)
        ]
    schema.write(args.output, [schema.record("engine", **row) for row in rows])
    return 0


def not_installed(name: str) -> Words:
    """That an engine is missing, and the command that installs it."""
    return f"{ENGINES[name].title} is not installed: `make engines` installs all engines into .venv-engines; then run again"


def measure(
    name: str, files: VariantFiles, settings: EngineRunSettings, systems: "dict[str, Atoms]", boxes: "list[Atoms]"
) -> Iterator[dict[str, Any]]:
    """The fields of one record for each system; of a single one, if the engine cannot run at all.

    Args:
        name: of the engine.
        files: of the variant.
        settings: lengths.
        systems: molecules, by name.
        boxes: periodic systems.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "engine"
        folder.mkdir()
        try:
            bundle = bundle_of(files, Path(place) / "bundle", list(systems.values()))
            by_ase = _runner("ase")(bundle, folder, files.threads)
            in_engine = _runner(name)(bundle, folder, files.threads)
        except Exception as error:
            yield _outcome(error)
            return
        about = {"engine_version": in_engine.version, "computed_by": in_engine.computed_by, "device": in_engine.device}
        judge = Judge(files.checkpoint, in_engine.device)
        for atoms in (*systems.values(), *boxes):
            fields = about | {"system": atoms.info["name"], "n_atoms": len(atoms)}
            try:
                found = compare(in_engine, by_ase, start_of(atoms, settings), settings, judge)
            except Exception as error:
                found = _outcome(error)
            print(fields["system"], found, flush=True)
            yield fields | found


def _runner(name: str) -> type[Runner]:
    """The class of an engine. Imported by name: the rule names the module among the sources of that engine's job alone."""
    return importlib.import_module(f"mlff_distiller.deploy.engine_runs.{name}").Runner


def _outcome(error: Exception) -> dict[str, Any]:
    if isinstance(error, NotImplementedError):
        return {"status": "unavailable", "reason": str(error)}
    return failure(error)


def bundle_of(files: VariantFiles, folder: Path, systems: "list[Atoms]") -> Path:
    """A bundle of a variant, as far as it is loaded; its folder."""
    from mlff_distiller.deploy.bundle import METADATA, write_loaded_files

    made = artifact.read_metadata(files.variant)
    kept = {key: made[key] for key in ("family", "options", "artifact", "target")}
    entry = schema.record("deploy", task="one_molecule", **artifact.shared_fields(made), **kept, threads=files.threads)
    entry = write_loaded_files(folder, entry, files.variant.parent, files.checkpoint, systems, files.torch_cluster)
    schema.write(folder / METADATA, [entry])
    return folder


def start_of(atoms: "Atoms", settings: EngineRunSettings) -> "Atoms":
    """The state that all runs start from: displaced, with velocities, the cell as engines want it."""
    from mlff_distiller.md.start import set_thermal_velocities

    _, start = rattled(atoms, 2, settings.amplitude, settings.seed)
    start.info.clear()
    if start.pbc.any():
        start = in_reduced_form(start)
    set_thermal_velocities(start, settings.temperature_k, settings.seed, at_minimum=False)
    return start


def in_reduced_form(atoms: "Atoms") -> "Atoms":
    """The same crystal, turned: a right-handed cell with zeros above the diagonal, each vector tilted by half of another at most.

    OpenMM asks for that form, LAMMPS and i-PI for one like it.
    """
    turned = atoms.copy()
    # The same lattice: all vectors the other way round, and later each less multiples of those before it.
    if turned.cell.handedness < 0:
        turned.cell = -turned.cell.array
    form, rotation = turned.cell.standard_form()
    turned.positions = turned.positions @ rotation.T
    a, b, c = form.array
    c = c - b * np.round(c[1] / b[1])
    c = c - a * np.round(c[0] / a[0])
    b = b - a * np.round(b[0] / a[0])
    turned.cell = [a, b, c]
    return turned


class Judge:
    """Whether forces and energy are the student's: the rule of the equivalence stage, for fp32.

    Args:
        checkpoint: the student.
        device: of the plain student in fp32, whose errors the limits are made of.
    """

    def __init__(self, checkpoint: Path, device: str):
        from mlff_distiller.variants.plain_student import fp32_baseline, fp64_reference

        self.exact, self.eager = fp64_reference(checkpoint, "auto"), fp32_baseline(checkpoint, device, "auto")

    def __call__(self, atoms: "Atoms", found: Nve) -> dict[str, Any]:
        """Errors of the first forces and energy of a run from ``atoms``, their limits, and the verdict."""
        from mlff_distiller.variants.equivalence import TOLERANCES, judge, limits

        energy, forces = _answer(self.exact, atoms)
        mine, plain = (
            _errors(one[0] - energy, one[1] - forces)
            for one in ((found.potential, found.forces), _answer(self.eager, atoms))
        )
        allowed = limits(plain, TOLERANCES["float32"])
        complaint = judge(mine, plain, TOLERANCES["float32"])
        return {
            "force_rmse_mev_per_a": 1e3 * mine["force_rmse"],
            "force_limit_mev_per_a": 1e3 * allowed["force_rmse"],
            "energy_error_mev_per_atom": 1e3 * mine["energy_rmse"],
            "energy_limit_mev_per_atom": 1e3 * allowed["energy_rmse"],
            "equivalent": not complaint,
        } | ({"status": "failed", "reason": complaint} if complaint else {})


def compare(
    in_engine: Runner, by_ase: Any, start: "Atoms", settings: EngineRunSettings, judge: Judge
) -> dict[str, Any]:
    """Forces, drift and speed of a run in an engine, and drift and speed of the same run in ASE."""
    seconds = warmed_up(in_engine, start, settings)
    plan = plan_of(settings.steps, settings.max_seconds, seconds, settings.timestep_fs)
    by_ase(start, Plan(1, FIRST_EVERY, settings.timestep_fs))
    others = OtherWork()
    found, same = in_engine(start, plan), by_ase(start, plan)
    fields = {
        "timestep_fs": plan.timestep_fs,
        "n_steps": plan.steps,
        "step_ms": _step_ms(found, plan),
        "steps_per_s": 1e3 / _step_ms(found, plan),
        "ase_step_ms": _step_ms(same, plan),
        "kernel_ms": kernel_ms(by_ase.potential, start),
        "others_cores": others.cores(),
        "ase_force_max_mev_per_a": 1e3 * float(np.abs(found.forces - same.forces).max()),
    }
    return fields | drifts(found, same, plan, len(start), settings) | judge(start, found)


def warmed_up(in_engine: Runner, start: "Atoms", settings: EngineRunSettings) -> float:
    """Seconds of a step in short runs, two where they are quick: what an engine does but once is done then."""
    short = Plan(FIRST_WINDOWS, FIRST_EVERY, settings.timestep_fs)
    seconds = in_engine(start, short).seconds
    if sum(seconds) < settings.max_seconds / 2:
        seconds = in_engine(start, short).seconds
    return min(seconds) / FIRST_EVERY


def drifts(found: Nve, same: Nve, plan: Plan, n_atoms: int, settings: EngineRunSettings) -> dict[str, Any]:
    """Slopes of the total energies of a run in an engine, of the same in ASE, and of their difference; null where the run is too
    short for any.

    Raises:
        FloatingPointError: an energy is not finite.
    """
    from mlff_distiller.md.measures import drift

    for where, one in (("the engine", found), ("ASE", same)):
        if not np.isfinite(one.totals).all():
            raise FloatingPointError(f"the total energy is not finite in {where}")
    whose = ("", "ase_", "beyond_ase_")
    if len(found.totals) < FEWEST_SAMPLES:
        names = [f"{one}drift_{what}mev_per_atom_ps" for one in whose for what in ("", "stderr_")]
        return dict.fromkeys((*names, "conserves_energy"))
    times = np.arange(plan.windows + 1) * plan.every * plan.timestep_fs / 1e3
    mine, ase = (1e3 * np.array(run.totals) / n_atoms for run in (found, same))
    slopes = {one: drift(times, energies) for one, energies in zip(whose, (mine, ase, mine - ase), strict=True)}
    fields: dict[str, Any] = {}
    for one, slope in slopes.items():
        fields |= {f"{one}drift_mev_per_atom_ps": slope.value, f"{one}drift_stderr_mev_per_atom_ps": slope.stderr}
    limit = settings.drift_mev_per_atom_ps
    return fields | {"conserves_energy": conserves(slopes[""], slopes["beyond_ase_"], limit)}


def conserves(own: "Slope", beyond_ase: "Slope", limit: float) -> bool | None:
    """Whether an engine's drift, or what it has beyond that of ASE, is within ``limit``; None: too short to tell.

    It is where the interval of two standard errors lies within, and is not where both intervals lie beyond: a drift that ASE
    shows too comes from the time step or the short run.
    """
    both = own, beyond_ase
    if any(abs(slope.value) + 2 * slope.stderr <= limit for slope in both):
        return True
    return False if all(abs(slope.value) - 2 * slope.stderr > limit for slope in both) else None


def kernel_ms(potential: Any, atoms: "Atoms") -> float:
    """Median time of a call of the potential alone, as the benchmark times it: neighbor search included, inputs ready."""
    import torch

    from mlff_distiller.benchmark.timing import interleaved
    from mlff_distiller.systems.batch import Batch

    frames = rattled(atoms, KERNEL_FRAMES, 0.01, seed=0)
    inputs = [Batch.from_atoms([frame], potential.device, potential.dtype) for frame in frames]
    inputs = [inputs[0]._replace(positions=one.positions) for one in inputs]
    wait = torch.cuda.synchronize if potential.device.type == "cuda" else None
    (turns,), _ = interleaved([lambda index: potential(*inputs[index % len(inputs)])], KERNEL_RUNS, 10, wait)
    return median(turns.samples)


def _step_ms(found: Nve, plan: Plan) -> float:
    return 1e3 * median(found.seconds) / plan.every


def _answer(potential: Any, atoms: "Atoms") -> tuple[float, np.ndarray]:
    """Energy, eV, and forces [N, 3] eV/A, as the equivalence stage computes them."""
    from mlff_distiller.systems.batch import Batch

    energies, forces = potential(*Batch.from_atoms([atoms], potential.device, potential.dtype))
    return float(energies[0]), forces.double().cpu().numpy()


def _errors(energy: float, forces: np.ndarray) -> dict[str, float]:
    return {"energy_rmse": abs(energy) / len(forces), "force_rmse": float(np.sqrt(np.mean(np.square(forces))))}
