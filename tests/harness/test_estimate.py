"""How long tasks will take, and what fits."""

import pytest

from bench.errors import UsageError
from bench.plan.case import Case, Task
from bench.plan.sweep import Protocol
from bench.schedule import estimate


def case(algebra="ph", n=4, subject="linear", **shape):
    return Case(subject, "layer", algebra, n, tuple(sorted({"batch": 2, **shape}.items())))


def static(of):
    return Task("static", (of,), ("params",))


def timing(*cases, repetitions=2):
    return [Task("timing", cases, ("latency",), i) for i in range(repetitions)]


def pace(**seconds):
    """A pace that has seen each kind of task take so long; two static tasks run side by side."""
    made = estimate.Pace(Protocol(budget=5.0), lambda kind: 2 if kind == "static" else 1)
    for kind, of_kind in seconds.items():
        made.learn(kind, "other", "c", of_kind)
    return made


def test_the_nearest_kin_says_how_long_a_task_takes():
    made, task = pace(), static(case())
    assert made.seconds(timing(case(), case())[0]) == pytest.approx(8.2), "3 s until it measures, 5 s of budget"
    made.learn("static", "conv2d", "c0", 4.0)
    assert made.seconds(task) == 4.0
    made.learn("static", "linear", "c1", 2.0)
    assert made.seconds(task) == 2.0
    made.learn("static", "linear", task.chunk_id, 1.0)
    made.learn("static", "linear", task.chunk_id, 2.0)
    assert made.seconds(task) == 1.5


def test_what_runs_side_by_side_takes_a_share_of_the_time():
    tasks = [static(case(n=n)) for n in (2, 4, 8)] + timing(case())
    assert pace(static=2.0, timing=10.0).total(tasks) == 3 + 20
    assert pace(static=2.0, timing=10.0).left({"static": 3, "timing": 2}) == 3 + 20


def test_nothing_takes_less_than_one_of_its_kind_however_many_machines_there_are():
    made = pace(static=2.0, timing=10.0)
    made.width = lambda kind: 1000
    assert made.left({"static": 3, "timing": 2, "training": 0}) == 2 + 10


def test_a_chunk_is_taken_whole_with_its_checks_or_not_at_all():
    real, one, two = case("real", 1), case(n=2), case(n=4)
    tasks = [static(real), static(one), static(two), *timing(real, one), *timing(real, two)]
    taken, late = estimate.fitting(tasks, 23.0, {}, pace(static=2.0, timing=10.0))
    assert taken == [*tasks[:5]]
    assert late == tasks[5:], "the second chunk has no room; its checks had"
    taken, late = estimate.fitting(tasks, 21.0, {}, pace(static=2.0, timing=10.0))
    assert taken == tasks[:3]


def test_the_urgent_come_first_and_baselines_before_what_is_held_to_them():
    real, one, two = case("real", 1), case(n=2), case(n=4)
    tasks = [static(one), static(real), static(two)]
    taken = lambda seconds, priority: estimate.fitting(tasks, seconds, priority, pace(static=2.0))[0]  # noqa: E731
    assert taken(1.0, {}) == [static(real)]
    assert taken(1.0, {two.id: 1}) == [static(two)]
    assert taken(2.0, {two.id: 1}) == [static(real), static(two)]
    assert estimate.ordered(tasks, {two.id: 1}) == [static(two), static(real), static(one)]
    assert estimate.ordered(tasks, {}) == [static(real), static(one), static(two)]


def test_what_does_not_fit_makes_room_for_what_is_smaller():
    big, small = timing(case()), static(case(n=8))
    assert estimate.fitting([*big, small], 15.0, {case().id: 1}, pace(static=2.0, timing=10.0))[0] == [small]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("8m", 480), ("1h30m", 5400), ("0.5h", 1800), ("1d", 86400)]
)
def test_a_budget_is_written_as_people_write_times(text, seconds):
    assert estimate.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "8 m", "-8m", "8x", "0s", "1e9", "9999h", "nan", "8m30"])
def test_what_is_no_time_is_one_line(text):
    with pytest.raises(UsageError, match="--time-budget"):
        estimate.parse(text)


def test_times_are_told_in_words():
    assert [estimate.spoken(s) for s in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]
