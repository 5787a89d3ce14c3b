"""Which variant is chosen for which kind of work."""

import copy

import pytest

from mlff_distiller.decisions.winners import choose, evidence
from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import SCALING_TASKS
from mlff_distiller.records.wording import WORK_CONTENTS
from tests.unit.records.synthetic_records import benchmark, equivalence, md, run_records


@pytest.fixture(scope="module")
def entries():
    return collect.merge(run_records(replicates=2))


def batches(variant, speedups, replicate=1, **fields):
    """Throughput records of a variant: batch -> speed-up, None where only the variant itself could be timed."""
    made = []
    for batch, speedup in speedups.items():
        sizes = {"batch": batch, "n_atoms": 24 * batch}
        entry = benchmark(variant, "energy_forces", "caffeine", speedup or 1.0, replicate=replicate, **sizes)
        if speedup is None:
            del entry["baseline_samples_ms"]
        made.append(entry | {"task": "throughput"} | fields)
    return made


def proven(*variants):
    return [check(name, "caffeine") for name in variants for check in (equivalence, md)]


def test_the_fastest_that_is_equivalent_and_passed_md_is_handed_over(entries):
    choice = choose(Run(entries), "one_molecule")
    assert choice.variant == "cpp"
    assert choice.speedup.value == pytest.approx(6.1, rel=0.1)
    assert len(choice.speedups) == 7
    proof = evidence(Run(entries), choice)
    assert proof["speedup_ci95"][0] < proof["speedup"] < proof["speedup_ci95"][1]
    assert (proof["equivalence"]["verdict"], proof["equivalence"]["systems"]) == ("passed", 7)
    assert proof["md"]["verdict"] == "passed"
    assert set(proof["md"]["systems"]) >= {"benzene", "caffeine", "penicillin_g"}
    assert (proof["smallest_atoms"], proof["largest_atoms"]) == (3, 102)


def test_one_that_failed_md_is_passed_over_and_named(entries):
    changed = copy.deepcopy(entries)
    for entry in changed:
        if entry["kind"] == "md" and entry["variant"] == "cpp":
            entry["passed"] = False
    choice = choose(Run(changed), "one_molecule")
    assert choice.variant == "torch_compile_forces"
    assert "MD failed" in choice.passed_over["cpp"]


def test_without_md_nothing_is_handed_over(entries):
    choice = choose(Run([entry for entry in entries if entry["kind"] != "md"]), "one_molecule")
    assert choice.variant is None
    assert "MD not run" in choice.reason


def test_if_nothing_is_faster_no_variant_is_chosen():
    made = collect.merge(
        [benchmark(name, "energy_forces", "caffeine", 1.0, replicate=r) for name in ("eager", "cpp") for r in (1, 2, 3)]
        + proven("eager", "cpp")
    )
    choice = choose(Run(made), "one_molecule")
    assert choice.variant is None
    assert choice.reason.startswith("no variant is shown to be faster than eager")


@pytest.mark.parametrize("work", ["many_molecules", "large_systems"])
def test_work_that_was_not_timed_has_no_winner_and_says_so(entries, work):
    alone = [entry for entry in entries if entry["task"] not in SCALING_TASKS]
    choice = choose(Run(alone), work)
    assert choice.variant is None
    assert f"did not time {WORK_CONTENTS[work]}" in choice.reason


def test_another_kind_of_work_may_have_another_winner():
    made = [
        *(benchmark(name, "energy_forces", "caffeine", value) for name, value in (("cpp", 6.0), ("analytic", 2.0))),
        *batches("cpp", {16: 3.0, 256: 2.0}),
        *batches("torch_compile_forces", {16: 4.0, 256: 4.0}),
        *proven("cpp", "torch_compile_forces"),
        equivalence("analytic", "caffeine"),
    ]
    run = Run(collect.merge(made))
    assert choose(run, "one_molecule").variant == "cpp"
    choice = choose(run, "many_molecules")
    assert choice.variant == "torch_compile_forces"
    assert evidence(run, choice)["largest_batch"] == 256


@pytest.mark.parametrize("first", ["cpp", "torch_compile_forces"])
@pytest.mark.parametrize("work", ["one_molecule", "many_molecules"])
def test_of_two_that_no_interval_tells_apart_the_more_precise_is_handed_over(work, first):
    """Whichever stands first in the records; one that is rough has to be faster beyond doubt."""

    def chosen(of_rough):
        made = []
        for name in sorted(("cpp", "torch_compile_forces"), key=lambda name: name != first):
            speedup = of_rough if name == "cpp" else 6.0
            for replicate in range(3):
                if work == "many_molecules":
                    made += batches(name, {16: speedup, 256: speedup}, replicate)
                else:
                    made.append(benchmark(name, "energy_forces", "caffeine", speedup, replicate=replicate))
            tolerance = 2.0 if name == "cpp" else 0.2
            made += [equivalence(name, "caffeine", tolerance_mev_per_a=tolerance), md(name, "caffeine")]
        return choose(Run(collect.merge(made)), work)

    tie = chosen(6.1)
    assert tie.variant == "torch_compile_forces"
    assert tie.speedup.value == pytest.approx(6.0, rel=0.1)
    assert chosen(30.0).variant == "cpp"


def test_a_variant_that_was_timed_at_fewer_points_does_not_win_by_leaving_out_the_hard_ones():
    made = [*batches("cpp", {16: 9.0}), *batches("torch_compile_forces", {16: 4.0, 256: 4.0})]
    run = Run(collect.merge(made + proven("cpp", "torch_compile_forces")))
    assert choose(run, "many_molecules").variant == "torch_compile_forces"


def test_a_point_that_eager_could_not_do_has_no_speedup_and_does_not_count():
    made = [*batches("cpp", {16: 5.0, 4096: None}), *proven("cpp")]
    choice = choose(Run(collect.merge(made)), "many_molecules")
    assert choice.variant == "cpp"
    assert [batch for _, batch, _ in choice.speedups] == [16]


def test_points_that_failed_tell_why():
    failed = batches("cpp", {16: 5.0})[0] | {"status": "failed", "reason": "out of memory", "samples_ms": None}
    choice = choose(Run(collect.merge([failed, *proven("cpp")])), "many_molecules")
    assert choice.variant is None
    assert "cpp: out of memory" in choice.reason
