"""From finished tasks to rows, on tasks written by hand: no measuring, every status."""

import json
import math
from dataclasses import replace

import pytest

from bench.plan.case import Planned
from bench.schedule.run import plan_lines
from bench.stats import log_interval
from bench.table.records import COLUMNS, derive, missing, variant


def task(kind, results, task_id="t0", siblings=2, **identity):
    return {
        "task_id": task_id, "chunk_id": kind, "kind": kind, "repetition": 0, "siblings": siblings, "started": "2026-01-01T00:00:00+00:00",
        "wall": 1.0, "results": results, "env_id": "cpu-x", "code_rev": "c1", "protocol_version": 1, **identity,
    }  # fmt: skip


def result(case, status="ok", **fields):
    empty = {"reason": "", "path_built": "dense", "values": {}, "unsupported": {}, "seconds": [], "details": {}}
    return {"case_id": case.id, "status": status, **empty, **fields}


def timings(planned, *processes):
    """A timing task for each process; a process is the seconds of each case's rounds."""
    cases = [p.case for p in planned]
    return [
        task(
            "timing",
            [result(c, seconds=s) for c, s in zip(cases, seconds, strict=True)],
            f"t{i}",
            len(processes),
            repetition=i,
        )
        for i, seconds in enumerate(processes)
    ]


def static(planned, **kwargs):
    return [
        task("static", [result(p.case, values={"params": 7, "numeric_error": 0.0}, **kwargs)], f"s{p.case.id}", 1)
        for p in planned
    ]


def checked(planned, lines):
    """With a sound check of every case that ``lines`` check nowhere: no time is told without one."""
    have = {found["case_id"] for line in lines if line["kind"] == "static" for found in line["results"]}
    return [*static([p for p in planned if p.case.id not in have]), *lines]


def rows(planned, lines, metric):
    found = derive(plan_lines(planned), checked(planned, lines))
    return {r["variant"]: r for r in found if r["metric"] == metric}


def test_latency_is_the_geometric_mean_of_process_medians(planned):
    lines = timings(planned, [[1.0, 1.0, 9.0]] * 4, [[4.0, 4.0, 1.0]] * 4)
    row = rows(planned, lines, "latency")["quaternion"]
    expected = log_interval([1.0, 4.0])
    assert (row["value"], row["lo"], row["hi"]) == pytest.approx((expected.value, expected.lo, expected.hi))
    assert (row["samples"], row["processes"], row["unit"], row["marks"]) == (6, 2, "s", "noisy")


def test_the_ratio_is_taken_round_by_round_so_that_drift_cancels(planned):
    """The second process is ten times slower and drifts; the ratio is 2 in every round of both."""
    first = [[1.0, 2.0], [2.0, 4.0], [1.0, 2.0], [1.0, 2.0]]
    second = [[10.0, 30.0], [20.0, 60.0], [10.0, 30.0], [10.0, 30.0]]
    row = rows(planned, timings(planned, first, second), "latency_ratio")
    assert (row["quaternion"]["value"], row["quaternion"]["lo"]) == pytest.approx((2.0, 2.0))
    assert row["real"]["value"] == 1.0
    assert row["quaternion"]["baseline_id"] == planned[0].case.id


def test_there_is_no_row_before_all_processes_are_in(planned):
    lines = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    assert rows(planned, lines[:1], "latency") == {}
    assert len(rows(planned, lines, "latency")) == 4


@pytest.mark.parametrize("status", ["oom", "timeout", "crashed", "error"])
def test_a_failure_is_a_row_with_its_reason_never_a_hole(planned, status):
    lines = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    lines[1]["results"][1] = result(planned[1].case, status, reason="it broke")
    found = rows(planned, lines, "latency")
    assert len(found) == 4
    assert (found["quaternion"]["status"], found["quaternion"]["reason"]) == (status, "it broke")
    assert found["quaternion"]["value"] is None
    assert found["ph n=2"]["status"] == "ok"


def test_a_failed_baseline_takes_the_ratios_along_and_says_so(planned):
    lines = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    lines[0]["results"][0] = result(planned[0].case, "oom", reason="too big")
    row = rows(planned, lines, "latency_ratio")["quaternion"]
    assert (row["status"], row["reason"]) == ("oom", "the baseline: too big")
    assert rows(planned, lines, "latency")["quaternion"]["status"] == "ok"


