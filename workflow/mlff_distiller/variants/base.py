"""What a family of variants provides: build an artifact once, load it as a potential as often as needed."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlff_distiller.potentials.base import Potential
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.batch import Batch


class VariantFamily(ABC):
    """One way of running the student. Instances have no state; everything that was built is in ``folder``."""

    #: How far from the fp64 reference a variant may be: a class of :data:`mlff_distiller.variants.equivalence.TOLERANCES`.
    precision = "float32"
    #: The one device that the family is made for, whatever the run's is; None: that of the run.
    only_device: str | None = None

    def unavailable(self, spec: dict[str, Any], device: str) -> str | None:
        """Why this variant cannot run on ``device`` ("cpu" or "cuda") here, in words; None when it can."""
        return None

    def precision_of(self, spec: dict[str, Any]) -> str:
        """The class of tolerance that the variant is held to."""
        return self.precision

    def build(self, student: StudentForceField, spec: dict[str, Any], folder: Path) -> str | None:
        """Compile into ``folder`` for the student's device and dtype what can be compiled before the first call.

        Args:
            student: on its device, in its dtype.
            spec: the variant's checked options.
            folder: empty; everything that loading needs is written here, at the latest by :func:`call_everything`.

        Returns:
            The name of the main artifact in ``folder``, or None when the family keeps nothing.
        """
        return None

    @abstractmethod
    def load(self, student: StudentForceField, spec: dict[str, Any], folder: Path) -> Potential:
        """The potential, from what :meth:`build` wrote."""

    def in_double(self, student: StudentForceField) -> Potential:
        """The potential of an fp64 ``student``; of the families in :data:`~mlff_distiller.variants.registry.IN_DOUBLE` alone."""
        raise NotImplementedError(f"{type(self).__name__} has no fp64 form")


def call_everything(potential: Potential, examples: Sequence[Batch]) -> None:
    """Compute energies, and energies and forces, of every example, so that what compiles at its first call is compiled."""
    for example in examples:
        potential(*example)
        with contextlib.suppress(NotImplementedError):
            potential.energy(*example)
