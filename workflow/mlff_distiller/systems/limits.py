"""What a student may be asked about: elements that it learned, neutral closed shells, atoms that do not overlap."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.utils.errors import UserError, Words, nearest

if TYPE_CHECKING:
    from ase import Atoms

#: The student's embedding knows these atomic numbers.
MAX_ATOMIC_NUMBER = 100
#: What a caller can allow, by name, in every argument called ``allow``.
ALLOWABLE = ("charge", "distances", "elements", "spin")
#: Keys of ``atoms.info``, in lower case, by which programs hand on a charge (e), 2 S or 2 S + 1.
_CHARGE_KEYS = {"charge", "total_charge", "net_charge", "molecular_charge"}
#: "spin" is 2 S + 1 for some programs and 2 S for others: 0 and 1 may both be a singlet.
_SPIN_KEYS = {
    **dict.fromkeys(("spin", "total_spin"), (0, 1)),
    **dict.fromkeys(("multiplicity", "spin_multiplicity", "mult"), (1,)),
    **dict.fromkeys(("uhf", "unpaired_electrons", "n_unpaired"), (0,)),
}
#: The spellings of these keys.
_ASKED = frozenset(
    spell(key) for key in (*_CHARGE_KEYS, *_SPIN_KEYS) for spell in (str.lower, str.upper, str.capitalize, str.title)
)
#: Partial charges are rounded; their sum is not quite zero, e.
_CHARGE_ROUNDING = 0.1


def checked_allow(allow: Iterable[str]) -> frozenset[str]:
    """``allow`` as a set.

    Raises:
        UserError: a name that is not one of :data:`ALLOWABLE`.
    """
    names = (allow,) if isinstance(allow, str) else tuple(allow)
    for name in names:
        if name not in ALLOWABLE:
            raise UserError(f"allow: cannot be {name!r}{nearest(name, ALLOWABLE)}")
    return frozenset(names)


@dataclass(frozen=True)
class Limits:
    """What a potential accepts.

    Args:
        elements: atomic numbers that the student learned. None: unknown; then all that it has an embedding for are
            accepted, and no distance is too short.
        allow: what is not refused, of :data:`ALLOWABLE`: ``elements`` that were never learned, a ``charge`` or ``spin``
            (neither changes the result), ``distances`` shorter than any learned.
        most: the largest atomic number of the student's embedding.
    """

    elements: frozenset[int] | None = None
    allow: Iterable[str] = frozenset()
    most: int = MAX_ATOMIC_NUMBER

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow", checked_allow(self.allow))

    @property
    def distances(self) -> bool:
        """Whether distances shorter than any learned are refused."""
        return self.elements is not None and "distances" not in self.allow

    @cached_property
    def _learned(self) -> np.ndarray:
        """Whether the student learned each atomic number from 0 to ``most``."""
        return np.isin(np.arange(self.most + 1), list(self.elements or ()))

    @cached_property
    def answered(self) -> np.ndarray:
        """Whether each atomic number from 0 to ``most`` is answered, and, last, that none beyond is: [most + 2] bool."""
        known = np.arange(self.most + 1) > 0
        if self.elements is not None and "elements" not in self.allow:
            known &= self._learned
        return np.append(known, False)

    def check_numbers(self, numbers: np.ndarray) -> None:
        """Raise a :class:`UserError` for the first of ``numbers`` [N] that the student does not know."""
        if unknown := self.unknown_element(numbers):
            raise UserError(f"atom {unknown[0]} {unknown[1]}")

    def unknown_element(self, numbers: np.ndarray) -> tuple[int, Words] | None:
        """The first of ``numbers`` [N] that the student does not know, and what is wrong with that atom; None for none."""
        # The rest only finds the words: this is asked of every new molecule.
        if self.answered.take(numbers, mode="clip").all():
            return None
        embedded = (numbers >= 1) & (numbers <= self.most)
        if not embedded.all():
            atom = int(np.argmin(embedded))
            return atom, f"has the atomic number {numbers[atom]}; known elements are 1 (H) to {_element(self.most)}"
        if self.elements is None or "elements" in self.allow:
            return None
        learned = self._learned[numbers]
        if learned.all():
            return None
        from ase.data import chemical_symbols

        atom = int(np.argmin(learned))
        known = ", ".join(chemical_symbols[number] for number in sorted(self.elements))
        return atom, (
            f"is {chemical_symbols[numbers[atom]]}, which the student never learned: it knows {known}. Train one on data "
            "with that element, or insist on meaningless numbers with allow=('elements',)"
        )

    def check_charge_and_spin(self, atoms: "Atoms") -> None:
        """Raise a :class:`UserError` where ``atoms`` say that they are charged or have unpaired electrons."""
        if said := self.charge_or_spin(atoms):
            raise UserError(said)

    def charge_or_spin(self, atoms: "Atoms") -> str:
        """What ``atoms`` say of a charge or of unpaired electrons that the student would ignore, in words; or nothing."""
        # Runs before every call: for most atoms, which have neither, it costs a few look-ups.
        for key in _ASKED.intersection(atoms.info):
            name, value = key.lower(), atoms.info[key]
            if name in _CHARGE_KEYS and "charge" not in self.allow and not _is(value, (0,)):
                return _ignored(f"info[{key!r}] is {value!r}", f"atoms.info[{key!r}]", "charge")
            if name in _SPIN_KEYS and "spin" not in self.allow and not _is(value, _SPIN_KEYS[name]):
                return _ignored(f"info[{key!r}] is {value!r}", f"atoms.info[{key!r}]", "spin")
        if "initial_charges" in atoms.arrays and "charge" not in self.allow:
            total = float(atoms.arrays["initial_charges"].sum())
            if not abs(total) < _CHARGE_ROUNDING:
                return _ignored(
                    f"the initial charges add up to {total:g}", "them with atoms.set_initial_charges(None)", "charge"
                )
        if "initial_magmoms" in atoms.arrays and "spin" not in self.allow and atoms.arrays["initial_magmoms"].any():
            return _ignored(
                "initial magnetic moments are not zero", "them with atoms.set_initial_magnetic_moments(None)", "spin"
            )
        return ""


def _element(number: int) -> str:
    from ase.data import chemical_symbols

    return f"{number} ({chemical_symbols[number]})"


def _is(value: Any, right: tuple[int, ...]) -> bool:
    try:
        return value is None or float(value) in right
    except (TypeError, ValueError):
        return False


def _ignored(said: str, what: str, name: str) -> str:
    return (
        f"{said}, but the student knows neutral molecules without unpaired electrons only. "
        f"Remove {what}, or have it ignored with allow=({name!r},)"
    )
