from dataclasses import replace

from bench.metrics import METRICS
from bench.plan.case import CHUNK, Case, Planned, digest, tasks

KINDS = {name: metric.task for name, metric in METRICS.items()}


def case(algebra="quaternion", n=4, **kwargs):
    return Case("linear", "layer", algebra, n, (("batch", 2), ("channels", 8)), **kwargs)


def test_every_chunk_of_a_large_group_has_the_baseline():
    cases = [case("real", 1, path="none")] + [case("ph", n) for n in range(2, 22)]
    planned = [Planned(c, frozenset({"latency"})) for c in cases]
    timing = [t for t in tasks(planned, 3, KINDS) if t.kind == "timing"]
    assert {len(t.cases) for t in timing} <= set(range(2, CHUNK + 1))
    assert all(t.cases[0].is_baseline and sum(c.is_baseline for c in t.cases) == 1 for t in timing)
    assert {c for t in timing for c in t.cases} == set(cases)
    assert len({t.id for t in timing}) == len(timing) == 3 * 3


def test_groups_are_never_mixed():
    planned = [Planned(case(dtype=d), frozenset({"latency"})) for d in ("float32", "float64")]
    timing = [t for t in tasks(planned, 1, KINDS) if t.kind == "timing"]
    assert [len({c.dtype for c in t.cases}) for t in timing] == [1, 1]


def test_whatever_is_timed_is_checked_once_and_the_baseline_too():
    """A baseline of which only parameters are wanted is timed beside the others, and held to the same."""
    planned = [Planned(case("real", 1, path="none"), frozenset({"params"})), Planned(case(), frozenset({"latency"}))]
    made = tasks(planned, 3, KINDS)
    assert [(t.cases[0].algebra, t.metrics) for t in made if t.kind == "static"] == [
        ("real", ("numeric_error", "params")),
        ("quaternion", ("numeric_error",)),
    ]
    assert tasks([Planned(case(), frozenset({"params"}))], 3, KINDS)[0].metrics == ("params",), "nothing timed"


def test_skipped_cases_make_no_task():
    assert tasks([Planned(case(), frozenset({"latency", "params"}), skipped="no")], 2, KINDS) == []


def test_a_training_says_itself_what_it_trained():
    trained = case(data="digits", phase="none")
    made = tasks([Planned(trained, frozenset({"accuracy", "params"}))], 3, KINDS)
    assert [(t.kind, t.metrics) for t in made] == [("training", ("accuracy", "params"))]


def test_tasks_of_slim_controls_know_what_they_control():
    ph = case("ph", 4)
    slim = ph.slim_control()
    made = tasks([Planned(slim, frozenset({"params", "latency"}), controlled=ph)], 1, KINDS)
    assert [t.controlled for t in made] == [(ph,), (ph,)]


def test_the_path_is_no_part_of_the_group_and_the_threads_are():
    assert case(path="kron").group_id == case(path="dense").group_id
    assert case(threads=1).group_id != case(threads=2).group_id
    assert replace(case(), seed=1).id != case().id


def test_a_case_in_the_form_of_another_is_what_replace_makes():
    for options, twin in (((), ""), ((("rank", 3),), "linear")):
        form = replace(case(), shape=(("batch", 4), ("channels", 16)), options=options, twin=twin)
        for base in (case(phase="train_step", seed=3), case("ph", 2)):
            assert base.id
            assert base.group_id
            made, same = base.in_form_of(form), replace(base, shape=form.shape, options=options, twin=twin)
            assert made == same
            assert made.factors == same.factors
            assert (made.id, made.group_id) == (same.id, same.group_id) != (base.id, base.group_id)
            assert (made.id, made.axes) == (digest(same.factors), same.axes)


def test_what_is_wanted_of_one_group_is_not_measured_of_another():
    """Energy takes seconds a case: a sweep that asks it of one net does not pay for it in all layers."""
    planned = [
        Planned(case("real", 1, path="none"), frozenset({"latency"})),
        Planned(case(), frozenset({"latency", "energy"})),
        Planned(case(dtype="float64"), frozenset({"latency"})),
    ]
    timing = [t for t in tasks(planned, 1, KINDS) if t.kind == "timing"]
    assert [(len(t.cases), t.metrics) for t in timing] == [(2, ("energy", "latency")), (1, ("latency",))]
