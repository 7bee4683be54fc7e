"""What follows from how processes end: no process is started."""

import pytest
from engines import ended, sound

from bench.launch.engine import Order
from bench.plan.case import Task
from bench.plan.sweep import Protocol
from bench.schedule import outcome
from bench.task.protocol import Reply, Request, Result


@pytest.fixture
def cases(planned):
    """The real layer and three others of its group."""
    return [p.case for p in planned]


def order_of(state, attempt=1):
    kind = "timing" if len(state.cases) > 1 else "static"
    task = Task(kind, state.cases, ("latency",))
    return Order("t", attempt, Request.of(task, "cpu", 1, Protocol(timeout=7), None))


def play(state, *endings):
    """The states that follow from endings: a case's place in the chunk that died there, or what to do."""
    states = [state]
    for ending in endings:
        states.append(outcome.after(states[-1], ending(order_of(states[-1]))))
    return states


def well(order):
    return ended(order, sound(order))


def dies(case, **fields):
    return lambda order: ended(order, at=case.id, **fields)


def ids(cases):
    return [case.id for case in cases]


def statuses(state):
    return [(result.case_id, result.status) for result in state.found]


def test_a_reply_settles_everything(cases):
    state = play(outcome.begin(cases), well)[-1]
    assert (state.left, state.attempts, state.said) == ((), 1, ())
    assert statuses(state) == [(case.id, "ok") for case in cases]


def test_a_case_that_hangs_is_settled_at_once_and_the_others_are_measured_without_it(cases):
    hang = dies(cases[2], ending="timeout", step="time")
    _, hung, done = play(outcome.begin(cases), hang, well)
    assert statuses(hung) == [(cases[2].id, "timeout")]
    assert hung.found[0].reason == "no result after 7 s at time; see t.log"
    assert ids(hung.cases) == ids([cases[0], cases[1], cases[3]])
    assert done.left == ()
    assert {result.part for result in done.found if result.status == "ok"} == {1}


def test_a_baseline_that_hangs_costs_the_others_only_their_baseline(cases):
    _, hung, done = play(outcome.begin(cases), dies(cases[0], ending="timeout"), well)
    assert ids(hung.cases) == ids(cases[1:])
    assert dict(statuses(done)) == {cases[0].id: "timeout"} | {case.id: "ok" for case in cases[1:]}


def test_a_case_that_dies_is_tried_twice_again_the_second_time_alone(cases):
    states = play(outcome.begin(cases), *[dies(cases[2])] * 3, well)
    assert [ids(state.cases) for state in states] == [
        ids(cases), ids(cases), ids([cases[0], cases[2]]), ids([cases[0], cases[1], cases[3]]), [],
    ]  # fmt: skip
    assert dict(statuses(states[-1])) == {case.id: "ok" for case in cases} | {cases[2].id: "crashed"}
    assert states[-1].found[0].reason == "it ended with signal 9 at run, 3 times; it printed nothing; see t.log"
    assert states[-1].said == tuple(f"attempt {i}: it ended with signal 9 at run" for i in (1, 2, 3))


def test_a_suspect_that_can_be_measured_alone_is_and_its_samples_keep_their_own_baseline(cases):
    state = play(outcome.begin(cases), dies(cases[2]), dies(cases[2]), well, well)[-1]
    assert state.left == ()
    assert [(result.case_id, result.part) for result in state.found] == [
        (cases[0].id, 0), (cases[2].id, 0), (cases[0].id, 1), (cases[1].id, 1), (cases[3].id, 1),
    ]  # fmt: skip


def test_a_baseline_under_suspicion_is_tried_alone_and_then_beside_the_others_again(cases):
    states = play(outcome.begin(cases), *[dies(cases[0])] * 2, well, well)
    assert [ids(state.cases) for state in states] == [ids(cases), ids(cases), [cases[0].id], ids(cases), []]
    assert statuses(states[-1]) == [(case.id, "ok") for case in cases]
    states = play(outcome.begin(cases), *[dies(cases[0])] * 2, well, dies(cases[0]), well)
    assert dict(statuses(states[-1])) == {cases[0].id: "crashed"} | {case.id: "ok" for case in cases[1:]}


def test_deaths_count_against_whom_the_crumb_names_and_nobody_else(cases):
    """One case always dies; another is hit twice by chance: five deaths in all, of which two are its own."""
    states = play(outcome.begin(cases), *map(dies, [cases[1], cases[2], cases[1], cases[1], cases[2]]), well, well)
    assert dict(statuses(states[-1])) == {case.id: "ok" for case in cases} | {cases[1].id: "crashed"}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_dies_every_case_ends_with_one_verdict(cases, seed):
    """Of all orders of endings: it ends, no case is lost, and none is both well and not."""
    import random

    rng, state, count = random.Random(seed), outcome.begin(cases), 0
    while state.left:
        order = order_of(state)
        how = rng.choice(["replied", "died", "timeout", "lost", "nobody"])
        at = rng.choice(order.request.case_list()).id
        attempt = {
            "replied": lambda: ended(order, sound(order)),  # noqa: B023 - called at once
            "nobody": lambda: ended(order, ending="died"),  # noqa: B023
        }.get(how, lambda: ended(order, ending=how, at=at))()  # noqa: B023
        state, count = outcome.after(state, attempt), count + 1
        assert count < 200
    for case in cases:
        verdicts = {result.status for result in state.found if result.case_id == case.id}
        assert len(verdicts) == 1 or (case.is_baseline and len(verdicts) == 2), verdicts


