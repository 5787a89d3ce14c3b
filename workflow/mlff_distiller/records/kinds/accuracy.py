"""How far the student is from its teacher."""

from typing import Any, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from mlff_distiller.records.kinds.common import CONFIG, Common, Count, EvPerA, Gpa, MevPerA, MevPerAtom, Seconds


@with_config(CONFIG)
class GroupErrors(TypedDict, total=False):
    """Errors of a part of the atoms or configurations."""

    n_atoms: Count
    """Atoms in it."""
    force_mae_mev_per_a: MevPerA | None
    """MAE of the force components."""
    force_rmse_mev_per_a: MevPerA | None
    """Their RMSE."""
    n_configurations: Count
    """Configurations in it; missing where atoms are grouped."""
    energy_mae_mev_per_atom: MevPerAtom | None
    """MAE of the energy; missing where atoms are grouped."""


@with_config(CONFIG)
class Parity(TypedDict, total=False):
    """Some force components, drawn at random."""

    teacher: list[EvPerA]
    """The teacher's."""
    student: list[EvPerA]
    """The student's."""
    numbers: list[int]
    """Atomic numbers of the atoms that they act on."""


@with_config(CONFIG)
class Card(TypedDict, total=False):
    """Comparison with the records that ship with a student."""

    agrees: bool
    """Whether all errors are as expected."""
    expected: dict[str, float]
    """Errors that ship with the student, by field."""
    tolerances: dict[str, float]
    """How far, as a share of it, an error may be from the one expected."""


@with_config(CONFIG)
class Reliability(TypedDict, total=False):
    """What the student says of its own errors, against those found."""

    expected_mev_per_a: list[MevPerA | None]
    """Root mean square error of the force components that the student expects, in groups of equally many atoms by it."""
    found_mev_per_a: list[MevPerA | None]
    """The same as found."""
    detection: dict[str, float]
    """Way of making a configuration unlike any trained -> area under the ROC curve by which it is told from the others."""


class Errors(Common, total=False):
    """Errors on one part of a dataset. Missing where it has no configurations."""

    split: str
    """The part."""
    n_configurations: Count
    """Configurations in it."""
    force_mae_mev_per_a: MevPerA | None
    """MAE of the force components."""
    force_rmse_mev_per_a: MevPerA | None
    """Their RMSE."""
    energy_mae_mev_per_atom: MevPerAtom | None
    """MAE of the energy."""
    stress_mae_gpa: Gpa
    """MAE of the stress's components; missing where no label has a stress."""


class Accuracy(Errors, total=False):
    """Student against teacher on held-out configurations, in fp32."""

    student_sha256: str
    """Hash of the student's checkpoint."""
    labels: str | None
    """Name of the teacher; null where the dataset does not say."""
    sample_sha256: str | None
    """What decides which configurations the dataset holds; null without the dataset's card."""
    n_molecules: Count
    """Different molecules among the configurations."""
    trained_molecules: Count
    """Those of them of which other configurations were trained on; missing where the labels hold none that were."""
    force_rms_mev_per_a: MevPerA | None
    """Root mean square of the teacher's force components."""
    force_r2: float | None
    """R2 of the force components; null where all of them are the same."""
    force_cosine: float | None
    """Mean cosine between the forces of an atom; null where no force is above 0.05 eV/A."""
    energy_rmse_mev_per_atom: MevPerAtom | None
    """RMSE of the energy."""
    n_stresses: Count
    """Configurations whose labels have a stress; this and the next two are missing where none has."""
    stress_rmse_gpa: Gpa
    """RMSE of the stress's components."""
    stress_rms_gpa: Gpa
    """Root mean square of the stress's components in the labels."""
    relative_energy_mae_mev_per_atom: MevPerAtom | None
    """MAE of the energy less each molecule's mean error; null where no molecule has several configurations."""
    tier: str
    """What the MAE of the forces is worth, in words."""
    by_element: dict[str, GroupErrors]
    """Errors by atomic number."""
    by_force: dict[str, GroupErrors]
    """Errors by the length of the teacher's force, eV/A."""
    by_size: dict[str, GroupErrors]
    """Errors by the number of atoms of the configuration."""
    by_method: dict[str, GroupErrors]
    """Errors by how the configuration was sampled."""
    by_molecule: dict[str, GroupErrors]
    """Errors by molecule, as the dataset names it: SMILES, or the name of a structure; missing where there are more than a
    hundred, and in older records."""
    parity: Parity
    """Some force components, for a figure."""
    reliability: Reliability
    """What the student says of its own errors; missing where its checkpoint does not say what it was trained on."""
    card: Card | None
    """Comparison with what ships with the student; missing where nothing does, null where that is of other data."""


@with_config(CONFIG)
class LearningCurvePoint(TypedDict, total=False):
    """One evaluation during a training."""

    step: Count
    """Steps so far."""
    epoch: float
    """Epochs so far."""
    seconds: Seconds
    """Time so far."""
    learning_rate: float
    """At this step."""
    val_force_mae_mev_per_a: MevPerA
    """MAE of the force components on held-out configurations."""
    val_force_rmse_mev_per_a: MevPerA
    """Their RMSE."""
    val_energy_mae_mev_per_atom: MevPerAtom
    """MAE of the energy on the same."""
    val_stress_mae_gpa: Gpa
    """MAE of the stress's components on the same; missing where no label has a stress."""


class Training(Errors, total=False):
    """A training, and the errors of the kept weights on its own held-out configurations."""

    settings: dict[str, Any]
    """Of the training."""
    training: dict[str, Any]
    """Steps, epochs, seconds, sizes, the machine and its software."""
    learning_curve: list[LearningCurvePoint]
    """Errors along the training; losses on training data are in fields whose names begin with `train_`."""


@with_config(CONFIG)
class Before(TypedDict, total=False):
    """Errors before a round, on the same configurations."""

    force_mae_mev_per_a: MevPerA | None
    """MAE of the force components."""
    force_rmse_mev_per_a: MevPerA | None
    """Their RMSE."""
    energy_mae_mev_per_atom: MevPerAtom | None
    """MAE of the energy."""


class RoundLimit(Common, total=False):
    """Whether another round of labels follows, by the limits of the settings."""

    round: Count
    """The round that had been made, from 1."""
    enough: str | None
    """The limit by which no further round is begun, in words; null: another one follows."""
    n_labels: Count
    """All labels so far, also those from before the rounds."""
    seconds: Seconds
    """Since the run's first check."""


class Round(Errors, total=False):
    """A round of labels on frames of the student's own dynamics: errors after it, and before, on what was not trained on."""

    round: Count
    """Which one, from 1."""
    frames: Literal["explored", "sampled"]
    """On frames of this round's exploring, or on configurations from before all rounds."""
    student_sha256: str
    """Hash of the checkpoint after the round."""
    n_molecules: Count
    """Different molecules among the configurations."""
    before: Before
    """Errors of the student before the round."""
    trajectories: Count
    """Trajectories and scans that the student ran in this round; with `frames` `explored` alone, as the next two."""
    diverged: dict[str, Count]
    """How many of them diverged, by the rule that ended them."""
    labels_asked: Count
    """Frames of them that the teacher was asked to label."""
