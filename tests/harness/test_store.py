import json

import pytest

from bench.case import Case
from bench.errors import UsageError
from bench.store import Store, read_plan, read_tasks, write_whole


def done(name):
    """A finished task with nothing in it."""
    return {
        "task_id": name, "chunk_id": "c", "kind": "static", "repetition": 0, "siblings": 1, "started": "", "wall": 0.0,
        "env_id": "e", "code_rev": "r", "protocol_version": 1, "results": [],
    }  # fmt: skip


def asked(n):
    case = Case("linear", "layer", "ph", n, (("channels", 8),))
    return {"case": case.factors, "metrics": ["params"], "skipped": None, "controlled": None}


def test_what_is_appended_is_read_back(tmp_path):
    with Store(tmp_path / "run") as store:
        store.add_task(done("a"))
        store.add_task(done("b"))
        assert [line["task_id"] for line in store.tasks()] == ["a", "b"]


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_line_cut_short_by_a_kill_is_not_done_and_is_healed(tmp_path, cut):
    with Store(tmp_path) as store:
        store.add_task(done("a"))
        store.add_task(done("b"))
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert [line["task_id"] for line in read_tasks(tmp_path)] == ["a"]
    with Store(tmp_path) as store:
        store.add_task(done("c"))
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
        store.add_plan([asked(1), asked(2)])
        store.add_plan([asked(2), asked(3)])
    lines = [json.loads(text)["case"]["n"] for text in (tmp_path / "plan.jsonl").read_text().splitlines()]
    assert lines == [1, 2, 3]


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"schema":99}',
        b'{"schema":1}',
        b'{"schema":1,"task_id":3}',
        b"\xff\xfe",
        b"",
        b"null",
    ],
)
def test_a_foreign_line_is_an_error_with_its_number_never_dropped(tmp_path, line):
    with Store(tmp_path) as store:
        store.add_task(done("a"))
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(UsageError, match="line 2") as error:
        read_tasks(tmp_path)
    assert "\n" not in str(error.value)
    assert path.read_bytes().endswith(line + b"\n"), "what cannot be read is left to the user"


def test_a_plan_of_no_case_is_an_error(tmp_path):
    line = {"schema": 1, **asked(2)}
    line["case"] = {**line["case"], "colour": "red"}
    (tmp_path / "plan.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UsageError, match="line 1 is damaged.*colour"):
        read_plan(tmp_path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    with Store(tmp_path) as store:
        store.write("env.json", "old")

        def torn(path):
            path.write_text("ne")
            raise OSError(28, "No space left on device")

        with pytest.raises(UsageError, match="No space left"):
            write_whole(tmp_path / "env.json", torn)
    assert (tmp_path / "env.json").read_text() == "old"
