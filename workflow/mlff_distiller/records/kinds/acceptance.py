"""The student against its teacher by a chemist's measures, one class for each of its tasks."""

from pydantic import with_config
from typing_extensions import TypedDict

from mlff_distiller.records.kinds.common import (
    CONFIG,
    Angstrom,
    Common,
    Count,
    CubicAngstrom,
    Gpa,
    KcalPerMol,
    MevPerAtom,
    Percent,
    PerCm,
    Thz,
)


@with_config(CONFIG)
class EnergyCurves(TypedDict, total=False):
    """Energies of teacher and student along one coordinate."""

    x: list[float]
    """The coordinate: A, degrees of a torsion."""
    teacher_kcal_mol: list[KcalPerMol | None]
    """Of the teacher, null where it has none: above its lowest point (torsion), the separate molecules (dimer), or the last
    point (dissociation, approach)."""
    student_kcal_mol: list[KcalPerMol | None]
    """The same of the student."""


@with_config(CONFIG)
class ConformerEnergies(TypedDict, total=False):
    """Energies of conformers, each model's above its lowest."""

    teacher_kcal_mol: list[KcalPerMol]
    """Of the teacher."""
    student_kcal_mol: list[KcalPerMol]
    """Of the student at the same geometries."""


@with_config(CONFIG)
class Frequencies(TypedDict, total=False):
    """All frequencies, ascending; imaginary ones are negative."""

    displacements_a: list[Angstrom]
    """Displacements of the finite differences; the first is that of the comparison."""
    teacher_per_cm: list[list[PerCm]]
    """Of the teacher at its minimum, for each displacement."""
    student_per_cm: list[list[PerCm]]
    """Of the student at its own minimum, for each displacement."""


class Compared(Common, total=False):
    """Every comparison has these. Measured fields are missing where it failed."""

    checkpoint_sha256: str
    """Hash of the student's checkpoint."""
    labels: str
    """Name of the teacher."""
    smiles: str
    """Of the molecule, or of both, with a dot between; empty for a crystal."""
    split: str
    """Part of the student's data that they belong to: `test` and `benchmark` were never trained on, and benchmark
    molecules that were have `train`; `unknown` where nobody knows what the student was trained on."""
    coordinate: str | None
    """What a scan or curve runs along, atoms by element and index; null for the others."""


class Geometry(Compared, total=False):
    """Minima of teacher and student from the same start."""

    rmsd_a: Angstrom
    """Distance of the atoms after alignment, root mean square."""
    bond_error_a: Angstrom | None
    """Largest error of a bond's length, student less teacher; null without bonds."""
    worst_bond: str | None
    """That bond."""
    energy_error_kcal_mol: KcalPerMol
    """Total energy at the student's minimum less the teacher's at its own."""
    steps: Count
    """Steps of the student's optimisation."""
    teacher_steps: Count
    """Steps of the teacher's."""


class Vibration(Compared, total=False):
    """Harmonic frequencies at the respective minima, paired in ascending order."""

    frequency_mae_per_cm: PerCm
    """MAE."""
    frequency_error_per_cm: PerCm
    """Largest error, student less teacher."""
    worst_frequency_per_cm: PerCm
    """The teacher's frequency where it is."""
    imaginary: Count
    """Imaginary frequencies of the student."""
    change_per_cm: PerCm
    """Largest change of a frequency of the student with the displacement of the finite differences."""
    changed_frequency_per_cm: PerCm
    """The teacher's frequency of that mode."""
    teacher_change_per_cm: PerCm
    """Largest change of a frequency of the teacher."""
    vibrations: Frequencies
    """All frequencies."""


class Torsion(Compared, total=False):
    """A rigid torsion profile from the teacher's minimum."""

    barrier_kcal_mol: KcalPerMol
    """Highest point of the teacher above its lowest."""
    barrier_error_kcal_mol: KcalPerMol
    """The same of the student, less the teacher's."""
    profile_mae_kcal_mol: KcalPerMol
    """MAE of the profile, each from its own lowest point."""
    points: Count
    """Angles that both have an energy for."""
    refused: Count
    """Angles that the student refuses: atoms closer together than any that it learned."""
    curve: EnergyCurves
    """Both profiles."""


class Conformers(Compared, total=False):
    """Energies of the conformers that the teacher finds."""

    n_conformers: Count
    """Different conformers."""
    refused: Count
    """Those that the student refuses."""
    conformer_mae_kcal_mol: KcalPerMol
    """MAE of the energies less their means."""
    spread_kcal_mol: KcalPerMol
    """From the teacher's lowest to its highest."""
    spearman: float | None
    """Rank correlation; null for two conformers, or where a model gives all the same energy."""
    same_lowest: bool
    """Whether both have the same lowest conformer."""
    energies: ConformerEnergies
    """All energies."""


