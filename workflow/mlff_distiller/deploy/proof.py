"""Whether what is handed over equals the student, on the cases of the equivalence stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.potentials.base import Potential

#: Geometries per molecule on which a variant that was built again is proven, and how far they are rattled, A.
PROOF = {"n_frames": 2, "amplitude": 0.05, "seed": 0}


def not_equivalent(potential: "Potential", checkpoint: Path, precision: str, molecules: "Sequence[Atoms]") -> str:
    """Why ``potential`` is not equivalent to the student in ``checkpoint``, in words; empty when it is.

    The cases and the rule of the equivalence stage, on fewer geometries of the molecules.
    """
    from mlff_distiller.variants.cases import MOLECULE, cases_of
    from mlff_distiller.variants.equivalence import TOLERANCES, answers, errors_against, judge
    from mlff_distiller.variants.plain_student import fp32_baseline, fp64_reference

    reference, eager = fp64_reference(checkpoint), fp32_baseline(checkpoint, potential.device)
    systems = {f"{k}: {atoms.info.get('name', atoms.symbols)}": atoms for k, atoms in enumerate(molecules)}
    for case in cases_of(systems, reference.limits.elements, reference.cutoff, **PROOF):
        stress = case.has_stress and potential.has_stress
        try:
            mine = answers(potential, case, stress)
        except NotImplementedError:
            if case.kind == MOLECULE:
                raise
            continue
        exact, plain = answers(reference, case, stress), answers(eager, case, stress)
        found = judge(errors_against(exact, mine), errors_against(exact, plain), TOLERANCES[precision])
        if found:
            return f"on {case.name.partition(': ')[2] or case.name}: {found}"
    return ""
