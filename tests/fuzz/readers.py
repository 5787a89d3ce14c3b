"""Everything that reads a user's file, and files with damage done to them at random."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
#: What damage puts in place of a number or a word.
ODD = tuple(
    word.encode("latin-1")
    for word in (
        "nan",
        "-inf",
        "1e999",
        "0",
        "-1",
        "9" * 20,
        "",
        "null",
        "true",
        "[]",
        "{}",
        '"',
        "\xff",
        "\0",
        "\n\n",
        "%s",
        "{x}",
    )
)


@dataclass(frozen=True)
class Reader:
    """A reader, the name that its file must have, and sound contents to start from."""

    read: Callable[[Path], object]
    name: str
    sound: bytes


def readers(folder: Path) -> dict[str, Reader]:
    """All readers by what they read; ``folder`` gets the bundle and the labels that contents are taken from."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import read, write

    from mlff_distiller.data.own_data_settings import OwnDataSettings
    from mlff_distiller.data.read import read_dataset
    from mlff_distiller.deploy.bundle import load_bundle
    from mlff_distiller.student.checkpoint import load_student
    from mlff_distiller.systems.read import read_system

    checkpoint = small_checkpoint(folder)
    caffeine = ROOT / "resources/molecules/caffeine.extxyz"
    water = read(ROOT / "resources/molecules/water.extxyz")
    frames, random = [], np.random.default_rng(0)
    for _ in range(6):
        frame = water.copy()
        moved = 0.05 * random.standard_normal((3, 3))
        frame.positions += moved
        frame.calc = SinglePointCalculator(frame, energy=-140.0 + 10.0 * (moved**2).sum(), forces=-20.0 * moved)
        frames.append(frame)
    write(folder / "labels.extxyz", frames)
    by_frame = OwnDataSettings(split_by="frame")
    bundle = write_small_bundle(folder / "bundle", checkpoint)
    return {
        "checkpoint": Reader(load_student, "student.safetensors", checkpoint.read_bytes()),
        "structure": Reader(read_system, "mine.extxyz", caffeine.read_bytes()),
        "labels": Reader(
            lambda path: read_dataset(path, by_frame), "labels.extxyz", (folder / "labels.extxyz").read_bytes()
        ),
        "bundle": Reader(lambda path: load_bundle(path.parent, rebuild=False), "bundle.json", bundle.read_bytes()),
        "configuration": Reader(_read_configuration, "mine.yaml", (ROOT / "config/config.yaml").read_bytes()),
    }


def small_checkpoint(folder: Path) -> Path:
    """A student whose file is mostly header."""
    from mlff_distiller.student.checkpoint import save_student
    from tests.conftest import make_student

    student = make_student(n_features=8, mlp_width=8, readout_width=4, n_blocks=1)
    card = {"data": {"atoms_by_atomic_number": {"1": 4, "6": 2, "7": 1, "8": 3}}}
    return save_student(folder / "student.safetensors", student, card)


def write_small_bundle(folder: Path, checkpoint: Path) -> Path:
    """A bundle of the eager student; its metadata."""
    from ase.io import read

    from mlff_distiller.deploy.bundle import METADATA, write_bundle
    from mlff_distiller.deploy.c_library import CLibrary
    from mlff_distiller.records import schema
    from mlff_distiller.utils.files import sha256_of
    from mlff_distiller.variants.target import target_of

    water = read(ROOT / "resources/molecules/water.extxyz")
    water.info["name"] = "water"
    checks = dict.fromkeys(("force_rmse_mev_per_a", "eager_force_rmse_mev_per_a", "drift_mev_per_atom_ps"))
    entry = schema.record(
        "deploy",
        task="one_molecule",
        variant="eager",
        device="cpu",
        family="eager",
        options={"family": "eager", "neighbors": "native"},
        gives_stress=True,
        artifact=None,
        target=target_of("cpu"),
        threads=1,
        checkpoint_sha256=sha256_of(checkpoint),
        evidence={
            "speedup": 1.0,
            "speedup_ci95": [1.0, 1.0],
            "measured": "nothing",
            "equivalence": {"systems": 1, **checks},
            "md": {"verdict": "not run", "systems": [], **checks},
        },
    )
    write_bundle(folder, entry, folder, checkpoint, [water], CLibrary(missing="not made for this test"))
    return folder / METADATA


def _read_configuration(path: Path) -> None:
    import yaml

    from mlff_distiller.preflight.config import check_duplicate_keys, drop_null_variants
    from mlff_distiller.preflight.config_checks import check_config
    from mlff_distiller.utils.errors import UserError

    check_duplicate_keys([path])
    try:
        given = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError) as error:
        # Snakemake reads the file, and says this itself.
        raise UserError(f"{path}: {error}") from None
    if not isinstance(given, dict):
        raise UserError(f"{path}: no mapping")
    drop_null_variants(given)
    check_config(given)


def damaged(sound: bytes, random: np.random.Generator) -> bytes:
    """A copy with one to four bytes, words or stretches changed, doubled, moved or taken out."""
    data = bytearray(sound)
    # The header of a binary file is where readers decide.
    reach = len(data) if random.random() < 0.5 else min(len(data), 1500)
    for _ in range(random.integers(1, 5)):
        at, length = int(random.integers(max(1, reach))), int(2 ** random.uniform(0, 7))
        kind = random.integers(6)
        if kind == 0:
            data[at : at + 1] = bytes([int(random.integers(256))])
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            end = at
            while end < len(data) and chr(data[end]).isalnum():
                end += 1
            data[at:end] = ODD[int(random.integers(len(ODD)))]
        else:
            other = int(random.integers(max(1, len(data))))
            data[at : at + length] = data[other : other + length]
    return bytes(data)
