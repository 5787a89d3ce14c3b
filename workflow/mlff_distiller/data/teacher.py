"""The teacher: any ASE calculator, named in the configuration; GFN2-xTB through tblite by default.

    teacher:
      calculator: tblite.ase:TBLite
      arguments: {method: GFN2-xTB, verbosity: 0}     # these two are its defaults

A teacher gives total energies in eV and forces in eV/A, as every ASE calculator does. tblite and torch bring two OpenMP
runtimes and must not meet in one process; nothing here imports torch.

GFN2-xTB: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019).
"""

import functools
import importlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.data.stress import full_stress
from mlff_distiller.data.teacher_settings import DEFAULT_CALCULATOR, TeacherSettings
from mlff_distiller.systems.read import finite_in_fp32
from mlff_distiller.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

#: Of the default calculator.
DEFAULT_ARGUMENTS = {"method": "GFN2-xTB", "verbosity": 0}


class LabelError(Exception):
    """The teacher gave no usable label for one configuration; the message says why."""


def make_calculator(teacher: Mapping[str, Any] | None = None) -> "Calculator":
    """The ASE calculator that ``teacher`` names.

    Args:
        teacher: ``{"calculator": "module:factory", "arguments": {...}}``; None for GFN2-xTB.

    Raises:
        UserError: unknown key, module or factory missing, the factory refuses the arguments, or what it returns is no
            calculator with energies and forces.
    """
    spec, arguments = _parts(teacher)
    if spec is None:
        raise UserError("teacher.calculator: null; name the calculator that is to label, e.g. 'tblite.ase:TBLite'")
    module_name, _, factory_name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"teacher.calculator: cannot import {module_name!r} ({error}); install the package that has it into this "
            "environment, or name another calculator"
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(
            f"teacher.calculator: importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise UserError(
            f"teacher.calculator: {module_name!r} has no {factory_name!r}{nearest(factory_name, _callables(module))}"
        )
    if spec == DEFAULT_CALCULATOR:
        # It takes any argument and ignores those that it does not know.
        known = factory.default_parameters
        for key in sorted(arguments.keys() - known.keys()):
            raise UserError(f"teacher.arguments: unknown key {key!r}{nearest(key, known)}")
    try:
        calculator = factory(**arguments)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"teacher.calculator: {spec}(**{dict(arguments)}) failed: {type(error).__name__}: {error}"
        ) from error
    offered = getattr(calculator, "implemented_properties", ())
    missing = [name for name in ("energy", "forces") if name not in offered]
    if missing or not hasattr(calculator, "get_property"):
        raise UserError(
            f"teacher.calculator: {spec} gives {type(calculator).__name__}, which has no {' and no '.join(missing)}; "
            "a teacher is an ASE calculator with energy and forces"
            if missing
            else f"teacher.calculator: {spec} gives {type(calculator).__name__}, which is no ASE calculator"
        )
    return calculator


@functools.lru_cache(maxsize=1)
def kept_calculator(teacher: str) -> "Calculator":
    """:func:`make_calculator` of a mapping as JSON text, made once in a process: a network takes seconds to load."""
    return make_calculator(json.loads(teacher))


def teacher_name(teacher: Mapping[str, Any] | None = None) -> str:
    """One line that names the teacher and its arguments, the same for the same teacher."""
    spec, arguments = _parts(teacher)
    shown = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()) if key != "verbosity")
    return f"{spec}({shown})"


def label(atoms: "Atoms", calculator: "Calculator") -> tuple[float, np.ndarray]:
    """Energy (eV, total) and forces ([N, 3] eV/A, float64) of ``atoms``.

    Raises:
        LabelError: the calculator failed (no self-consistency, say) or gave numbers that are not finite.
    """
    try:
        # As ASE does where a calculator is set: some look there whether they know the elements.
        if hasattr(calculator, "set_atoms"):
            calculator.set_atoms(atoms)
        energy = float(calculator.get_property("energy", atoms))
        forces = np.asarray(calculator.get_property("forces", atoms), dtype=np.float64)
    except (Exception, SystemExit) as error:
        # Some programs end the process where they find no solution.
        raise LabelError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    if forces.shape != (len(atoms), 3):
        raise LabelError(f"forces of shape {forces.shape} for {len(atoms)} atoms")
    if not finite_in_fp32(np.array(energy)) or not finite_in_fp32(forces).all():
        raise LabelError("energy or forces not finite")
    return energy, forces.copy()


def label_stress(atoms: "Atoms", calculator: "Calculator") -> np.ndarray | None:
    """Stress [3, 3] eV/A^3, float64, of a cell that is periodic along all three vectors (ASE's sign: dE/dstrain / volume).

    Asked of a calculator after :func:`label`, it costs most calculators nothing more.

    Returns:
        None for other systems, and where the calculator says that it has none.

    Raises:
        LabelError: the calculator failed, or gave something else than finite numbers of ASE's shapes ([6] or [3, 3]).
    """
    from ase.calculators.calculator import PropertyNotImplementedError

    if not atoms.pbc.all() or "stress" not in calculator.implemented_properties:
        return None
    try:
        given = calculator.get_property("stress", atoms)
    except (PropertyNotImplementedError, NotImplementedError):
        return None
    except (Exception, SystemExit) as error:
        raise LabelError(f"stress: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    if given is None:
        return None
    try:
        return full_stress(given)
    except ValueError as error:
        raise LabelError(str(error)) from error


def _parts(teacher: Mapping[str, Any] | None) -> tuple[str | None, dict[str, Any]]:
    """Calculator and arguments; the default calculator keeps those of its default arguments that are not given."""
    settings = TeacherSettings.from_mapping(teacher or {})
    default = DEFAULT_ARGUMENTS if settings.calculator == DEFAULT_CALCULATOR else {}
    return settings.calculator, default | settings.arguments


def _callables(module: object) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
