"""What people and programs are told while a sweep runs."""

import io
import json

import pytest
from rich.console import Console

from bench.plan.case import Task
from bench.schedule.events import Events, Several, make_events
from bench.schedule.progress import Live, Plain


@pytest.fixture
def timing(planned):
    return Task("timing", tuple(p.case for p in planned), ("latency",))


def line_of(task, **of_last):
    results = [
        {
            "case_id": case.id,
            "status": "ok",
            "reason": "",
            "values": {},
            "seconds": [0.5 if case.is_baseline else 0.25],
        }
        for case in task.cases
    ]
    results[-1] |= of_last
    return {"wall": 2.0, "results": results}


def shown(console):
    return console.file.getvalue()


def test_without_a_terminal_a_task_is_a_line_and_its_problems_are_lines(timing):
    plain = Plain(Console(file=io.StringIO(), width=40))
    plain.start(3, 1, 65.0)
    plain.begin(timing, 1)
    plain.again(timing, "attempt 1: it ended with signal 9 at run")
    plain.end(timing, line_of(timing), 61.0)
    plain.end(timing, line_of(timing, status="crashed", reason="it ended with signal 9"), 0.0)
    name = "timing #1 linear/ph n=4/batch=2,channels=8/infer +3"
    assert shown(plain.console).splitlines() == [
        "3 tasks, 1 done before, about 1:05 left",
        f"    {name}: attempt 1: it ended with signal 9 at run; it is measured again",
        f"[2/3, 1:01 left] {name} 2.0 s: 0.25 s, 0.50 × real",
        f"[3/3, 0:00 left] {name} 2.0 s: crashed",
        "    it ended with signal 9",
    ]


def test_on_a_terminal_there_is_a_bar_what_runs_and_the_last_results(timing):
    console = Console(file=io.StringIO(), width=150, force_terminal=True, color_system=None)
    live = Live(console, "a sweep")
    live.start(4, 1, 130.0)
    live.begin(timing, 1)
    live.end(timing, line_of(timing), 120.0)
    live.begin(timing, 2)
    console.print(live)
    text = shown(console)
    assert "a sweep" in text
    assert "2/4" in text
    assert "left" in text
    assert "last  timing #1 linear/ph n=4/batch=2,channels=8/infer +3: 0.25 s, 0.50 × real" in text
    assert "now   timing #1 linear/ph n=4" in text
    for _ in range(20):
        live.end(timing, line_of(timing), 1.0)
    assert len(live.last) == 5, "the last results, not all of them"


def test_events_are_lines_of_json(timing):
    file = io.StringIO()
    events = Several([Events(file, print)])
    events.start(2, 0, 10.0)
    events.begin(timing, 1)
    events.again(timing, "it died")
    events.end(timing, line_of(timing, status="error", reason="ValueError: no"), 5.0)
    told = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [event["event"] for event in told] == ["start", "begin", "again", "end"]
    assert told[0]["schema"] == 1
    assert told[1]["name"] == timing.cases[-1].name
    assert list(told[3]["statuses"].values()) == ["ok", "ok", "ok", "error"]
    assert told[3]["reasons"] == ["ValueError: no"]
    assert all(event["time"] > 0 for event in told)


def test_events_of_a_sweep_over_several_kinds_of_machine_tell_them_apart(timing):
    file = io.StringIO()
    events = Several([Events(file, print)])
    events.begin(timing, 1, "a")
    events.again(timing, "it died", "a")
    events.skip(timing, "budget: no time", "b")
    events.end(timing, {**line_of(timing), "hardware": "a"}, 5.0)
    told = [json.loads(line) for line in file.getvalue().splitlines()]
    kinds = [(event["event"], event["hardware"]) for event in told]
    assert kinds == [("begin", "a"), ("again", "a"), ("skip", "b"), ("end", "a")]
    assert {event["task_id"] for event in told} == {timing.id}
    assert told[2]["reason"] == "budget: no time"


def test_the_display_keeps_one_task_on_two_machines_apart(timing):
    live = Live(Console(file=io.StringIO(), width=150), "a sweep")
    live.begin(timing, 1, "a")
    live.begin(timing, 1, "b")
    live.end(timing, {**line_of(timing), "hardware": "a"}, 5.0)
    assert list(live.running) == [(timing.id, "b")]
    assert live.last[-1].startswith("timing #1 linear/ph n=4/batch=2,channels=8/infer +3 on a: ")


def test_a_stream_that_breaks_is_said_once_and_written_no_more(timing):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    said = []
    events = Events(Broken(), said.append)
    events.start(2, 0, 10.0)
    events.begin(timing, 1)
    assert said == ["--events: Broken pipe; no more events are written, the run goes on"]


def test_without_a_file_events_go_nowhere():
    with make_events(None, print) as events:
        events.tell("finish")
