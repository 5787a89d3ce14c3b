"""Figures of compile cost, batches, ASE, kernels, roofline and first calls: what is drawn is what the records say."""

import copy
import math

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import record
from mlff_distiller.report import captions, tables
from mlff_distiller.report.figures import draw, style
from mlff_distiller.report.figures.ase_overhead import through_ase
from mlff_distiller.report.names import batch_title, kernel_name, short
from tests.unit.records.synthetic_records import SYSTEMS, eager_ms, run_records
from tests.unit.report.test_figures import overlaps, words


@pytest.fixture(scope="module")
def merged():
    return collect.merge(run_records(replicates=1))


@pytest.fixture
def entries(merged):
    return copy.deepcopy(merged)


def of(entries, **fields):
    return [entry for entry in entries if all(entry.get(name) == value for name, value in fields.items())]


def bars(axis):
    """The bars of an axis; the patch behind it is none."""
    return [patch for patch in axis.patches if isinstance(patch, Rectangle)]


def break_even(entries, variant, steps):
    """Let a variant pay after so many steps, molecule by molecule; None where it does not."""
    found = of(entries, kind="benchmark", variant=variant, task="energy_forces", batch=1)
    for entry, number in zip(found, steps, strict=True):
        entry["break_even_steps"] = number


@pytest.fixture
def partly(entries):
    """One variant pays on three of seven molecules, one on none; one that was compiled was not timed."""
    break_even(entries, "torch_compile", [1000, 2000, 9000, None, None, None, None])
    break_even(entries, "torchscript", [None] * 7)
    for entry in of(entries, kind="benchmark", variant="cpp", batch=1):
        entry |= {"status": "failed", "reason": "wrong", "median_ms": None, "speedup": None, "break_even_steps": None}
    return Run(entries)


def test_compiling_pays_on_so_many_molecules_and_what_was_not_timed_is_told_apart(partly):
    figure = draw.draw("compile", partly)
    shown = words(figure)
    for text in ("pays on 3 of 7 molecules", "pays on none of 7 molecules", "pays on all 7", "not timed"):
        assert text in shown
    assert shown.count("not timed") == 1
    assert "nothing saved" not in shown
    dots = {
        round(line.get_ydata()[0]): list(line.get_xdata()) for line in figure.axes[1].lines if len(line.get_xdata())
    }
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert dots[rows.index("torch_compile")] == [1000, 2000, 9000]
    assert rows[0] == "cpp", "what was not timed is at the bottom"
    assert overlaps(figure) == []


def test_steps_have_ticks_in_thousands(entries):
    for name in ("torch_compile", "torch_compile_forces", "torchscript", "cpp", "analytic", "bf16", "vesin", "eager"):
        break_even(entries, name, [1000, 2000, 3000, 4000, 5000, 9000, 20000])
    shown = [label.get_text() for label in draw.draw("compile", Run(entries)).axes[1].get_xticklabels()]
    assert {"1k", "2k", "5k", "10k", "20k"} <= set(shown)


def test_the_table_says_on_how_many_molecules_compiling_pays(partly):
    rows = {row["variant"]: row["break_even"] for row in tables.overview(partly)}
    assert rows["torch_compile"] == "2,000 (3 of 7 molecules)"
    assert rows["torchscript"] == "never (7 molecules)"
    assert rows["cpp"] == "not timed"
    assert "molecules" not in rows["torch_compile_forces"]


def test_a_batch_of_all_molecules_says_so_and_panels_share_their_sizes(entries):
    figure = draw.draw("throughput", Run(entries))
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["caffeine", "mix of the seven molecules"]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert batch_title(Run(entries), "caffeine") == "caffeine"
    for entry in of(entries, task="throughput"):
        entry["atoms_per_s"] = 1e9 if entry["system"] == "mix" else 1.0
    assert "(mix of the seven molecules)" in captions.caption("throughput", Run(entries))


def test_names_of_lines_that_end_early_at_one_point_are_moved_apart(entries):
    kept = [
        entry
        for entry in entries
        if not (entry["task"] == "throughput" and entry["variant"] == "analytic" and entry["batch"] > 64)
    ]
    for entry in of(kept, task="throughput"):
        if entry["batch"] > 64:
            entry["baseline_median_ms"] = None
        elif entry["variant"] == "analytic":
            entry["median_ms"] = 1.01 * entry["baseline_median_ms"]
    figure = draw.draw("throughput", Run(kept))
    assert {"eager", "analytic"} <= {text.get_text() for text in figure.axes[1].texts}
    assert overlaps(figure) == []


def timed_apart(entries):
    """As runs were before the bare call took turns with the one through ASE."""
    for entry in of(entries, task="calculator"):
        for field in ("bare_median_ms", "bare_median_ci95_ms", "ase_ratio", "ase_ratio_ci95"):
            entry.pop(field, None)
    return entries


