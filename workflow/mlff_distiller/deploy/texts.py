"""The texts of a bundle: its example and its README. Imports nothing heavy, since the report prints the example."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlff_distiller.records.statistics import Ratio
from mlff_distiller.records.wording import WORK_TITLES, number, times_as_fast

if TYPE_CHECKING:
    from ase import Atoms

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

_C_EXAMPLE = """\
/* Energy and forces of one molecule. To compile and run: make example && ./example weights.mlff */
#include <stdio.h>
#include <stdlib.h>

#include "mlff.h"

enum {{ N_ATOMS = {n_atoms} }};
static const int32_t numbers[N_ATOMS] = {{{numbers}}};
static const double positions[N_ATOMS][3] = {{ /* A */
{positions}
}};

static void stop(const char *words) {{
  fprintf(stderr, "%s\\n", words);
  exit(1);
}}

int main(int argc, char **argv) {{
  char words[MLFF_MESSAGE];
  double energy, forces[N_ATOMS][3];
  mlff_model *model;

  if (argc != 2) stop("usage: example weights.mlff");
  if (mlff_interface_version() != MLFF_INTERFACE_VERSION) stop("mlff.h and libmlff.so are of different versions");
  model = mlff_open(argv[1], words, sizeof words);
  if (!model) stop(words);
  /* NULL, NULL: no cell, nothing is periodic. The third NULL: no virial. */
  if (mlff_evaluate(model, N_ATOMS, numbers, positions[0], NULL, NULL, &energy, forces[0], NULL, words, sizeof words))
    stop(words);
  printf("%.6f eV\\n", energy);
  for (int atom = 0; atom < N_ATOMS; ++atom)
    printf("%3d  %9.5f %9.5f %9.5f eV/A\\n", (int)numbers[atom], forces[atom][0], forces[atom][1], forces[atom][2]);
  mlff_free(model);
  return 0;
}}
"""
_MAKEFILE = """\
# `make example` compiles the example. `make -B` compiles the library anew as well, for the processor of this machine; where
# the compiler knows no -march=native: make -B MACHINE=
CXX ?= c++
CC ?= cc
MACHINE = {machine}

example: example.c mlff.h libmlff.so
{tab}$(CC) -std=c99 -O2 example.c -o example -L. -lmlff -Wl,-rpath,'$$ORIGIN'

libmlff.so:
{tab}$(CXX) {flags} $(MACHINE) {defines} -I. source/painn.cpp -o $@
"""


def c_example(atoms: "Atoms") -> str:
    """A program in C that computes a molecule."""
    return _C_EXAMPLE.format(
        n_atoms=len(atoms),
        numbers=", ".join(map(str, atoms.numbers)),
        positions="\n".join(f"    {{{x:.8f}, {y:.8f}, {z:.8f}}}," for x, y, z in atoms.positions.tolist()),
    )


def makefile(flags: Sequence[str], machine: Sequence[str], defines: Sequence[str]) -> str:
    """What builds the example, and the library from its source.

    Args:
        flags, defines: the compiler's arguments.
        machine: those that not every compiler knows.
    """
    return _MAKEFILE.format(tab="\t", machine=" ".join(machine), flags=" ".join(flags), defines=" ".join(defines))


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


def readme(entry: Mapping[str, Any], no_c: str | None = None) -> str:
    """What a bundle is, where it runs and how it was measured, on a page of Markdown.

    Args:
        entry: the bundle's deploy record, status ``ok``.
        no_c: why there is nothing for C in it; None where there is.
    """
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
{_stress(entry)}
## From C, without Python
{_c(no_c)}
"""


def _c(missing: str | None) -> str:
    if missing:
        return f"This bundle has nothing for programs without Python: {missing}"
    return """\
`c/` is for programs in C, C++, Fortran, Julia or any other language that calls C: `mlff.h` (the interface, and its
documentation), `libmlff.so` (the C++ kernel, on the CPU, in float32) and `weights.mlff` (this student). It equals the student
as a variant must. It gives energy, forces and virial of molecules and periodic systems, and refuses what Python refuses,
with a code and in words; a charge is for the caller to see. To run the example:

    cd c
    make example                # or: cc example.c -o example -L. -lmlff -Wl,-rpath,'$ORIGIN'
    ./example weights.mlff

`libmlff.so` was compiled for the processor of the machine that made this bundle. On another one, `make -B` compiles it from
`source/` first (g++ or clang, C++17, a few seconds). A library fits students of the same sizes; it refuses others."""


def _stress(entry: Mapping[str, Any]) -> str:
    if entry["gives_stress"]:
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