def test_the_time_of_a_wrong_answer_is_not_published(planned):
    planned = [Planned(p.case, p.metrics | {"numeric_error"}) for p in planned]
    lines = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    broken = planned[1].case
    values = {"params": 7, "numeric_error": 0.5}
    lines += [task("static", [result(p.case, values=values) for p in [planned[0]]], "s0", 1)]
    lines += [task("static", [result(broken, "wrong", reason="error 0.5", values=values)], "s1", 1)]
    latency = rows(planned, lines, "latency")["quaternion"]
    assert (latency["status"], latency["value"]) == ("wrong", None)
    error = rows(planned, lines, "numeric_error")["quaternion"]
    assert (error["status"], error["value"]) == ("wrong", 0.5)
    assert rows(planned, lines, "params")["quaternion"]["status"] == "ok"
    assert rows(planned, lines, "latency")["real"]["status"] == "ok"


def test_a_skipped_case_has_a_row_for_every_metric_with_the_reason(planned):
    planned = [Planned(planned[1].case, planned[1].metrics, skipped="n does not fit")]
    found = derive(plan_lines(planned), [])
    assert {r["metric"] for r in found} == {"params", "latency", "latency_ratio", "numeric_error"}
    assert {(r["status"], r["reason"]) for r in found} == {("skipped", "n does not fit")}


def test_an_unsupported_metric_says_why(planned):
    lines = static(planned, unsupported={"params": "cannot count"})
    assert {(r["status"], r["reason"]) for r in rows(planned, lines, "params").values()} == {
        ("unsupported", "cannot count")
    }


def test_the_newest_code_counts_and_a_task_run_again_replaces(planned):
    old = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    new = [{**line, "code_rev": "c2"} for line in timings(planned, [[3.0]] * 4, [[3.0]] * 4)]
    failed = {**new[0], "results": [result(p.case, "crashed", reason="once") for p in planned]}
    row = rows(planned, [*old, failed, *new], "latency")["real"]
    assert (row["value"], row["code_rev"], row["processes"]) == (pytest.approx(3.0), "c2", 2)
    assert rows(planned, [*old, *new[:1]], "latency") == {}, "half of the new does not mix with the old"


def test_that_there_was_no_time_is_a_row_only_where_nothing_was_measured(planned):
    sound = timings(planned, [[1.0]] * 4, [[2.0]] * 4)
    late = [{**line, "results": [result(p.case, "skipped", reason="budget") for p in planned]} for line in sound]
    assert rows(planned, late, "latency")["real"]["status"] == "skipped"
    before = rows(planned, sound, "latency")
    assert rows(planned, [*sound, *late], "latency") == rows(planned, [*late, *sound], "latency") == before
    newer = [{**line, "code_rev": "c2"} for line in late]
    assert rows(planned, [*sound, *newer], "latency") == before, "what newer code had no time for it has not replaced"
    cut_short = rows(planned, [sound[0], late[1]], "latency")
    assert {row["status"] for row in cut_short.values()} == {"skipped"}


def test_rows_have_the_columns_of_the_schema_in_order(planned):
    (row, *_) = derive(plan_lines(planned), static(planned))
    assert tuple(row) == COLUMNS
    assert json.loads(row["shape"]) == {"batch": 2, "channels": 8, "out_channels": None}
    assert (row["channels"], row["n"], row["algebra"]) == (8, 1, "real")
    assert not any(isinstance(v, float) and math.isnan(v) for v in row.values())


def test_variants_are_named_for_people(planned):
    ph = planned[3].case
    assert [variant(p.case) for p in planned] == ["real", "quaternion", "ph n=2", "ph n=4"]
    assert variant(ph.slim_control(), ph) == "slim real (ph n=4)"


def test_a_baseline_that_was_not_timed_beside_a_case_gives_it_no_ratio_and_no_error(planned):
    """Measured before the sweep had a real layer: the row waits for the next run, the others stand."""
    lines = timings(planned[1:], [[1.0]] * 3, [[1.0]] * 3)
    assert rows(planned, lines, "latency_ratio") == {}
    assert set(rows(planned, lines, "latency")) == {"quaternion", "ph n=2", "ph n=4"}


