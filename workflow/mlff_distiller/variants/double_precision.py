"""A variant's arithmetic in fp64: its order of operations and its forces, without the rounding of fp32."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller.utils.errors import UserError
from mlff_distiller.variants.registry import IN_DOUBLE, family_of, has_double_form

if TYPE_CHECKING:
    from mlff_distiller.potentials.base import Potential


def potential_in_double(spec: dict[str, Any], checkpoint: Path, device: str) -> "Potential":
    """The potential of a variant's ``spec``, made from the fp64 student in ``checkpoint``.

    Raises:
        UserError: the family works in one precision only, or the C++ kernel cannot be built.
    """
    import torch

    from mlff_distiller.student.checkpoint import load_student

    if not has_double_form(spec):
        raise UserError(
            f"no fp64 form of {spec}; the time step test runs variants of the families {', '.join(IN_DOUBLE)}, uncompiled"
        )
    return family_of(spec).in_double(load_student(checkpoint, device, torch.float64, neighbors=spec.get("neighbors")))
