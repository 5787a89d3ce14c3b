"""The model card in a student's checkpoint: training data, settings, errors and limits."""

from typing import Any

from mlff_distiller.data.dataset import Dataset, summary
from mlff_distiller.training.settings import TrainingSettings
from mlff_distiller.training.state import Progress
from mlff_distiller.utils import provenance

#: Limits of every student, independent of its training data.
GENERAL_LIMITS = (
    "Interactions end where message passing ends: no electrostatics or dispersion at long range.",
    "No charge or spin input: neutral closed-shell systems only, unless the training data say otherwise.",
    "Not to be trusted far from its training data. It refuses elements that it never learned and atoms closer together than "
    "any that it learned; of other surroundings that are new to it, it warns only where asked to (`warn=True`).",
    "It can be no better than its teacher.",
)


def make_card(
    dataset: Dataset, settings: TrainingSettings, progress: Progress, made_on: dict[str, Any]
) -> dict[str, Any]:
    """The card of a student trained on ``dataset``.

    Args:
        dataset: the whole dataset; the card counts the configurations of each split.
        settings: of the training.
        progress: of the finished training; the card has the errors of the best weights on the held-out configurations.
        made_on: as :meth:`Trainer.made_on` returns it.
    """
    training = dataset.of_split("train")
    elements = ", ".join(str(number) for number in sorted(set(training.numbers.tolist())))
    source = provenance.collect()
    best = min(progress.history, key=lambda entry: entry["val_force_mae_mev_per_a"])
    return {
        "teacher": dataset.teacher or None,
        "data": summary(dataset),
        "settings": settings.to_mapping(),
        "training": {"steps": progress.step, "epochs": progress.epoch, "seconds": round(progress.seconds, 1)}
        | made_on
        | {key: source[key] for key in ("time_utc", "machine", "packages", "git")},
        "figures": {"split": "val", "n_configurations": made_on["n_validation"]}
        | {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")},
        "limits": [
            f"Trained on molecules and clusters of {training.n_atoms.min()} to {training.n_atoms.max()} atoms "
            f"of the atomic numbers {elements}.",
            *GENERAL_LIMITS,
        ],
    }
