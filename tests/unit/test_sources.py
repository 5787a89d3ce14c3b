"""The files behind a module are those that it imports, and no others."""

import os
import subprocess
import sys

import pytest

from mlff_distiller.sources import ROOT, sources_of

PREFIX = "workflow/mlff_distiller/"


def test_the_benchmark_depends_on_the_student_and_not_on_figures():
    found = sources_of("benchmark")
    assert PREFIX + "benchmark.py" in found
    assert PREFIX + "student/painn.py" in found
    assert PREFIX + "figures/__init__.py" not in found
    assert PREFIX + "simulate.py" not in found


def test_unknown_module():
    with pytest.raises(ValueError, match="no such module"):
        sources_of("benchmarks")


@pytest.mark.parametrize(
    "stage", ["preflight", "validation", "results", "sampling", "labeling", "report", "training.train"]
)
def test_nothing_that_a_stage_imports_is_missing(stage):
    """What Python really loads for a stage's module is among the files found (imports inside functions may add more)."""
    program = (
        f"import sys, mlff_distiller.{stage}\n"
        "print(*sorted(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'mlff_distiller'), sep='\\n')"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    files = {PREFIX + path.split("/" + PREFIX)[1] for path in loaded.stdout.split()}
    assert files <= set(sources_of(stage))
