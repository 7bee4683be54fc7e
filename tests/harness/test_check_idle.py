"""Whether the machine is left alone, from what bench.machine.watch says of it."""

import pytest

from bench.check import idle


@pytest.mark.parametrize(
    ("foreign", "steal", "states"),
    [(0.01, 0.0, ["met", "met"]), (0.5, 0.0, ["missed", "met"]), (0.01, 0.2, ["met", "missed"])],
)
def test_a_machine_is_idle_when_others_and_its_host_leave_it_alone(foreign, steal, states):
    seen = [{"foreign_cpu": foreign * factor, "steal": steal} for factor in (0.9, 1.0, 1.1, 1.0)]
    assert [f.state for f in idle.findings([*seen, {"steal": steal}])] == states


@pytest.mark.parametrize(("cores", "state"), [(2, "met"), (64, "missed")])
def test_the_bar_is_that_of_a_mark(cores, state):
    seen = [{"foreign_cpu": 0.02 * factor, "cores": cores} for factor in (0.99, 1.0, 1.01, 1.0)]
    assert idle.findings(seen)[0].state == state


def test_a_system_that_counts_no_steal_has_no_finding_about_it():
    assert len(idle.findings([{"foreign_cpu": 0.0}, {"foreign_cpu": 0.0}, {"load": [1.0, 1.5]}])) == 1


def test_heat_and_other_processes_on_the_gpu_are_notes():
    whole = {"foreign_cpu": 0.9, "throttle_events": 3, "gpu": {"others": 2}}
    assert len(idle.notes([whole])) == 2


def test_a_job_that_starts_in_the_midst_is_seen_while_pairs_are_timed():
    quiet, busy = ({"cores": 2, "foreign_cpu": share, "steal": 0.0} for share in (0.001, 0.4))
    others, host = idle.findings_of_timing([busy] * 4)
    assert (others.state, host.state) == ("missed", "met")
    assert "while pairs were timed" in others.name
    assert idle.findings_of_timing([quiet] * 4)[0].state == "met"
    assert idle.findings_of_timing([quiet, quiet, busy, quiet])[0].state == "can't tell"
    assert idle.notes_of_timing([quiet, quiet, busy, quiet]) == [
        "process 3: other processes used 40.0% of the time of 2 cores"
    ]


def test_where_no_process_could_look_there_is_no_finding():
    assert idle.findings_of_timing([{}, {}]) == []


def test_looking_on_sleeps_between_looks_and_ends_with_the_whole():
    slept = []
    found = idle.look_on("cpu", slices=3, seconds=0.5, sleep=slept.append)
    assert slept == [0.5] * 3
    assert len(found) == 4
    assert found[-1]["seconds"] >= found[0]["seconds"]
