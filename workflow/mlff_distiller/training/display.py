"""Progress of a training: a bar in a terminal, otherwise a line every few seconds."""

import time
from typing import Protocol

from mlff_distiller.training.state import Progress

#: Shortest time between two lines if there is no terminal, s.
LINE_EVERY = 10.0


class Trained(Protocol):
    """A training as far as it is shown."""

    progress: Progress

    def describe(self) -> str:
        """The training in one line."""

    def done(self) -> float:
        """The fraction that is done, 0 to 1."""


class ProgressDisplay:
    """Context that shows the progress of ``trainer``."""

    def __init__(self, trainer: Trained):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.trainer = trainer
        self.console = Console()
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=1.0, text="")
        self.last_line = 0.0

    def __enter__(self) -> "ProgressDisplay":
        self.bar.start()
        self._say(f"{self.trainer.describe()}")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        if not self.console.is_terminal:
            self._say(self.text())

    def update(self) -> None:
        """Shows the current state."""
        self.bar.update(self.task, completed=self.trainer.done(), text=self.text())
        if not self.console.is_terminal and time.monotonic() - self.last_line > LINE_EVERY:
            self._say(self.text())

    def text(self) -> str:
        """The state in one line."""
        progress = self.trainer.progress
        text = f"step {progress.step} epoch {progress.epoch} {100 * self.trainer.done():.0f} %"
        if progress.history:
            last = progress.history[-1]
            text += (
                f" | held-out forces {last['val_force_mae_mev_per_a']:.1f} meV/A"
                f" energies {last['val_energy_mae_mev_per_atom']:.2f} meV/atom"
                + (f" stress {last['val_stress_mae_gpa']:.2f} GPa" if "val_stress_mae_gpa" in last else "")
                + f" (best {progress.best_error:.1f} meV/A)"
            )
        return text

    def _say(self, text: str) -> None:
        self.last_line = time.monotonic()
        print(text, flush=True) if not self.console.is_terminal else self.console.print(text)
