"""Joining run folders: each finished task once, duplicates and conflicts told, machines side by side."""

import json

import pytest
from handmade import case, planned, static, task, timings, write
from typer.testing import CliRunner

import bench
from bench.cli import app
from bench.errors import UsageError
from bench.machine.roofs import Roofs
from bench.store.lines import read_plan, read_tasks, text_of
from bench.store.merge import merge

REAL, PH = case(), case(4)
PLAN = planned(REAL, PH)


def whole(params=7, env_id="cpu-x", second=0, **fields):
    """All tasks of a run of two cases."""
    own = {"env_id": env_id, "second": second, **fields}
    return [static(REAL, params, **own), static(PH, params, **own), *timings([REAL, PH], **own)]


def test_machines_stand_side_by_side_each_with_its_own_baseline(tmp_path):
    write(tmp_path / "a", PLAN, whole(), "cpu-x")
    write(
        tmp_path / "b",
        PLAN,
        [static(of, env_id="cpu-y") for of in (REAL, PH)] + timings([REAL, PH], seconds=5.0, env_id="cpu-y"),
        "cpu-y",
    )
    found = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert (dict(found.tasks), found.cases, found.conflicts) == ({"cpu-x": 4, "cpu-y": 4}, 2, [])
    df = bench.load(tmp_path / "c")
    latency = df[df["metric"] == "latency"].set_index(["env_id", "n"])["value"]
    assert latency.to_dict() == pytest.approx(
        {("cpu-x", 1): 1.0, ("cpu-x", 4): 2.0, ("cpu-y", 1): 5.0, ("cpu-y", 4): 10.0}
    )
    ratio = df[df["metric"] == "latency_ratio"].set_index(["env_id", "n"])["value"]
    assert ratio.to_dict() == pytest.approx(
        {(env, n): float(min(n, 2)) for env in ("cpu-x", "cpu-y") for n in (1, 4)}
    )
    alone = bench.load(tmp_path / "a")
    assert df[df["env_id"] == "cpu-x"].reset_index(drop=True).equals(alone), "a machine's rows are as they were"
    assert json.loads((tmp_path / "c/envs/cpu-y.json").read_text())["identity"]["cpu_model"] == "cpu-y"


def test_a_folder_merged_with_its_copy_is_itself(tmp_path):
    write(tmp_path / "a", PLAN, whole(), "cpu-x")
    write(tmp_path / "b", PLAN, whole(), "cpu-x")
    found = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert (found.duplicates, found.twice, found.conflicts) == (4, 0, [])
    assert (tmp_path / "c/tasks.jsonl").read_bytes() == (tmp_path / "a/tasks.jsonl").read_bytes()
    assert len(read_plan(tmp_path / "c")) == 2
    again = merge([tmp_path / "c", tmp_path / "a"], tmp_path / "c")
    assert again.duplicates == 4
    assert (tmp_path / "c/tasks.jsonl").read_bytes() == (tmp_path / "a/tasks.jsonl").read_bytes()


def test_a_merge_is_the_same_in_either_order_and_the_newest_counts(tmp_path):
    write(tmp_path / "old", PLAN, whole(second=1), "cpu-x")
    write(tmp_path / "new", PLAN, [*whole(second=2), *timings([REAL, PH], seconds=3.0, second=3)], "cpu-x")
    for order in (("old", "new"), ("new", "old")):
        out = tmp_path / "-".join(order)
        found = merge([tmp_path / name for name in order], out)
        assert (found.twice, found.duplicates) == (4, 0)
        df = bench.load(out)
        assert df[(df["metric"] == "latency") & (df["n"] == 1)]["value"].tolist() == pytest.approx([3.0])
        assert [line["started"][-8:-6] for line in read_tasks(out)] == ["01"] * 4 + ["02"] * 4 + ["03"] * 2


def test_lines_of_one_folder_keep_their_order_whatever_their_clocks_said(tmp_path):
    lines = [static(REAL, name=name, second=second) for name, second in (("a", 5), ("b", 2), ("c", 5), ("d", 3))]
    write(tmp_path / "a", PLAN, lines)
    write(tmp_path / "b", PLAN, [static(REAL, name="other", second=4)])
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    order = [line["task_id"].split("-")[0] for line in read_tasks(tmp_path / "c")]
    assert order == ["other", "a", "b", "c", "d"]