def test_of_two_memory_formats_the_faster_real_layer_is_the_baseline(planned):
    real, quaternion = planned[:2]
    last = Planned(replace(real.case, memory_format="channels_last"), real.metrics)
    both = [real, last, quaternion]
    assert last.case.group_id == real.case.group_id
    found = {
        r["case_id"]: r
        for r in derive(plan_lines(both), checked(both, timings(both, *[[[2.0], [1.0], [3.0]]] * 2)))
        if r["metric"] == "latency_ratio"
    }
    assert {r["baseline_id"] for r in found.values()} == {last.case.id}
    assert found[quaternion.case.id]["value"] == pytest.approx(3.0)
    assert found[real.case.id]["value"] == pytest.approx(2.0)
    assert found[last.case.id]["value"] == 1.0


def test_chunks_are_never_mixed_and_the_newest_complete_one_counts(planned):
    first = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    second = [
        {**line, "chunk_id": "other", "task_id": f"o{i}"}
        for i, line in enumerate(timings(planned[:2], [[3.0]] * 2, [[3.0]] * 2))
    ]
    assert rows(planned, [*first, *second], "latency")["real"]["value"] == pytest.approx(3.0)
    assert rows(planned, [*first, second[0]], "latency")["real"]["value"] == pytest.approx(1.0)
    assert rows(planned, [first[0], second[0]], "latency") == {}


def test_a_crash_of_one_chunk_does_not_outlive_a_sound_one(planned):
    crashed = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    for line in crashed:
        line["results"] = [result(p.case, "crashed", reason="once") for p in planned]
    sound = [
        {**line, "chunk_id": "other", "task_id": f"o{i}"}
        for i, line in enumerate(timings(planned[:2], [[3.0]] * 2, [[3.0]] * 2))
    ]
    assert rows(planned, [*crashed, *sound], "latency")["quaternion"]["status"] == "ok"


def test_a_ratio_to_a_wrong_baseline_is_not_published(planned):
    lines = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    lines.append(
        task(
            "static",
            [result(planned[0].case, "wrong", reason="error 0.5", values={"params": 7, "numeric_error": 0.5})],
            "s",
            1,
        )
    )
    row = rows(planned, lines, "latency_ratio")["quaternion"]
    assert (row["status"], row["reason"]) == ("wrong", "the baseline: error 0.5")


def test_rows_that_are_not_in_yet_are_counted(planned):
    plan = plan_lines(planned)
    assert missing(plan, derive(plan, [])) == 16
    assert missing(plan, derive(plan, static(planned))) == 8


def verdicts(planned, lines):
    return {
        name: json.loads(row["details"]).get("verdict") for name, row in rows(planned, lines, "latency_ratio").items()
    }


STEADY = [[[1.0] * 8, [1.2] * 8, [1.0] * 8, [0.8] * 8]] * 3  # three processes without any noise


def test_each_ratio_is_judged_against_the_margin_and_the_baseline_is_not(planned):
    lines = timings(planned, *STEADY)
    assert verdicts(planned, lines) == {"real": None, "quaternion": "SLOWER", "ph n=2": "SAME", "ph n=4": "FASTER"}
    details = json.loads(rows(planned, lines, "latency_ratio")["quaternion"]["details"])
    assert (details["margin"], details["compared"]) == (0.01, 3)
    assert details["verdict_level"] == pytest.approx(1 - 0.05 / 3)


def test_a_verdict_is_corrected_for_all_comparisons_that_the_plan_asks_of_the_group(planned):
    """The same times: alone beside the baseline they are evidence enough, among three variants they are not."""
    processes = [[[1.0] * 8, [ratio] * 8, [1.0] * 8, [1.0] * 8] for ratio in (1.04, 1.06, 1.08)]
    alone = [p[:2] for p in processes]
    assert verdicts(planned[:2], timings(planned[:2], *alone))["quaternion"] == "SLOWER"
    assert verdicts(planned, timings(planned, *processes))["quaternion"] == "CAN'T TELL"
    skipped = [*planned[:2], *(Planned(p.case, p.metrics, skipped="no") for p in planned[2:])]
    assert verdicts(skipped, timings(planned, *processes))["quaternion"] == "SLOWER", (
        "a skipped case is no comparison"
    )


