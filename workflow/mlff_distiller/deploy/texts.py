"""The texts of a bundle: its example and its README. Imports nothing heavy, since the report prints the example."""

from collections.abc import Mapping
from typing import Any

from mlff_distiller.records.statistics import Ratio
from mlff_distiller.records.wording import WORK_TITLES, number, times_as_fast

#: Families whose kernels give energies and forces alone.
WITHOUT_STRESS = ("cuda", "triton")
#: The molecules of the run, which the examples read.
MOLECULES = "molecules.extxyz"

_ASE = """\
from ase import units
from ase.io import read
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from mlff_distiller.calculator import StudentCalculator
"""
_MD = """
thermalize_momenta(atoms, temperature_K=300)
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
dynamics.run(100)
print(f"after {dynamics.nsteps} steps: {atoms.get_total_energy():.4f} eV in all, {atoms.get_temperature():.0f} K")
"""
_ONE = """\
atoms = read(bundle + "/molecules.extxyz", index=0)
atoms.calc = StudentCalculator.from_bundle(bundle)
print(f"{atoms.get_chemical_formula()}: {atoms.get_potential_energy():.4f} eV")
"""
_LARGE = """\
molecule = read(bundle + "/molecules.extxyz", index=0)
atoms = liquid_box(molecule, n_molecules=30, density=0.3)  # g/cm3; a structure of your own goes here
atoms.calc = StudentCalculator.from_bundle(bundle)
print(f"{len(atoms)} atoms in a periodic box: {atoms.get_potential_energy():.4f} eV")
"""
_MANY = """\
potential = load_bundle(bundle)
molecules = read(bundle + "/molecules.extxyz", index=":")
energies, forces = potential(*Batch.from_atoms(molecules, potential.device, potential.dtype))
for atoms, energy in zip(molecules, energies.tolist(), strict=True):
    print(f"{atoms.get_chemical_formula()}: {energy:.4f} eV")
print(f"forces of all {len(forces)} atoms in one tensor, at most {forces.abs().max():.2f} eV/A")
"""
_BATCHES = """\
from ase.io import read

from mlff_distiller.calculator import Batch, load_bundle
"""
#: Kind of work -> (imports, what follows).
EXAMPLES = {
    "one_molecule": (_ASE, _ONE + _MD),
    "many_molecules": (_BATCHES, _MANY),
    "large_systems": (_ASE.replace("StudentCalculator", "StudentCalculator, liquid_box"), _LARGE + _MD),
}


def example(entry: Mapping[str, Any], bundle: str | None = None) -> str:
    """A program that uses a bundle, ready to paste.

    Args:
        entry: the bundle's deploy record, status ``ok``.
        bundle: the bundle's folder as the program names it; None: the folder that the program is in.
    """
    imports, body = EXAMPLES[entry["task"]]
    where = f'"{bundle}"'
    threads = ""
    if entry["device"] == "cpu" and entry["threads"]:
        imports = f"import torch\n{imports}"
        threads = f"torch.set_num_threads({entry['threads']})  # as it was timed\n"
    if bundle is None:
        imports, where = f"from pathlib import Path\n\n{imports}", "str(Path(__file__).parent)"
    return f"{imports}\n{threads}bundle = {where}\n{body}"


def _search(entry: Mapping[str, Any]) -> str:
    """The package that the variant's neighbor search needs, if any."""
    neighbors = entry["options"].get("neighbors", "native")
    return " alone" if neighbors == "native" else f" and {neighbors.replace('_', '-')}"


def gain(work: str, evidence: Mapping[str, Any]) -> str:
    """How much faster a bundle's variant is than eager, in words.

    For batches and boxes no mean: the gain over eager falls as eager has more to do in a call, or grows.
    """
    low, high = evidence["speedup_ci95"]
    if work != "one_molecule" and evidence.get("first_and_last_speedup"):
        first, last = (number(value, 2) for value in evidence["first_and_last_speedup"])
        what, least, most = "atoms", evidence["smallest_atoms"], evidence["largest_atoms"]
        text = f"{first} to {last} times as fast as eager from {number(least)} to {number(most)} {what} in a call"
        return text + (
            f", up to {number(evidence['atoms_per_s'], 2)} atoms a second" if evidence.get("atoms_per_s") else ""
        )
    ratio = Ratio(evidence["speedup"], low, high, evidence.get("processes") or 3)
    return f"{times_as_fast(ratio)} as fast as eager ({evidence['measured']})"


def readme(entry: Mapping[str, Any]) -> str:
    """What a bundle is, where it runs and how it was measured, on half a page of Markdown."""
    proof = entry["evidence"]
    equal, moved, made_for = proof["equivalence"], proof["md"], entry["target"]
    artifact = (
        f"`artifact/` was compiled for torch {made_for['torch']}, Python {made_for['python']} and "
        f"{made_for['architecture']} ({made_for['device']}). Elsewhere it is built again from `student.safetensors` at "
        "the first load, proven against the fp64 student, and kept in your cache; where that cannot be done, loading "
        "is refused with the reason."
        if entry["artifact"]
        else f"Nothing in it is compiled: it needs `student.safetensors`, this package{_search(entry)}."
    )
    found = [
        ("speed", gain(entry["task"], proof)),
        (
            "force error against fp64",
            f"at most {_number(equal['force_rmse_mev_per_a'])} meV/A (eager: "
            f"{_number(equal['eager_force_rmse_mev_per_a'])}) over {equal['systems']} systems",
        ),
        (
            "MD at constant energy",
            f"{moved['verdict']} on {', '.join(moved['systems'])}; largest drift "
            f"{_number(moved['drift_mev_per_atom_ps'])} meV/atom/ps",
        ),
    ]
    table = "\n".join(f"| {what} | {value} |" for what, value in found)
    return f"""\
# `{entry["variant"]}` for {WORK_TITLES[entry["task"]]}

The fastest way of running this student that was found on {made_for["architecture"]}, among those that equal the student
and conserve energy in MD. `python example.py` runs it; in a program of your own, with this package installed:

```python
{_three_lines(entry)}
```

| what | found |
|---|---|
{table}

{artifact} What is loaded must have the hash that `bundle.json` states. An artifact is a program: load bundles only from
whom you trust.
{_stress(entry)}"""


def _stress(entry: Mapping[str, Any]) -> str:
    if entry["options"]["family"] not in WITHOUT_STRESS:
        return ""
    return (
        "\nIt gives no stress: for constant pressure, or to relax a cell, take the plain student, "
        '`StudentCalculator.from_checkpoint("student.safetensors")`.\n'
    )


def _three_lines(entry: Mapping[str, Any]) -> str:
    if entry["task"] == "many_molecules":
        return (
            "from mlff_distiller.calculator import Batch, load_bundle\n\n"
            'potential = load_bundle("path/of/this/folder")\n'
            "energies, forces = potential(*Batch.from_atoms(molecules, potential.device, potential.dtype))"
        )
    return (
        "from mlff_distiller.calculator import StudentCalculator\n\n"
        'atoms.calc = StudentCalculator.from_bundle("path/of/this/folder")'
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"