def test_counts_and_statuses_that_contradict_each_other_are_told(tmp_path):
    write(tmp_path / "a", PLAN, [static(REAL, 7), static(PH, 7)], "cpu-x")
    failed = task(
        "static", [{**static(PH)["results"][0], "status": "oom", "reason": "too big", "values": {}}], second=2
    )
    write(tmp_path / "b", PLAN, [static(REAL, 8, second=1), failed], "cpu-x")
    found = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    where = f"in {tmp_path / 'a'} and {tmp_path / 'b'}"
    assert found.conflicts == [
        f"params of case {REAL.id} is 7 and 8 {where}",
        f"case {PH.id} (static) is ok and oom {where}",
    ]
    told = CliRunner().invoke(app, ["merge", *(str(tmp_path / name) for name in "ab"), "--out", str(tmp_path / "d")])
    assert told.exit_code == 3
    assert told.stdout.count("conflict: ") == 2


def test_a_measurement_that_was_changed_by_hand_is_not_merged(tmp_path):
    write(tmp_path / "a", PLAN, [static(REAL, 7)])
    write(tmp_path / "b", PLAN, [static(REAL, 8)])
    with pytest.raises(UsageError, match="stands differently in .*a and .*b: one was changed by hand"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert read_tasks(tmp_path / "c") == []


def test_what_one_machine_skips_another_may_have_measured(tmp_path):
    write(tmp_path / "a", planned(REAL), [static(REAL)], "cpu-x")
    write(tmp_path / "b", planned(REAL, skipped="no room"), [static(PH, env_id="cpu-y")], "cpu-y")
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c").conflicts == []
    df = bench.load(tmp_path / "c").set_index(["env_id", "metric"])["status"]
    assert df["cpu-x"].to_dict() == {"params": "ok", "numeric_error": "ok"}
    assert set(df["cpu-y"]) == {"skipped"}
    assert len(df["cpu-y"]) == 4


def test_a_case_that_is_skipped_and_asked_for_on_one_machine_is_a_conflict(tmp_path):
    write(tmp_path / "a", planned(REAL), [static(REAL)], "cpu-x")
    write(tmp_path / "b", planned(REAL, skipped="no room"), [], "cpu-x")
    (told,) = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c").conflicts
    assert told.startswith(f"case {REAL.id} is asked for and skipped (no room) on cpu-x in ")


def test_what_one_run_had_no_time_for_another_may_have_measured_before(tmp_path):
    """A shard that was cut short, and begun later than the one that finished."""
    late = [
        {**own, "wall": 0.0, "results": [
            {**r, "status": "skipped", "reason": "budget: no time", "values": {}, "seconds": []} for r in own["results"]
        ]}
        for own in whole(second=9)
    ]  # fmt: skip
    write(tmp_path / "a", PLAN, whole(), "cpu-x")
    write(tmp_path / "b", PLAN, late, "cpu-x")
    found = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert found.conflicts == []
    assert set(bench.load(tmp_path / "b")["status"]) == {"skipped"}
    assert bench.load(tmp_path / "c").equals(bench.load(tmp_path / "a"))


def test_some_cases_are_joined_with_what_they_are_compared_with(tmp_path):
    other = case(4, channels=16)
    write(tmp_path / "a", [*PLAN, *planned(other)], [*whole(), static(other)], "cpu-x")
    write(tmp_path / "b", [*PLAN, *planned(other)], [*whole(env_id="cpu-y"), static(other, env_id="cpu-y")], "cpu-y")
    args = ["merge", str(tmp_path / "a"), str(tmp_path / "b"), "--filter", "n=4", "--filter", "channels=8", "--out"]
    told = CliRunner().invoke(app, [*args, str(tmp_path / "c")])
    assert told.exit_code == 0, told.stderr
    assert "8 tasks of 2 cases from 2 folders" in told.stdout
    df = bench.load(tmp_path / "c")
    assert set(df["case_id"]) == {REAL.id, PH.id}
    alone = bench.load(tmp_path / "a")
    alone = alone[alone["channels"] == 8].reset_index(drop=True)
    assert df[df["env_id"] == "cpu-x"].reset_index(drop=True).equals(alone)
    with pytest.raises(UsageError, match="no case has a factor 'colour'"):
        merge([tmp_path / "a"], tmp_path / "d", ["colour=red"])


def test_no_filter_takes_anything_from_a_folder_that_is_there(tmp_path):
    write(tmp_path / "a", PLAN, whole())
    with pytest.raises(UsageError, match="would lose what does not match --filter: join the folders in a new --out"):
        merge([tmp_path / "a"], tmp_path / "a", ["n=4"])
    assert len(read_tasks(tmp_path / "a")) == 4


def made(env_id, measured):
    rates = [{"threads": 1, "flops": {"float32": 1e11}, "copied": {1024: 1e10}, "read": {1024: 1e10}}]
    return Roofs(
        env_id=env_id,
        device="cpu",
        rates=rates,
        launch=1e-6,
        timer=1e-9,
        caches={},
        caches_by="os",
        measured=measured,
    )


def test_each_machine_keeps_its_roofs_the_newest_of_several(tmp_path):
    for name, env_id, measured in (("a", "cpu-x", "2026-02"), ("b", "cpu-x", "2026-01"), ("d", "cpu-y", "2026-03")):
        write(tmp_path / name, PLAN, [static(REAL, env_id=env_id)], env_id)
        (tmp_path / name / "roofs.json").write_text(made(env_id, measured).model_dump_json())
    merge([tmp_path / name for name in "abd"], tmp_path / "c")
    found = {path.stem: json.loads(path.read_text())["measured"] for path in (tmp_path / "c/roofs").iterdir()}
    assert found == {"cpu-x": "2026-02", "cpu-y": "2026-03"}


def test_folders_of_runs_are_searched(tmp_path):
    write(tmp_path / "quick/x", PLAN, whole(), "cpu-x")
    write(tmp_path / "quick/y", PLAN, whole(env_id="cpu-y"), "cpu-y")
    told = CliRunner().invoke(app, ["merge", str(tmp_path / "quick"), "--out", str(tmp_path / "c")])
    assert told.exit_code == 0, told.stderr
    assert told.stdout.splitlines() == [
        f"{tmp_path / 'c'}: 8 tasks of 2 cases from 2 folders",
        "  4 on cpu-x",
        "  4 on cpu-y",
        f"next: bench report {tmp_path / 'c'}",
    ]


def test_a_folder_that_holds_another_run_is_not_overwritten(tmp_path):
    write(tmp_path / "a", PLAN, whole())
    write(tmp_path / "c", PLAN, [static(REAL)])
    before = (tmp_path / "c/tasks.jsonl").read_bytes()
    with pytest.raises(UsageError, match="c holds a run already: name it among the folders"):
        merge([tmp_path / "a"], tmp_path / "c")
    assert (tmp_path / "c/tasks.jsonl").read_bytes() == before
    merge([tmp_path / "a", tmp_path / "c"], tmp_path / "c")
    assert len(read_tasks(tmp_path / "c")) == 4


def test_the_sweep_is_kept_where_all_ran_the_same(tmp_path):
    for name in "ab":
        write(tmp_path / name, PLAN, whole(env_id=f"cpu-{name}"))
        (tmp_path / name / "sweep.toml").write_text("the same")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert (tmp_path / "c/sweep.toml").read_text() == "the same"
    (tmp_path / "b/sweep.toml").write_text("another")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "d")
    assert not (tmp_path / "d/sweep.toml").exists()