class Dimer(Compared, total=False):
    """Interaction energy of two rigid molecules along their distance."""

    dimer_mae_kcal_mol: KcalPerMol | None
    """MAE where the teacher's energy is below a limit of the configuration; null where it nowhere is."""
    well_depth_kcal_mol: KcalPerMol
    """Depth of the teacher's minimum; 0 without one."""
    well_depth_error_kcal_mol: KcalPerMol
    """Depth of the student's minimum less the teacher's."""
    minimum_a: Angstrom | None
    """Distance of the teacher's minimum; null without one."""
    student_minimum_a: Angstrom | None
    """Distance of the student's."""
    points: Count
    """Distances that both have an energy for."""
    refused: Count
    """Distances that the student refuses."""
    curve: EnergyCurves
    """Both curves."""


@with_config(CONFIG)
class VolumeCurve(TypedDict, total=False):
    """Energies along the volume, each model's above the minimum of its own fit."""

    volumes_a3_per_atom: list[CubicAngstrom]
    """Volumes of the cells."""
    teacher_mev_per_atom: list[MevPerAtom | None]
    """Of the teacher."""
    student_mev_per_atom: list[MevPerAtom | None]
    """Of the student; null where it refuses."""


class Volume(Compared, total=False):
    """A crystal at several volumes, atoms at the teacher's fractions of the cell, fitted by Birch and Murnaghan's equation."""

    volume_a3_per_atom: CubicAngstrom
    """The teacher's volume at its minimum."""
    volume_error_percent: Percent
    """The student's volume at its minimum less the teacher's."""
    bulk_modulus_gpa: Gpa
    """The teacher's bulk modulus."""
    bulk_modulus_error_gpa: Gpa
    """The student's less the teacher's."""
    volume_mae_mev_per_atom: MevPerAtom
    """MAE of the curve, each from its own minimum."""
    points: Count
    """Volumes that both have an energy for."""
    refused: Count
    """Volumes that the student refuses."""
    volume_curve: VolumeCurve
    """Both curves."""


@with_config(CONFIG)
class ElasticConstants(TypedDict, total=False):
    """Elastic constants of both, rows and columns xx, yy, zz, yz, xz, xy, with relaxed atoms."""

    teacher_gpa: list[list[Gpa]]
    """Of the teacher at its minimum."""
    student_gpa: list[list[Gpa]]
    """Of the student at its own."""


class Elastic(Compared, total=False):
    """Elastic constants of a crystal at the respective minima."""

    elastic_mae_gpa: Gpa
    """MAE of the 21 constants."""
    elastic_error_gpa: Gpa
    """Largest error, student less teacher."""
    worst_elastic: str
    """Which constant has it."""
    worst_elastic_gpa: Gpa
    """The teacher's value of it."""
    stable: bool
    """Whether every strain costs energy by the student's constants (Born's criterion)."""
    elastic: ElasticConstants
    """All constants."""


@with_config(CONFIG)
class PhononFrequencies(TypedDict, total=False):
    """Frequencies at each wave vector, ascending; imaginary ones are negative."""

    wave_vectors: list[list[float]]
    """In units of the reciprocal cell; those that fit into the repeated cell."""
    teacher_thz: list[list[Thz]]
    """Of the teacher at its minimum."""
    student_thz: list[list[Thz]]
    """Of the student at its own."""


class PhononErrors(Compared, total=False):
    """Phonons of a crystal at the respective minima, paired in ascending order at each wave vector, without translations."""

    phonon_mae_thz: Thz
    """MAE."""
    phonon_error_thz: Thz
    """Largest error, student less teacher."""
    worst_phonon_thz: Thz
    """The teacher's frequency where it is."""
    worst_wave_vector: list[float]
    """The wave vector where it is."""
    imaginary: Count
    """Imaginary frequencies of the student."""
    teacher_imaginary: Count
    """Those of the teacher."""
    phonons: PhononFrequencies
    """All frequencies."""


class Smoothness(Compared, total=False):
    """Holes and cusps along a bond (`dissociation`) or of two atoms pushed together (`approach`), by the rules of
    `acceptance/smoothness.py`."""

    shortest_accepted_a: Angstrom
    """Shortest distance that the student does not refuse."""
    refused: Count
    """Distances that it refuses."""
    minimum_a: Angstrom | None
    """Distance of the teacher's minimum; null without one that is deep enough to count, and for two molecules."""
    holes_a: list[Angstrom]
    """Distances of the student's holes."""
    walls_kcal_mol: list[KcalPerMol]
    """Highest energy on the way into each of them, above the minimum or (two molecules) above the longest distance."""
    cusps_a: list[Angstrom]
    """Distances of its cusps."""
    below_minimum_a: Angstrom | None
    """Longest distance on the teacher's repulsive wall at which the student's energy is below its minimum; null without one."""
    below_minimum_kcal_mol: KcalPerMol | None
    """By how much it is at most."""
    refused_holes_a: list[Angstrom]
    """Holes where the student refuses unless told otherwise."""
    refused_below_minimum_a: Angstrom | None
    """The same of energies below the minimum, where there are none at longer distances."""
    teacher_holes_a: list[Angstrom]
    """Holes of the teacher."""
    teacher_cusps_a: list[Angstrom]
    """Cusps of the teacher."""
    curve: EnergyCurves
    """Both curves."""
