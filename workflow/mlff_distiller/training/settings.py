"""What decides a training, checked before it starts."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mlff_distiller.student.painn import StudentConfig
from mlff_distiller.utils.errors import UserError, nearest

#: Settings that may change between two parts of one training: they decide where and how it runs, not what it learns.
FREE_TO_CHANGE = ("device", "threads", "compile", "checkpoint_seconds")
WHOLE = ("n_steps", "seed", "batch_atoms", "n_validation", "evaluate_every", "patience", "threads", "warmup_steps")
POSITIVE = (
    *("n_steps", "max_seconds", "batch_atoms", "n_validation", "evaluate_every", "patience", "threads"),
    *("learning_rate", "final_learning_rate", "clip_norm", "force_weight", "force_delta", "energy_delta"),
    *("checkpoint_seconds", "warmup_steps"),
)


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of ``train``. The learning-rate schedule ends where ``n_steps`` or ``max_seconds`` ends: the first to.

    With ``n_steps`` alone a run can be repeated exactly; ``max_seconds`` (wall time of all parts of an interrupted run,
    compilation included) promises when it ends instead. At least one of them must be given.
    """

    n_steps: int | None = None
    max_seconds: float | None = None
    seed: int = 0
    #: Atoms in a batch; whole molecules are packed up to it.
    batch_atoms: int = 4096
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-6
    #: Updates over which the learning rate rises from zero.
    warmup_steps: int = 100
    weight_decay: float = 1e-3
    ema_decay: float = 0.999
    clip_norm: float = 10.0
    #: Loss = force_weight * mean over atoms of |dF| (eV/A) + energy_weight * mean over molecules of |dE| / n (eV/atom).
    force_weight: float = 1.0
    energy_weight: float = 2.0
    #: Below these errors the loss is quadratic, above them linear (pseudo-Huber).
    force_delta: float = 0.02
    energy_delta: float = 0.002
    #: Held-out configurations that the learning curve is measured on (at most; chosen by the seed).
    n_validation: int = 2000
    #: Passes over the data between two evaluations.
    evaluate_every: int = 1
    #: Evaluations without a better validation error after which training stops; null: never.
    patience: int | None = None
    checkpoint_seconds: float = 60.0
    #: Compile the step (Inductor, and a CUDA graph): ``true``, ``false``, or ``auto`` for on a GPU only.
    compile: bool | str = "auto"
    #: Matrix products in TF32 on a GPU that has it; the student itself is evaluated in fp32.
    tf32: bool = True
    device: str = "auto"
    threads: int | None = None
    #: A checkpoint to start from instead of random weights.
    start_from: str | None = None
    student: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.n_steps is None and self.max_seconds is None:
            raise UserError("train: give n_steps (a run that repeats exactly) or max_seconds (one that ends in time)")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value > 0):
                raise UserError(f"train: {name} must be a positive number, not {value!r}")
        for name in ("weight_decay", "energy_weight", "seed"):
            value = getattr(self, name)
            if not (_is_number(value) and value >= 0):
                raise UserError(f"train: {name} must be zero or a positive number, not {value!r}")
        for name in WHOLE:
            value = getattr(self, name)
            if value is not None and value != int(value):
                raise UserError(f"train: {name} must be a whole number, not {value!r}")
        if not (_is_number(self.ema_decay) and 0 <= self.ema_decay < 1):
            raise UserError(f"train: ema_decay must be at least 0 and below 1, not {self.ema_decay!r}")
        if self.final_learning_rate > self.learning_rate:
            raise UserError("train: final_learning_rate is larger than learning_rate")
        if self.compile not in (True, False, "auto"):
            raise UserError(f"train: compile must be true, false or auto, not {self.compile!r}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise UserError(f"train: device must be auto, cpu or cuda, not {self.device!r}")
        if self.start_from is not None and self.student:
            raise UserError("train: start_from brings the student's sizes; leave student out")
        StudentConfig.from_mapping(self.student)

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> "TrainingSettings":
        """From a configuration mapping; an unknown key is refused with the nearest right one."""
        known = {entry.name for entry in fields(cls)}
        for key in mapping:
            if key not in known:
                raise UserError(f"train: unknown key {key!r}{nearest(key, known)}")
        return cls(**mapping)

    def to_mapping(self) -> dict[str, Any]:
        """All settings as a plain mapping."""
        return asdict(self)

    def fingerprint(self) -> dict[str, Any]:
        """The settings that decide what is learned; an interrupted training resumes only with the same."""
        return {name: value for name, value in self.to_mapping().items() if name not in FREE_TO_CHANGE}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
