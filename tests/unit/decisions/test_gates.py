import pytest

from mlff_distiller.decisions import gates
from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.utils.errors import UserError
from tests.unit.records.synthetic_records import SYSTEMS, benchmark, equivalence, md, run_records


def small_run(energy=2.0, forces=4.0, *, with_md=True, md_ok=True, variant="cpp", spread=0.005):
    systems = list(SYSTEMS)[:3]
    entries = []
    for name, ratios in (("eager", (1.0, 1.0)), (variant, (energy, forces))):
        for system in systems:
            entries.append(equivalence(name, system))
            for task, ratio in zip(("energy", "energy_forces"), ratios, strict=True):
                entries += [benchmark(name, task, system, ratio, replicate=r, process_spread=spread) for r in range(4)]
            if with_md:
                entries.append(md(name, system, passed=md_ok or name == "eager"))
    return Run(collect.merge(entries))


def decide(run, **measures):
    (gate,) = gates.decide({"week_2": measures}, run)
    return gate


def test_a_gate_passes_when_the_whole_interval_reaches_the_threshold():
    run = small_run()
    assert decide(run, energy_forces_speedup=3.0).passed
    assert decide(run, energy_speedup=1.8, energy_forces_speedup=3.0, md_passes=True).passed
    assert not decide(run, energy_forces_speedup=5.0).passed


def test_an_interval_that_reaches_below_fails():
    run = small_run(spread=0.15)
    value = run.winner()[1]
    gate = decide(run, energy_forces_speedup=(value.value + value.low) / 2)
    assert not gate.passed
    assert "reaches below" in gate.findings[0].found


def test_one_failed_measure_fails_the_gate():
    gate = decide(small_run(), energy_speedup=3.0, energy_forces_speedup=3.0)
    assert [finding.passed for finding in gate.findings] == [False, True]
    assert not gate.passed


@pytest.mark.parametrize("measure", gates.MEASURES)
def test_a_missing_figure_fails(measure):
    gate = decide(Run([]), **{measure: True if measure == "md_passes" else 1.0})
    assert not gate.passed
    assert gate.decision == gate.findings[0].decision == "not measured"


def test_what_was_not_measured_hides_no_failure():
    systems = list(SYSTEMS)[:3]
    untimed = [equivalence("eager", s) for s in systems] + [md("eager", s, passed=False) for s in systems]
    gate = decide(Run(collect.merge(untimed)), energy_forces_speedup=3.0, md_passes=True)
    assert [finding.decision for finding in gate.findings] == ["not measured", "failed"]
    assert gate.decision == "failed"


@pytest.mark.parametrize(
    ("ran", "failing", "found"),
    [
        (("eager", "cpp"), None, "MD passed with all 2 variants equivalent to the student"),
        (("eager", "cpp"), "cpp", "MD failed: passed with 1 of 2 variants equivalent to the student"),
        (("eager",), None, "MD failed: passed with 1 of 2 variants equivalent to the student"),
    ],
)
def test_without_timings_the_md_of_every_equivalent_variant_counts(ran, failing, found):
    systems = list(SYSTEMS)[:3]
    entries = [equivalence(name, s) for name in ("eager", "cpp") for s in systems]
    entries += [md(name, s, passed=name != failing) for name in ran for s in systems]
    gate = decide(Run(collect.merge(entries)), md_passes=True)
    assert gate.findings[0].found == found
    assert gate.decision == ("passed" if "all" in found else "failed")


def test_md_not_run_fails_its_measure():
    gate = decide(small_run(with_md=False), md_passes=True)
    assert gate.decision == "not measured"
    assert decide(small_run(), md_passes=True).passed


def test_a_variant_that_fails_md_wins_nothing():
    run = small_run(md_ok=False)
    assert run.winner() is None
    for measure in ("energy_forces_speedup", "energy_speedup", "force_speedup"):
        assert decide(run, **{measure: 1.5}).decision == "failed"
    assert decide(run, md_passes=True).decision == "failed"


def test_the_forces_own_speedup_is_that_of_the_difference():
    run = small_run(energy=2.0, forces=4.0)
    # Eager: energy 1, both 2.6. Variant: energy 1/2, both 2.6/4: the forces' part goes from 1.6 to 0.15.
    truth = (2.6 - 1) / (2.6 / 4 - 1 / 2)
    _, found = gates.MEASURES["force_speedup"](run)
    assert found.low < truth < found.high
    assert found.value == pytest.approx(truth, rel=0.25)


def test_forces_that_cost_nothing_measurable_pass_on_their_floor():
    run = small_run(energy=2.0, forces=5.3)
    _, found = gates.MEASURES["force_speedup"](run)
    assert found.low > 3
    assert decide(run, force_speedup=3.0).passed


def test_a_gate_without_measures_decides_nothing():
    (gate,) = gates.decide({"project": {}}, small_run())
    assert not gate.passed
    (gate,) = gates.decide({"project": {"md_passes": False}}, small_run())
    assert gate.findings == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"week_1": {"energy_sped": 3}}, "did you mean 'energy_speedup'"),
        ({"week_1": {"energy_speedup": "fast"}}, "must be a number, not 'fast'"),
        ({"week_1": {"energy_speedup": True}}, "must be a number, not True"),
        ({"week_1": {"md_passes": 3}}, "must be true or false, not 3"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        gates.decide(settings, Run([]))


def test_on_a_whole_run_the_fastest_valid_variant_is_judged():
    run = Run(collect.merge(run_records()))
    assert run.winner()[0] == "cpp"
    gate = decide(run, energy_forces_speedup=3.0, force_speedup=2.0, md_passes=True)
    assert {finding.variant for finding in gate.findings} == {"cpp"}
    assert gate.passed