def test_the_interval_of_a_row_stays_95_per_cent_however_many_are_compared(planned):
    processes = [[[1.0] * 8, [ratio] * 8, [1.0] * 8, [1.0] * 8] for ratio in (1.05, 1.06, 1.07)]
    row = rows(planned, timings(planned, *processes), "latency_ratio")["quaternion"]
    expected = log_interval([1.05, 1.06, 1.07])
    assert (row["lo"], row["hi"]) == pytest.approx((expected.lo, expected.hi))


def test_a_clock_that_drifts_in_all_processes_marks_the_latency_and_not_the_ratio(planned):
    """Half as fast in the second half of the rounds, baseline and variants alike."""
    lines = timings(planned, *[[[1.0] * 4 + [2.0] * 4] * 4] * 3)
    assert rows(planned, lines, "latency")["quaternion"]["marks"] == "drifting"
    assert rows(planned, lines, "latency_ratio")["quaternion"]["marks"] == ""


def test_a_process_that_drifts_alone_is_noise(planned):
    lines = timings(planned, *[[[1.0] * 8] * 4] * 2, [[1.0] * 4 + [2.0] * 4] * 4)
    assert "drifting" not in rows(planned, lines, "latency")["quaternion"]["marks"]


def with_calls(lines, calls):
    for line in lines:
        for found in line["results"]:
            found["details"] = {"calls_per_block": calls}
    return lines


def test_percentiles_are_those_of_single_calls_over_all_processes(planned):
    seconds = [i / 300 for i in range(1, 301)]
    row = rows(planned, with_calls(timings(planned, *[[seconds] * 4] * 2), 1), "latency")["real"]
    details = json.loads(row["details"])
    assert details["percentiles"] == pytest.approx({"p50": 0.5017, "p90": 0.9, "p99": 0.99}, abs=2e-3)
    assert "percentiles_lack" not in details
    few = rows(planned, with_calls(timings(planned, *[[seconds[:50]] * 4] * 2), 1), "latency")["real"]
    details = json.loads(few["details"])
    assert details["percentiles"]["p99"] is None
    assert details["percentiles"]["p90"] is not None
    assert details["percentiles_lack"] == "p99 takes 459 samples, there are 100"


def test_a_mean_of_calls_has_no_percentiles(planned):
    lines = with_calls(timings(planned, *[[[1.0] * 500] * 4] * 2), 16)
    details = json.loads(rows(planned, lines, "latency")["real"]["details"])
    assert details["percentiles"] == {"p50": None, "p90": None, "p99": None}
    assert details["percentiles_lack"] == "a sample is the mean of 16 calls"


@pytest.mark.parametrize("status", ["error", "oom", "timeout", "crashed", "unsupported"])
def test_the_time_of_an_answer_that_could_not_be_checked_is_not_published(planned, status):
    lines = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    lines += [task("static", [result(planned[1].case, status, reason="no check")], "s1", 1)]
    for metric in ("latency", "latency_ratio"):
        row = rows(planned, lines, metric)["quaternion"]
        assert (row["status"], row["value"]) == (status, None)
        assert row["reason"] == "its time is not published, unchecked: no check"
    assert rows(planned, lines, "latency")["real"]["status"] == "ok"


def test_a_ratio_to_an_unchecked_baseline_is_not_published(planned):
    lines = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    lines += [task("static", [result(planned[0].case, "oom", reason="too big")], "s0", 1)]
    row = rows(planned, lines, "latency_ratio")["quaternion"]
    assert (row["status"], row["reason"]) == ("oom", "the baseline, unchecked: too big")


def test_a_wrong_answer_has_no_time_even_if_its_error_is_no_metric_of_the_sweep(planned):
    planned = [Planned(p.case, frozenset({"latency"})) for p in planned]
    lines = timings(planned, [[1.0]] * 4, [[1.0]] * 4)
    lines += [task("static", [result(planned[1].case, "wrong", reason="error 0.5")], "s1", 1)]
    row = rows(planned, lines, "latency")["quaternion"]
    assert (row["status"], row["value"]) == ("wrong", None)


