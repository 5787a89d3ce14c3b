"""Energy, forces and stress of one frame of a user's own data, refused when they are no such thing."""

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.data.stress import full_stress
from mlff_distiller.systems.read import finite_in_fp32
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

#: Forces below this (eV/A) are none: what programs write where they computed nothing, or what symmetry forbids.
NO_FORCE = 1e-8


def labels_of(where: str, frame: "Atoms", energy_key: str, forces_key: str) -> tuple[float, np.ndarray]:
    """Total energy (eV) and forces ([N, 3] eV/A, float64) of ``frame``, which ``where`` names in messages.

    Raises:
        UserError: one of them is missing, of another type or shape, or not finite.
    """
    results = frame.calc.results if frame.calc is not None else {}
    found: dict[str, Any] = {}
    for what, key, known in (("energy", energy_key, frame.info), ("forces", forces_key, frame.arrays)):
        found[what] = results.get(key, known.get(key, frame.info.get(key)))
        if found[what] is None:
            present = ", ".join(sorted({*frame.info, *frame.arrays, *results})) or "nothing"
            raise UserError(
                f"{where} has no {what} {key!r}; it has {present}. Every frame needs a total energy in eV and forces in "
                f"eV/A; name another key with own_data.{what}_key"
            )
    return _energy(where, energy_key, found["energy"], len(frame)), _forces(
        where, forces_key, found["forces"], len(frame)
    )


def _energy(where: str, key: str, value: Any, n_atoms: int) -> float:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, list | tuple | np.ndarray):
        per_atom = ": energies per atom?" if np.shape(value)[:1] == (n_atoms,) else ""
        raise UserError(
            f"{where}: {key!r} holds {np.size(value)} values{per_atom}; expected one number, the total energy in eV"
        )
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        said = "T" if isinstance(value, bool | np.bool_) and value else repr(value)[:60]
        raise UserError(f"{where}: {key!r} is {said}, no number; expected the total energy in eV")
    energy = float(value)
    if not finite_in_fp32(np.array(energy)):
        raise UserError(f"{where} holds numbers that are not finite (the energy {key!r} is {energy}); drop it")
    return energy


def _forces(where: str, key: str, value: Any, n_atoms: int) -> np.ndarray:
    try:
        forces = np.asarray(value)
    except ValueError:
        raise UserError(f"{where}: the forces {key!r} are rows of different lengths; expected [{n_atoms}, 3]") from None
    if forces.dtype.kind not in "fiu":
        raise UserError(f"{where}: the forces {key!r} are no real numbers ({forces.dtype}); expected eV/A")
    if forces.shape != (n_atoms, 3):
        raise UserError(
            f"{where} has forces of shape {forces.shape} for {n_atoms} atoms; {key!r} is to be [{n_atoms}, 3]"
        )
    if np.ma.is_masked(value):
        raise UserError(f"{where}: the forces {key!r} are masked in part; drop the frame")
    bad = np.flatnonzero(~finite_in_fp32(forces).all(axis=1))
    if len(bad):
        raise UserError(
            f"{where} holds numbers that are not finite (the force on atom {bad[0]} is {forces[bad[0]].tolist()}); drop it"
        )
    return forces.astype(np.float64)


def stress_of(where: str, frame: "Atoms", stress_key: str, virials_key: str) -> np.ndarray | None:
    """Stress [3, 3] eV/A^3 (ASE's sign), float64, of a ``frame`` that is periodic along all three vectors.

    Virials are minus the volume times that, in eV, as GAP, MACE and NequIP write them.

    Returns:
        None where the frame has neither, or is not so periodic.

    Raises:
        UserError: not a symmetric tensor of finite numbers, or stress and virials that are not of each other.
    """
    if not frame.pbc.all() or frame.cell.rank < 3:
        return None
    results = frame.calc.results if frame.calc is not None else {}
    found = {}
    scales = {key: -1.0 / frame.get_volume() for key in ("virial", virials_key)} | {stress_key: 1.0}
    for key, scale in scales.items():
        value = results.get(key, frame.info.get(key))
        if value is None:
            continue
        try:
            found[key] = scale * full_stress(value)
        except ValueError as error:
            raise UserError(
                f"{where}: {key!r}: {error}. Mend or drop it, or name another key with own_data.stress_key"
            ) from None
    if not found:
        return None
    *others, (first, stress) = found.items()
    for key, other in others:
        if np.abs(other - stress).max() > 0.02 * np.abs(stress).max() + 1e-5:
            raise UserError(
                f"{where}: {key!r} and {first!r} do not belong together: by the first the stress is "
                f"{np.round(other, 5).tolist()} eV/A^3, by the second {np.round(stress, 5).tolist()} (virials are minus the "
                "volume times the stress). Name the right one with own_data.stress_key or own_data.virials_key, and take the "
                "other out of the file"
            )
    return stress