def test_a_process_that_never_came_to_a_case_counts_against_all(cases):
    states = play(outcome.begin(cases), *[lambda order: ended(order, code=1, said="ImportError: no torch")] * 3)
    assert [len(state.cases) for state in states] == [4, 4, 4, 0]
    assert {result.status for result in states[-1].found} == {"crashed"}
    assert "exit code 1 before its first case, 3 times; its last line: ImportError" in states[-1].found[0].reason


UNCAUGHT = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc"
RAISED = (
    "Traceback (most recent call last):\n  here\nRuntimeError: [enforce] DefaultCPUAllocator: can't allocate memory"
)


@pytest.mark.parametrize(
    ("code", "said"),
    [(-6, UNCAUGHT), (-6, f"{RAISED}\n{UNCAUGHT}\nframe #0\nframe #1\nframe #2\nframe #3"), (1, RAISED),
     (-6, "libc++abi: terminating due to uncaught exception of type std::bad_alloc: std::bad_alloc")],
)  # fmt: skip
def test_a_process_that_ends_because_memory_lacks_is_believed_at_once(cases, code, said):
    state = play(outcome.begin(cases), dies(cases[1], code=code, said=said))[-1]
    assert statuses(state) == [(cases[1].id, "oom")]


@pytest.mark.parametrize(
    ("code", "said"),
    [(-9, UNCAUGHT), (-9, RAISED), (-11, RAISED), (3, RAISED), (-6, RAISED), (-6, f"{RAISED}\nfree(): invalid pointer"),
     (-6, f"{RAISED}\nterminate called after throwing an instance of 'std::out_of_range'"), (0, RAISED)],
)  # fmt: skip
def test_what_another_case_said_of_memory_before_it_was_caught_makes_no_death_an_oom(cases, code, said):
    one = outcome.begin(cases[1:2])
    assert [r.status for r in play(one, *[dies(cases[1], code=code, said=said)] * 3)[-1].found] == ["crashed"]


def test_killed_for_want_of_memory_is_oom_the_second_time_and_killed_by_anybody_is_not(cases):
    one = cases[1:2]
    killed = dies(one[0], oom_kills=1)
    assert [len(state.left) for state in play(outcome.begin(one), killed, killed)] == [1, 1, 0]
    assert statuses(play(outcome.begin(one), killed, killed)[-1]) == [(one[0].id, "oom")]
    assert statuses(play(outcome.begin(one), killed, well)[-1]) == [(one[0].id, "ok")]
    assert statuses(play(outcome.begin(one), *[dies(one[0])] * 3)[-1]) == [(one[0].id, "crashed")]
    segfault = dies(one[0], oom_kills=1, code=-11)  # the kernel kills with signal 9
    assert statuses(play(outcome.begin(one), *[segfault] * 3)[-1]) == [(one[0].id, "crashed")]


def test_a_lost_machine_counts_against_no_case_and_has_an_end(cases):
    lost = lambda order: ended(order, ending="lost")  # noqa: E731
    states = play(outcome.begin(cases), *[lost] * 4, well)
    assert dict(statuses(states[-1])) == {case.id: "ok" for case in cases}
    states = play(outcome.begin(cases), *[lost] * 5)
    assert {status for _, status in statuses(states[-1])} == {"crashed"}
    assert "lost 5 times" in states[-1].found[0].reason


def test_what_took_a_process_in_another_repetition_is_not_tried_again(cases):
    known = [Result(case_id=cases[2].id, status="timeout", reason="no result after 7 s")]
    state = outcome.begin(cases, known)
    assert ids(state.cases) == ids([cases[0], cases[1], cases[3]])
    assert play(state, well)[-1].left == ()
    all_known = [Result(case_id=case.id, status="crashed", reason="") for case in cases]
    assert outcome.begin(cases, all_known).left == ()


def test_a_reply_about_one_case_settles_it_and_the_others_are_measured_again(cases):
    """As when a case raises in the middle of the rounds."""

    def raised(order):
        return ended(order, Reply(results=[Result(case_id=cases[1].id, status="error", reason="ValueError: no")]))

    states = play(outcome.begin(cases), raised, well)
    assert ids(states[1].cases) == ids([cases[0], cases[2], cases[3]])
    assert dict(statuses(states[-1])) == {case.id: "ok" for case in cases} | {cases[1].id: "error"}


def test_a_reply_about_other_cases_is_no_reply(cases):
    strange = lambda order: ended(order, Reply(results=[Result(case_id="other")]))  # noqa: E731
    state = play(outcome.begin(cases), strange)[-1]
    assert ids(state.cases) == ids(cases)
    assert state.said == ("attempt 1: the process wrote no sound reply",)
