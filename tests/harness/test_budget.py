"""Runs with little time: what is urgent comes first, the rest is said to be skipped, and nothing measured is undone."""

import pytest
from engines import ended, sound
from played import failing, go, statuses

from bench.schedule.resume import Place, Policy
from bench.store.folder import Store, read_plan, read_tasks
from bench.table.records import derive


def test_time_that_is_short_goes_to_what_is_urgent_and_the_rest_is_skipped_and_resumed(tiny, tmp_path):
    """With no line to learn from a timing process is taken for 3 s and its budget: two fit, with their checks."""
    text = tiny.read_text()
    entry = (
        text[text.index("[[cases]]") :]
        .replace("channels = 8", "channels = 16")
        .replace("[cases.axes]", "priority = 1\n[cases.axes]")
    )
    tiny.write_text(text + entry)
    summary, _, engine = go(tiny, tmp_path, budget=12.0)
    assert (summary.measured, summary.skipped) == (4 + 2 + 4, 2)
    kinds = [(order.request.kind, order.request.case_list()[-1].axes["channels"]) for order in engine.orders]
    assert kinds == [("static", 16)] * 4 + [("static", 8)] * 4 + [("timing", 16)] * 2
    rows = derive(read_plan(tmp_path), read_tasks(tmp_path))
    timed = {(r["channels"], r["status"]) for r in rows if r["metric"] == "latency"}
    assert timed == {(16, "ok"), (8, "skipped")}
    assert {r["status"] for r in rows if r["metric"] == "params"} == {"ok"}
    assert all(r["reason"].startswith("budget: it did not fit into 12 s") for r in rows if r["status"] == "skipped")
    lines = len(read_tasks(tmp_path))
    assert go(tiny, tmp_path, budget=0.1)[0].skipped == 2
    assert len(read_tasks(tmp_path)) == lines, "said once"
    summary, *_ = go(tiny, tmp_path)
    assert (summary.measured, summary.resumed) == (2, 10)
    assert statuses(tmp_path) == {"ok"}


@pytest.mark.parametrize("policy", [Policy(fresh=True), Policy(retry_failed=True)])
def test_no_lack_of_time_undoes_what_was_measured(tiny, tmp_path, policy):
    """A later run that was to measure all again, and had no time, leaves the rows as they are, and says nothing."""
    go(tiny, tmp_path, failing("error") if policy.retry_failed else sound)
    before, rows = len(read_tasks(tmp_path)), derive(read_plan(tmp_path), read_tasks(tmp_path))
    summary, watcher, _ = go(tiny, tmp_path, policy=policy, budget=0.01)
    assert (summary.measured, summary.skipped) == (0, 6)
    assert [event for event, *_ in watcher.told] == ["skip"] * 6
    assert len(read_tasks(tmp_path)) == before
    assert derive(read_plan(tmp_path), read_tasks(tmp_path)) == rows


def test_what_a_cluster_has_no_time_for_is_told_of_the_machine_that_it_is(tiny, tmp_path):
    """Which machine that is its first answer says, or an earlier run."""
    places = (Place(hardware="a"), Place(hardware="b"))
    options = {"places": places, "budget": 60.0, "clock": map(float, range(0, 10_000, 20)).__next__}

    def answer(order):
        return ended(order, sound(order), env_id=f"cpu-{order.hardware}")

    summary, watcher, _ = go(tiny, tmp_path, answer, **options)
    assert summary.measured + summary.skipped == 12
    assert {hardware for event, _, hardware in watcher.told if event == "skip"} == {"a", "b"}
    skipped = [line for line in read_tasks(tmp_path) if line["wall"] == 0.0]
    assert {(line["hardware"], line["env_id"]) for line in skipped} == {("a", "cpu-a")}, "nothing is known of b yet"
    assert go(tiny, tmp_path, answer, places=places)[0].measured == summary.skipped


def test_a_run_that_is_slower_than_it_was_thought_to_be_keeps_to_its_budget(tiny, tmp_path):
    """Each task is thought to take a few seconds, and takes twenty."""
    summary, *_ = go(tiny, tmp_path, budget=60.0, clock=map(float, range(0, 10_000, 20)).__next__)
    assert (summary.measured, summary.skipped) == (2, 4)


def test_what_was_measured_before_another_run_had_no_time_for_it_is_not_measured_again(tiny, tmp_path):
    """As in a folder that was joined with that of a run that was cut short."""
    go(tiny, tmp_path)
    with Store(tmp_path) as store:
        for line in store.tasks():
            told = {"status": "skipped", "reason": "budget: no time", "values": {}, "seconds": []}
            store.add_task({**line, "wall": 0.0, "results": [{**result, **told} for result in line["results"]]})
    summary, _, engine = go(tiny, tmp_path)
    assert (summary.resumed, engine.orders) == (6, [])
    assert statuses(tmp_path) == {"ok"}