def check_moment(where: str, frame: "Atoms") -> None:
    """Refuse a frame whose calculation ended with a magnetic moment: unpaired electrons, which the student cannot see.

    Raises:
        UserError: such a frame.
    """
    moment = frame.calc.results.get("magmom") if frame.calc is not None else None
    if isinstance(moment, Real) and not abs(moment) < 0.05:
        raise UserError(
            f"{where}: magmom is {moment}, but the student knows neutral molecules without unpaired electrons only. Leave "
            "such frames out, or have the spin ignored with own_data.allow: [spin]"
        )


def check_there_are_labels(
    path: Any, frames: "Sequence[Atoms]", energies: Sequence[float], forces: Sequence[np.ndarray], one_is_enough: bool
) -> None:
    """Refuse placeholders: forces that are zero, energies that stay the same while the geometry changes.

    Args:
        path: of the file.
        frames: all of it.
        energies: eV, of each frame.
        forces: [N, 3] eV/A, of each frame.
        one_is_enough: refuse a single frame without forces, not only a file without any.

    Raises:
        UserError: such labels, with the frame.
    """
    without = [i for i, force in enumerate(forces) if np.abs(force).max() < NO_FORCE]
    if without and (one_is_enough or len(without) == len(frames)):
        wrong = [i for i in without if not forceless_by_symmetry(frames[i])]
        if wrong:
            more = f" (nor have {len(wrong) - 1} others of {len(frames)} frames)" if len(wrong) > 1 else ""
            raise UserError(
                f"{path}: frame {wrong[0]} has no force on any atom{more}, and no symmetry that forbids them: placeholders, "
                "or a calculation without forces? Write the forces in eV/A, or drop such frames"
            )
    if len(frames) > 1 and len(set(energies)) == 1 and len({f.get_chemical_formula() for f in frames}) > 1:
        raise UserError(f"{path}: every frame has the energy {energies[0]} eV, whatever its atoms: a placeholder?")
    groups: dict[bytes, list[int]] = {}
    for i, frame in enumerate(frames):
        groups.setdefault(frame.numbers.tobytes(), []).append(i)
    for members in groups.values():
        first = members[0]
        if len(members) < 2 or any(energies[i] != energies[first] for i in members):
            continue
        other = next((i for i in members[1:] if _differ(frames[first], frames[i])), None)
        if other is not None:
            raise UserError(
                f"{path}: frames {first} and {other} ({frames[first].get_chemical_formula()}) have different geometries "
                f"and the same energy, {energies[first]} eV, as all frames of these atoms have: a placeholder?"
            )


def forceless_by_symmetry(atoms: "Atoms") -> bool:
    """Whether symmetry alone forbids a force on any atom: an atom by itself, a perfect crystal.

    Where an atom's surroundings single out no direction, the sum of vectors to its neighbors is zero, however weighted.
    """
    from ase.neighborlist import neighbor_list

    i, j, distance, vector = neighbor_list("ijdD", atoms, 5.0)
    for power in (1, 3):
        weight = atoms.numbers[j] * (1 - distance / 5.0) ** 2 / distance**power
        sums = np.zeros((len(atoms), 3))
        np.add.at(sums, i, weight[:, None] * vector)
        if np.abs(sums).max(initial=0.0) > 1e-3 * max(np.abs(weight[:, None] * vector).max(initial=0.0), 1e-12):
            return False
    return True


def _differ(one: "Atoms", other: "Atoms") -> bool:
    """Whether distances within 6 A are others (by 0.001 A), in whatever order: not so after a rotation or a permutation."""
    if len(one) < 2 and not one.pbc.any():
        return False
    from ase.neighborlist import neighbor_list

    a, b = (np.sort(neighbor_list("d", atoms, 6.0)) for atoms in (one, other))
    return len(a) != len(b) or bool(np.abs(a - b).max(initial=0.0) > 1e-3)