def test_answers_that_no_run_has_collected_are_told(tmp_path):
    write(tmp_path / "a", PLAN, whole())
    (tmp_path / "a/spool").mkdir()
    (tmp_path / "a/spool/t.1.json").write_text("{}")
    assert merge([tmp_path / "a"], tmp_path / "c").uncollected == [str(tmp_path / "a")]


@pytest.mark.parametrize("env_id", ["../../up", "/etc/passwd", ".hidden", "a/b", ""])
def test_no_name_in_a_record_leads_out_of_the_folder(tmp_path, env_id):
    write(tmp_path / "a", PLAN, [])
    (tmp_path / "a/env.json").write_text(json.dumps({"env_id": env_id, "identity": {}}))
    with pytest.raises(UsageError, match="describes no machine"):
        merge([tmp_path / "a"], tmp_path / "c")
    (tmp_path / "a/env.json").unlink()
    (tmp_path / "a/tasks.jsonl").write_bytes(text_of({"schema": 1, **static(REAL, env_id=env_id)}))
    with pytest.raises(UsageError, match="line 1 is damaged .env_id"):
        merge([tmp_path / "a"], tmp_path / "d")
    assert {path.name for path in tmp_path.iterdir()} <= {"a", "c", "d"}


@pytest.mark.parametrize("given", ["nothing", "empty"])
def test_what_holds_no_run_is_named(tmp_path, given):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=given):
        merge([tmp_path / given], tmp_path / "c")
    assert not (tmp_path / "c").exists()
