"""The files behind a module are those that it imports, and no others."""

import os
import subprocess
import sys

import pytest

from mlff_distiller import sources
from mlff_distiller.sources import ROOT, code_of, sources_of

PREFIX = "workflow/mlff_distiller/"


def test_the_benchmark_depends_on_the_student_and_not_on_figures():
    found = sources_of("benchmark.single")
    assert PREFIX + "benchmark/single.py" in found
    assert PREFIX + "student/painn.py" in found
    assert PREFIX + "report/figures/draw.py" not in found
    assert PREFIX + "md/simulate.py" not in found


def test_kernels_belong_to_the_modules_that_compile_them():
    found = sources_of("variants.families.cpp")
    assert PREFIX + "kernels/cpu/painn.hpp" in found
    assert PREFIX + "kernels/cpu/mlff.h" in found
    assert not [file for file in found if file.endswith((".cu", ".cuh"))]
    assert PREFIX + "kernels/cuda/platform.cuh" in sources_of("variants.families.cuda")


@pytest.mark.parametrize(
    ("suffix", "before", "same", "other"),
    [
        (".py", "def f():\n    return 1\n", 'def f():\n    """One."""\n    return 1  # so it is\n', "def f():\n    return 2\n"),
        (".py", "class C:\n    a: int\n", 'class C:\n    a: int\n    """How many."""\n', "class C:\n    a: float\n"),
        (".py", "p.add_argument('--n', type=int, help='a')\n", "p.add_argument('--n', type=int,\n help='b')\n",
         "p.add_argument('--n', type=float, help='a')\n"),
        (".py", "raise UserError(f'no {n} here')\n", "raise UserError(f'there is no {n}')\n",
         "raise UserError(f'no {m} here')\n"),
        (".py", "print('done', n)\n", "print('it is done', n)\n", "print('done', m)\n"),
        (".py", "def f(n) -> Words:\n    return f'{n} left'\n", "def f(n) -> Words:\n    return f'left: {n}'\n",
         "def f(n) -> Words:\n    return f'{n + 1} left'\n"),
        (".py", "def f(n) -> Words:\n    if 'x' in n:\n        return 'a'\n",
         "def f(n) -> Words:\n    if 'x' in n:\n        return 'b'\n",
         "def f(n) -> Words:\n    if 'y' in n:\n        return 'a'\n"),
        (".py", "def f() -> str:\n    return 'a'\n", "def f() -> str:\n    return ('a')\n",
         "def f() -> str:\n    return 'b'\n"),
        (".py", "n: int = Field(1, ge=0, description='a')\n",
         "n: int = Field(1, ge=0, description='b', title='c', examples=[2])\n", "n: int = Field(2, ge=0, description='a')\n"),
        (".py", "n: A[int, f.Field(ge=0, description='a')]\n", "n: A[int, f.Field(ge=0)]\n", "n: A[int, f.Field(ge=1)]\n"),
        (".py", "n = field(1, title='a')\n", "n = field(1, title='a')  # b\n", "n = field(1, title='b')\n"),
        (".cu", "int n = 1;\n", "/* how\n many */ int n = 1; // so many\n", "int n = 2;\n"),
        (".hpp", 'm.say("%d; \\"no\\"", n);\n', 'm.say("none: %d", n);\n', 'm.say("%d; \\"no\\"", m);\n'),
        (".hpp", '#include "a.hpp"\nm.say("a");\n', '#include "a.hpp"\nm.say("b");\n', '#include "b.hpp"\nm.say("a");\n'),
    ],
)  # fmt: skip
def test_a_digest_changes_with_the_meaning_alone(tmp_path, suffix, before, same, other):
    digests = []
    for name, text in {"before": before, "same": same, "other": other}.items():
        file = tmp_path / f"{name}{suffix}"
        file.write_text(text)
        digests.append(sources._read(file).digest)
    assert digests[0] == digests[1] != digests[2]


def test_code_names_its_file():
    assert any(entry.startswith(PREFIX + "student/painn.py ") for entry in code_of("benchmark.single"))


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A new process with an empty cache: called again, another process with that cache."""
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", str(tmp_path / "cache"))

    def start():
        for cached in (sources._read, sources._known, sources._needed_by):
            cached.cache_clear()

    start()
    yield start
    start()


def test_what_is_known_is_not_parsed_again(fresh, monkeypatch):
    before = code_of("benchmark.single")
    fresh()
    monkeypatch.setattr("ast.parse", None)
    assert code_of("benchmark.single") == before


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": ["b", [1]]}', "null"])
def test_a_damaged_cache_is_as_none(fresh, text):
    before = code_of("benchmark.single")
    sources._cache().write_text(text, encoding="utf-8")
    fresh()
    assert code_of("benchmark.single") == before


def test_a_cache_that_cannot_be_written_to_is_as_none(fresh, tmp_path, monkeypatch):
    before = code_of("benchmark.single")
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", str(tmp_path / "file"))
    fresh()
    assert code_of("benchmark.single") == before


def test_unknown_module():
    with pytest.raises(ValueError, match="no such module"):
        sources_of("benchmarks")


@pytest.mark.parametrize(
    "stage",
    [
        "preflight.machine",
        "variants.check_equivalence",
        "records.collect",
        "data.sampling",
        "data.labeling",
        "report.write",
        "training.train",
    ],
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