def test_what_ase_adds_comes_from_calls_that_took_turns(entries):
    for entry in of(entries, task="calculator", variant="cpp"):
        shown = entry["system"] != "caffeine"
        entry |= {
            "bare_median_ms": 0.5,
            "ase_ratio": 1.4,
            "ase_ratio_ci95": [1.3 if shown else 0.9, 1.5],
            "replicates": 3,
        }
    run = Run(entries)
    calls = through_ase(run, "cpp")
    assert all(call.together and call.bare == 0.5 for call in calls.values())
    assert {system for system, call in calls.items() if call.added is None} == {"caffeine"}
    assert calls["water"].added == pytest.approx(0.2)
    assert "other processes" not in captions.caption("ase_overhead", run)
    rows = {row["system"]: row for row in tables.scaling(run)["Through the ASE calculator"] if row["variant"] == "cpp"}
    assert (rows["water"]["bare"], rows["water"]["ase_adds"]) == ("0.500", "0.20 [0.15, 0.25]")


def test_a_table_of_before_says_that_the_bare_call_is_lacking(entries):
    rows = tables.scaling(Run(timed_apart(entries)))["Through the ASE calculator"]
    assert {(row["bare"], row["ase_adds"]) for row in rows} == {("-", "-")}


def test_what_ase_adds_is_a_bar_on_the_bare_call_and_never_negative(entries):
    run = Run(timed_apart(entries))
    bare = {system: time.value for system, time in run.times("cpp", "energy_forces").items()}
    for entry in of(entries, task="calculator", variant="cpp"):
        time = bare[entry["system"]] * (0.9 if entry["system"] == "caffeine" else 3.0)
        entry |= {"median_ms": time, "median_ci95_ms": [0.99 * time, 1.01 * time]}
    figure = draw.draw("ase_overhead", Run(entries))
    axis = next(axis for axis in figure.axes if axis.get_title(loc="left").startswith("cpp"))
    assert all(bar.get_width() >= 0 for bar in bars(axis))
    assert [text.get_text() for text in axis.texts].count("not measurable") == 1
    end = {round(bar.get_y() + bar.get_height() / 2): bar.get_x() + bar.get_width() for bar in bars(axis)}
    height = list(SYSTEMS).index("cholesterol")
    assert end[height] == pytest.approx(3 * bare["cholesterol"])
    assert end[list(SYSTEMS).index("caffeine")] == pytest.approx(bare["caffeine"]), "the bare call alone"
    told = captions.caption("ase_overhead", Run(entries))
    assert "on 1 of 7 molecules what it adds is not measurable" in told
    assert "bare calls were timed in other processes" in told
    assert overlaps(figure) == []


def test_an_addition_within_the_spread_of_the_times_is_not_measurable(entries):
    for entry in of(timed_apart(entries), task="calculator", variant="cpp"):
        time = Run(entries).times("cpp", "energy_forces")[entry["system"]].value
        entry |= {"median_ms": 1.05 * time, "median_ci95_ms": [0.5 * time, 2 * time]}
    assert words(draw.draw("ase_overhead", Run(entries))).count("not measurable") >= len(SYSTEMS)


def profile(unit, wall_ms, kernels, **fields):
    made = [{"name": name, "calls": 1.0, "us": us} for name, us in kernels]
    counts = {"unit": unit, "wall_ms": wall_ms, "kernels": made, "n_kernels": float(len(made))}
    common = {"variant": "cuda", "task": "energy_forces", "system": "caffeine", "n_atoms": 24, "device": "cuda"}
    return record("profile", **common, dtype="float32", **counts, **fields)


def test_kernels_are_named_in_bars_that_are_a_hundred_percent():
    baseline = {"unit": "kernel", "wall_ms": 10.0, "n_kernels": 2.0}
    baseline["kernels"] = [{"name": "void sgemm<float>(int)", "calls": 9.0, "us": 500.0}]
    run = Run([profile("kernel", 0.1, [("molecule", 60.0), ("tiny", 0.5)], baseline=baseline)], device="cuda")
    figure = draw.draw("kernel_times", run)
    shown = words(figure)
    assert figure.axes[0].get_title(loc="left") == "One energy + forces call of caffeine"
    assert "one-launch kernel 60 %" in shown
    assert "molecule 60" not in shown
    assert "GPU idle 95 %" in shown
    assert "tiny" not in shown, "a name that does not fit is left out"
    sums = {}
    for bar in bars(figure.axes[0]):
        height = round(bar.get_y() + bar.get_height() / 2)
        sums[height] = sums.get(height, 0.0) + bar.get_width()
    assert list(sums.values()) == pytest.approx([100, 100])
    assert "the longest is the one-launch kernel" in captions.caption("kernel_times", run)