def test_compile_time_has_an_observation_a_process(planned):
    planned = [Planned(replace(p.case, compile="default"), frozenset({"latency", "compile_time"})) for p in planned]
    lines = timings(planned, [[1.0, 1.0]] * 4, [[1.0, 1.0]] * 4)
    for line, seconds in zip(lines, (4.0, 9.0), strict=True):
        for found in line["results"]:
            found["values"] = {"compile_time": seconds}
    row = rows(planned, lines, "compile_time")["real"]
    assert (row["value"], row["unit"], row["samples"], row["processes"]) == (pytest.approx(6.0), "s", 2, 2)


def failing(planned, metric):
    """Static tasks in which one metric of the last case failed by itself."""
    lines = static(planned)
    lines[-1]["results"][0]["failed"] = {metric: {"status": "error", "reason": "it broke"}}
    return lines


def test_a_second_opinion_that_failed_is_a_row_and_withholds_no_time(planned):
    wanted = [replace(p, metrics=p.metrics | {"macs_fvcore"}) for p in planned]
    lines = [*failing(wanted, "macs_fvcore"), *timings(wanted, [[1.0]] * 4, [[1.0]] * 4)]
    for line in lines[:3]:
        line["results"][0]["values"]["macs_fvcore"] = 5
    last = derive(plan_lines(wanted[-1:]), lines)
    told = {r["metric"]: (r["status"], r["reason"]) for r in last}
    assert told["macs_fvcore"] == ("error", "it broke")
    assert told["latency"] == ("ok", "")


def test_no_time_is_told_before_its_answer_is_checked(planned):
    """A run that was cut short, or a report in the midst of one: the row comes with the check."""
    lines = timings(planned, [[1.0]] * 4, [[2.0]] * 4)
    assert derive(plan_lines(planned), lines) == []
    told = {(r["variant"], r["metric"]) for r in derive(plan_lines(planned), [*static(planned[1:]), *lines])}
    assert ("quaternion", "latency") in told
    assert ("real", "latency") not in told
    assert ("quaternion", "latency_ratio") not in told, "its baseline is not checked"
    whole = derive(plan_lines(planned), [*static(planned), *lines])
    assert {r["metric"] for r in whole if r["variant"] == "quaternion"} == planned[1].metrics


def test_marks_are_of_the_time_in_which_a_metric_was_measured(planned):
    wanted = [Planned(replace(p.case, compile="default"), p.metrics | {"compile_time", "energy"}) for p in planned]
    busy, quiet = ({"cores": 2, "foreign_cpu": share} for share in (0.5, 0.0))
    lines = timings(wanted, [[1.0]] * 4, [[1.0]] * 4)
    for line in lines:
        for found in line["results"]:
            found["values"] = {"compile_time": 1.0, "energy": 1.0}
            found["details"] = {"watch": busy, "watch_energy": quiet}
    marks = {metric: rows(wanted, lines, metric)["real"]["marks"] for metric in ("latency", "energy", "compile_time")}
    assert marks == {"latency": "contended", "energy": "", "compile_time": ""}
    for found in lines[1]["results"]:
        found["details"] = {"watch": quiet, "watch_energy": busy}
    assert rows(wanted, lines, "energy")["real"]["marks"] == "contended", "in one of the processes"


def test_an_answer_that_could_not_be_checked_has_no_time(planned):
    lines = [*failing(planned, "numeric_error"), *timings(planned, [[1.0]] * 4, [[1.0]] * 4)]
    told = {r["metric"]: r["status"] for r in derive(plan_lines(planned[-1:]), lines)}
    assert (told["latency"], told["params"]) == ("error", "ok")


def test_a_timed_process_whose_own_answer_was_wrong_has_no_time(planned):
    lines = [*static(planned), *timings(planned, [[1.0]] * 4, [[1.0]] * 4)]
    lines[-1]["results"][-1] |= {"status": "wrong", "reason": "output: relative error 1e-1"}
    row = next(r for r in derive(plan_lines(planned[-1:]), lines) if r["metric"] == "latency")
    assert (row["status"], row["value"]) == ("wrong", None)
