"""A liquid distilled and compared with its teacher, for real: config/examples/liquid.yaml, as small as it can be."""

import numpy as np
import pytest
import yaml

from mlff_distiller.records import schema
from mlff_distiller.systems.liquid import liquid_box


def tiny(name):
    """What is laid over the example: a small box, the CPU, few steps."""
    network = {"n_features": 16, "mlp_width": 16, "readout_width": 16, "n_blocks": 1}
    dynamics = {"trajectories": 3, "frames": 2, "stride": 2, "skip": 2}
    return {
        "run": "tiny_liquid",
        "device": "cpu",
        "molecules": {"systems": [f"{name}.extxyz"]},
        "student": {
            "sampling": {
                "structures": {"files": [f"{name}.extxyz"], "rattled": 10, "least_width": 1.0, "dynamics": dynamics}
            },
            "training": {"max_seconds": None, "n_steps": 20, "batch_atoms": 256, "student": network},
        },
        "md": {
            "systems": [name],
            "pairs": {
                "variants": ["cpp"],
                "systems": [f"{name}.extxyz"],
                "settings": {"equilibration_steps": 4, "steps": 40, "sample_every": 2},
            },
        },
    }


def write_box(folder, name, box):
    from ase.io import write

    write(folder / f"{name}.extxyz", box, columns=["symbols", "positions"])


@pytest.mark.timeout(1800)
def test_argon_is_distilled_and_compared_as_a_liquid(fresh):
    """Lennard-Jones argon, whose labels cost nothing."""
    from ase import Atoms, units

    write_box(fresh.folder, "argon", liquid_box(Atoms("Ar", positions=[[0, 0, 0]]), 32, 1.3, min_distance=3.0))
    changes = tiny("argon")
    changes["student"]["sampling"]["structures"] |= {"rattled": 60}
    changes["student"]["training"]["n_steps"] = 200
    changes["md"]["pairs"]["settings"] |= {"temperature_k": 120, "timestep_fs": 5.0, "steps": 400, "sample_every": 10}
    example = yaml.safe_load((fresh.folder / "config/examples/liquid.yaml").read_text())
    arguments = {"sigma": 3.4, "epsilon": 120 * units.kB, "rc": 5.0, "smooth": True}
    example["teacher"] = {"calculator": "ase.calculators.lj:LennardJones", "arguments": arguments}
    (fresh.folder / "lj.yaml").write_text(yaml.safe_dump(example))
    (fresh.folder / "tiny.yaml").write_text(yaml.safe_dump(changes))
    files = ("--configfile", "lj.yaml", "tiny.yaml")
    target = "results/tiny_liquid/md/cpp/pairs/argon.json"
    done = fresh.snakemake(target, *files, timeout=1700)
    assert done.returncode == 0, done.stderr[-4000:]
    (record,) = schema.read(fresh.folder / target)
    assert record["status"] == "ok", record["reason"]
    assert set(record["gates"]) == {"pair_difference", "diffusion_error", "pressure_error_gpa"}
    curves = record["pair_distributions"]
    assert set(curves) == {"student", "teacher"}
    distances = record["bin_a"] * (np.arange(len(curves["teacher"]["Ar-Ar"])) + 0.5)
    assert distances[np.argmax(curves["teacher"]["Ar-Ar"])] == pytest.approx(3.7, abs=0.3)
    # 32 atoms of a 20-second student: alike, not equal.
    assert 0 < record["pair_difference"] < 0.4
    assert record["teacher_diffusion_e9_m2_s"] > 0
    assert record["nvt_steps_per_s"] > 0
    assert record["teacher_steps_per_s"] > 0
    assert fresh.plan(target, *files) == {}