def test_operators_that_take_longer_than_the_call_are_shares_of_their_sum():
    run = Run([profile("operator", 1.0, [("aten::mul", 1500.0), ("aten::mm", 500.0)])], device="cuda")
    shown = words(draw.draw("kernel_times", run))
    assert "mul 75 %" in shown
    assert "mm 25 %" in shown
    assert "outside" not in shown


@pytest.mark.parametrize(
    ("recorded", "printed"),
    [
        ("molecule", "one-launch kernel"),
        ("void at::native::(anonymous namespace)::CatArray<at::Opaque<4u> >(int)", "CatArray"),
        ("autograd::engine::evaluate_function: MulBackward0", "MulBackward0"),
        ("Memcpy DtoD (Device -> Device)", "Memcpy DtoD"),
        ("aten::mul", "mul"),
    ],
)
def test_kernels_have_short_names(recorded, printed):
    assert kernel_name(recorded) == printed


def test_ticks_are_short():
    assert [short(value) for value in (50, 999, 1000, 20000, 1.5e6, 2e9)] == ["50", "999", "1k", "20k", "1.5M", "2G"]


def test_the_roofline_has_slope_roof_and_eager_and_says_what_its_points_are(entries):
    run = Run(entries)
    figure = draw.draw("roofline", run)
    axis = figure.axes[0]
    ridge = 90.0 / 12.0
    assert axis.get_xlim()[0] < ridge / 3
    slope = next(line for line in axis.lines if list(line.get_xdata()) == pytest.approx([axis.get_xlim()[0], ridge]))
    assert max(slope.get_ydata()) == pytest.approx(90.0)
    rates = [rate for line in axis.lines if line.get_color() == style.color("eager") for rate in line.get_ydata()]
    eager = [1e3 * e["gflop"] / e["baseline_median_ms"] for e in of(entries, variant="cpp") if e.get("gflop")
             and e["baseline_median_ms"]]  # fmt: skip
    assert sorted(rates) == pytest.approx(sorted(eager))
    shown = words(figure)
    for text in ("eager, b", "cpp, b", "batch 1,024", "copy: 12 GB/s", "float32 products: 90 GFLOP/s"):
        assert text in shown
    assert overlaps(figure) == []


@pytest.mark.parametrize("name", ["throughput", "roofline"])
def test_of_many_variants_six_are_named(name, entries):
    for number in range(7):
        extra = copy.deepcopy(of(entries, kind="benchmark", variant="cpp"))
        entries += [{**entry, "variant": f"other_{number}"} for entry in extra if entry.get("gflop")]
    shown = words(draw.draw(name, Run(entries)))
    assert sum(f"other_{number}" in shown for number in range(7)) + ("cpp" in shown) + ("analytic" in shown) == 5
    assert "eager" in shown


def test_a_rate_above_a_roof_is_as_fast_as_if(entries):
    fastest = max(1e3 * e["gflop"] / e["median_ms"] for e in entries if e.get("gflop"))
    for entry, roof in zip(of(entries, kind="profile"), (fastest / 1.04, fastest / 0.98), strict=True):
        entry["ceilings"]["float32_gflop_per_s"] = roof
    sentence = captions.caption("roofline", Run(entries))
    assert "as fast as if it did all of that work at 98 to 104 % of the rate" in sentence
    assert "counted as done" in sentence


def test_first_calls_have_a_color_per_variant_and_their_time_in_words(entries):
    extra = copy.deepcopy(of(entries, kind="compile", variant="torchscript"))
    extra[0]["variant"] = "torchscript_other"
    figure = draw.draw("warm_up", Run([*entries, *extra]))
    axis = figure.axes[0]
    colors = {to_hex(line.get_color()) for line in axis.lines if len(line.get_xdata()) > 2}
    assert len(colors) == 3
    shown = words(figure)
    for name in ("eager", "torchscript", "torchscript_other"):
        assert f"{name}: first call" in shown
    assert f"eager: first call {eager_ms(3, 'energy_forces'):.2f} ms" in shown
    frame = axis.get_window_extent()
    for text in axis.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 <= box.x1 <= frame.x1, text.get_text()
        assert box.y1 <= frame.y1
    assert overlaps(figure) == []


def contrast(shade):
    parts = [int(shade[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 1.05 / (math.fsum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) + 0.05)


@pytest.mark.parametrize("shade", [*dict(style.COLORS).values(), "#F0E442", "#FFFFFF"])
def test_text_can_be_read_in_every_color(shade):
    assert contrast(style.readable(shade)) >= 3
    if contrast(shade) > 3.1:
        assert style.readable(shade) == shade.lower()


def test_the_teachers_line_has_its_name_and_threads(entries):
    for entry in entries:
        if entry["variant"] == "teacher":
            entry["threads"] = 2
        if entry["kind"] == "accuracy":
            entry["labels"] = "tblite.ase:TBLite, method=GFN2-xTB"
    shown = words(draw.draw("latency", Run(entries)))
    assert "GFN2-xTB, 2 threads" in shown
