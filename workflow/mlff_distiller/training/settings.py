"""What decides a training, checked before it starts."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mlff_distiller.student.config import StudentConfig
from mlff_distiller.utils.settings import Seed, Settings, unit

#: Settings that may change between two parts of one training: they decide where and how it runs, not what it learns.
FREE_TO_CHANGE = ("device", "threads", "compile", "checkpoint_seconds")

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class TrainingChanges(Settings):
    """Some settings of a training, each right by itself: what one training has different from ``student.training``."""

    n_steps: Count | None = Field(None, description="updates; a run with these alone repeats exactly")
    max_seconds: Annotated[Positive | None, unit("s")] = Field(
        None, description="wall time of all parts of an interrupted run, compilation included"
    )
    seed: Seed = Field(0, description="of weights, order of the data and choice of the validation set")
    batch_atoms: Count = Field(4096, description="atoms in a batch; whole molecules are packed up to it")
    learning_rate: Positive = Field(2e-3, description="largest")
    final_learning_rate: Positive = Field(1e-6, description="at the end; not more than the largest")
    warmup_steps: Count = Field(100, description="updates over which the learning rate rises from zero")
    optimizer: Literal["soap", "adamw"] = Field(
        "soap",
        description="an update by `soap` takes a fifth more time than by `adamw` on a GPU, hardly more on a CPU, and learns more",
    )
    weight_decay: NotNegative = Field(1e-3, description="decoupled, as in AdamW")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="of the running mean of the weights")
    clip_norm: Positive = Field(10.0, description="largest norm of a gradient")
    force_weight: Positive = Field(1.0, description="of the mean over atoms of |dF| (eV/A) in the loss")
    energy_weight: NotNegative = Field(2.0, description="of the mean over molecules of |dE| / n (eV/atom) in the loss")
    stress_weight: NotNegative = Field(
        0.1,
        description="of the mean over periodic configurations of |dW| / n (eV/atom) in the loss, W the volume times the stress; "
        "without effect where no label has a stress",
    )
    last_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="of the training, at its end: in fp32 throughout, and with `last_energy_weight`"
    )
    last_energy_weight: NotNegative | None = Field(None, description="null: as before")
    force_delta: Annotated[Positive, unit("eV/A")] = Field(
        0.02, description="error below which the loss is quadratic, above linear (pseudo-Huber)"
    )
    energy_delta: Annotated[Positive, unit("eV/atom")] = Field(0.002, description="the same of energies")
    stress_delta: Annotated[Positive, unit("eV/atom")] = Field(0.01, description="the same of the stress term")
    n_validation: Count = Field(2000, description="held-out configurations of the learning curve, at most")
    evaluate_every: Count = Field(1, description="passes over the data between two evaluations")
    patience: Count | None = Field(
        None, description="evaluations without a better error after which training stops; null: never"
    )
    enough_mev_per_a: Annotated[float, Field(gt=0), unit("meV/A")] | None = Field(
        None, description="held-out force MAE at which training ends; null: it goes on"
    )
    checkpoint_seconds: Annotated[Positive, unit("s")] = Field(60.0, description="between two saved states")
    compile: Literal[True, False, "auto"] = Field(
        "auto", description="compile the step (Inductor, and a CUDA graph); `auto`: on a GPU only"
    )
    tf32: bool = Field(True, description="matrix products in TF32 on a GPU that has it; evaluated in fp32 all the same")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where it runs")
    threads: Count | None = Field(None, description="of PyTorch; null: as PyTorch chooses")
    start_from: str | None = Field(None, description="a checkpoint to start from instead of random weights")
    student: StudentConfig = Field(
        StudentConfig(), description="sizes of the network; with `start_from` at most `norm_epsilon`"
    )


class TrainingSettings(TrainingChanges):
    """Settings of ``train``. The learning-rate schedule ends where ``n_steps`` or ``max_seconds`` ends: the first to.

    With ``n_steps`` alone a run can be repeated exactly; ``max_seconds`` promises when it ends instead. At least one of
    them must be given.
    """

    place: ClassVar[str] = "student.training"

    @model_validator(mode="after")
    def _check(self) -> "TrainingSettings":
        if self.n_steps is None and self.max_seconds is None:
            raise ValueError("give n_steps (a run that repeats exactly) or max_seconds (one that ends in time)")
        if self.final_learning_rate > self.learning_rate:
            raise ValueError("final_learning_rate is larger than learning_rate")
        if self.start_from is not None and self.student.model_fields_set - {"norm_epsilon"}:
            raise ValueError("start_from brings the student's sizes; leave them out of student (norm_epsilon may stay)")
        return self

    @classmethod
    def continued(cls, given: Mapping[str, Any], start_from: str) -> "TrainingSettings":
        """The training that goes on from the checkpoint ``start_from``, which brings the student's sizes.

        Args:
            given: settings; of ``student`` only ``norm_epsilon`` is taken.
            start_from: path of the checkpoint.
        """
        kept = {key: value for key, value in (given.get("student") or {}).items() if key == "norm_epsilon"}
        return cls.from_mapping({**given, "student": kept, "start_from": start_from})

    def fingerprint(self) -> dict[str, Any]:
        """The settings that decide what is learned; an interrupted training resumes only with the same."""
        return {name: value for name, value in self.to_mapping().items() if name not in FREE_TO_CHANGE}
