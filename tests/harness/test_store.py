import json

import pytest

from bench.errors import UsageError
from bench.store import Store, read_tasks


def test_what_is_appended_is_read_back(tmp_path):
    with Store(tmp_path / "run") as store:
        store.add_task({"task_id": "a", "results": []})
        store.add_task({"task_id": "b", "results": []})
        assert [line["task_id"] for line in store.tasks()] == ["a", "b"]


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_line_cut_short_by_a_kill_is_not_done_and_is_healed(tmp_path, cut):
    with Store(tmp_path) as store:
        store.add_task({"task_id": "a", "results": []})
        store.add_task({"task_id": "b", "results": []})
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert [line["task_id"] for line in read_tasks(tmp_path)] == ["a"]
    with Store(tmp_path) as store:
        store.add_task({"task_id": "c", "results": []})
    assert [line["task_id"] for line in read_tasks(tmp_path)] == ["a", "c"]


def test_a_folder_serves_one_run_at_a_time(tmp_path):
    with Store(tmp_path), pytest.raises(UsageError, match="in use by another run"):
        Store(tmp_path)
    with Store(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"file/run cannot be written .*--out"):
        Store(tmp_path / "file" / "run")


def test_the_plan_keeps_each_case_once(tmp_path):
    with Store(tmp_path) as store:
        store.add_plan([{"case": {"n": 1}}, {"case": {"n": 2}}])
        store.add_plan([{"case": {"n": 2}}, {"case": {"n": 3}}])
    lines = [json.loads(text)["case"]["n"] for text in (tmp_path / "plan.jsonl").read_text().splitlines()]
    assert lines == [1, 2, 3]


def test_a_foreign_line_is_an_error_with_its_number_never_dropped(tmp_path):
    (tmp_path / "tasks.jsonl").write_text('{"schema":1,"task_id":"a"}\nnot json\n')
    with pytest.raises(UsageError, match="line 2 is no JSON"):
        read_tasks(tmp_path)
    (tmp_path / "tasks.jsonl").write_text('{"schema":99}\n')
    with pytest.raises(UsageError, match="schema 99"):
        read_tasks(tmp_path)
