"""The store: what is appended is kept, whatever ends a writer, and several runs may share a folder."""

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest
from handmade import case, result, static

from bench.errors import UsageError
from bench.plan.case import Case
from bench.store.folder import Store, inside, read_plan, read_tasks, write_whole
from bench.store.lines import text_of

SUPPORT = Path(__file__).parent / "support"
ROOT = Path(__file__).parents[2]


def done(name, **fields):
    """A finished task with nothing in it."""
    return {
        "task_id": name, "chunk_id": "c", "kind": "static", "repetition": 0, "siblings": 1, "started": "2026-01-01T00:00:00+00:00",
        "wall": 0.0, "env_id": "e", "code_rev": "r", "protocol_version": 1, "results": [], **fields,
    }  # fmt: skip


def asked(n, **fields):
    factors = Case("linear", "layer", "ph", n, (("channels", 8),)).factors
    return {"case": factors, "metrics": ["params"], "skipped": None, "controlled": None, **fields}


def names(folder):
    return [line["task_id"] for line in read_tasks(folder)]


def test_what_is_appended_is_read_back(tmp_path):
    with Store(tmp_path / "run") as store:
        store.add_task(done("a"))
        store.add_task(done("b"))
        assert [line["task_id"] for line in store.tasks()] == ["a", "b"]


def test_a_line_cut_short_at_any_byte_is_not_done_and_is_healed_by_the_next_writer(tmp_path, request):
    first, torn = (text_of({"schema": 1, **static(case(), name=name)}) for name in "ab")
    path = tmp_path / "tasks.jsonl"
    with Store(tmp_path) as store:
        for cut in range(0, len(torn), 1 if request.config.getoption("--full") else 11):
            path.write_bytes(first + torn[:cut])
            assert len(read_tasks(tmp_path)) == 1
            store.add_task(done("c"))
            assert names(tmp_path)[1:] == ["c"], f"torn after {cut} bytes"


def test_a_writer_killed_at_any_byte_of_its_write_leaves_a_store_that_goes_on(tmp_path):
    """The process dies inside the system call that writes, after so many bytes."""
    script = f"""
        import os, signal, sys
        sys.path[:0] = [{str(ROOT)!r}, {str(SUPPORT)!r}]
        from pathlib import Path
        from bench.store import folder as store
        from handmade import case, static
        folder, whole = Path({str(tmp_path)!r}), os.pwrite
        for cut in range(0, 350, 11):
            child = os.fork()
            if not child:
                def torn(file, data, at):
                    whole(file, data[:cut], at)
                    os.kill(os.getpid(), signal.SIGKILL)
                os.pwrite = torn
                with store.Store(folder) as own:
                    own.claim([f"torn-{{cut}}"])
                    own.add_task({{**static(case()), "task_id": f"torn-{{cut}}"}})
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            with store.Store(folder) as own:
                assert own.claim([f"torn-{{cut}}"]), "the claim of a dead run is free at once"
                own.add_task({{**static(case()), "task_id": f"whole-{{cut}}"}})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)
    assert names(tmp_path) == [f"whole-{cut}" for cut in range(0, 350, 11)]


@pytest.mark.parametrize("writers", [1, 3])
def test_writers_killed_at_random_moments_lose_nothing_and_repeat_nothing(tmp_path, writers, request):
    full = request.config.getoption("--full")
    tasks, kills = (2000, 250) if full else (150, 15)
    run = subprocess.run(
        [sys.executable, str(SUPPORT / "writers.py"), str(tmp_path), str(tasks), str(kills), str(writers), "7"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = Counter(names(tmp_path))
    assert set(found) == {f"task-{i}" for i in range(tasks)}, "a task is lost"
    assert found.total() == tasks, "a task was measured twice"
    assert set(run.stdout.split()) <= set(found), "a task that the store took is gone"
    assert (tmp_path / "tasks.jsonl").read_bytes().endswith(b"\n")
    with Store(tmp_path) as store:
        assert store.claim(["a task that nobody has"])
        # a run that was killed before it said who it was claimed nothing, and may be of another machine
        known = [path for path in (tmp_path / "claims").glob("*.jsonl") if path.stat().st_size]
        assert len(known) == 1, "what dead runs left behind is swept"


# ---------------------------------------------------------------------------------------------------- claims


def test_a_task_is_claimed_by_one_run_at_a_time(tmp_path):
    with Store(tmp_path) as one, Store(tmp_path) as other:
        assert one.claim(["a", "b"]) == ["a", "b"]
        assert other.claim(["a", "b", "c"]) == ["c"]
        assert set(other.held(["a", "b", "c"])) == {"a", "b"}
        one.release(["a"])
        assert other.claim(["a", "b"]) == ["a"]
    assert not list((tmp_path / "claims").iterdir())


def test_a_task_that_another_run_finished_meanwhile_is_not_claimed(tmp_path):
    with Store(tmp_path) as one, Store(tmp_path) as other:
        assert other.tasks() == []
        one.claim(["a"])
        one.add_task(done("a"))
        assert other.claim(["a", "b"]) == ["b"]
        assert [line["task_id"] for line in other.news()] == ["a"]
        assert other.news() == []
        other.add_task(done("b"))
        assert other.news() == [], "one's own tasks are no news"
        assert one.claim(["a"]) == ["a"], "who finished it may measure it again"


def test_what_another_run_had_no_time_for_may_be_claimed(tmp_path):
    with Store(tmp_path) as one, Store(tmp_path) as other:
        other.tasks()
        one.add_task(done("a", results=[result(case(), "skipped", reason="budget")]))
        assert other.claim(["a"]) == ["a"]


def test_machines_that_share_a_folder_do_not_wait_for_each_other(tmp_path):
    with Store(tmp_path) as one, Store(tmp_path) as other:
        other.tasks()
        assert one.claim(["a"], "e") == ["a"]
        assert other.claim(["a"], "f") == ["a"]
        one.add_task(done("a", env_id="e"), "e")
        assert other.claim(["a"], "f") == ["a"]
        assert other.claim(["a"], "e") == []


def test_the_claims_of_a_run_on_another_machine_last_while_it_is_heard_of(tmp_path):
    claims = tmp_path / "claims"
    claims.mkdir()
    far = claims / "far-1-0.jsonl"
    far.write_text('{"machine": "another", "host": "far", "pid": 1}\n+a\n+b\n-b\n')
    with Store(tmp_path) as store:
        assert store.claim(["a", "b"]) == ["b"]
        long_ago = far.stat().st_mtime - 1000
        os.utime(far, (long_ago, long_ago))
        assert store.claim(["a"]) == ["a"]
        assert not far.exists()


@pytest.mark.parametrize("text", ["", "{", "[]\n+a\n", "\0\0\0", '{"machine": 3}\n'])
def test_a_damaged_file_of_claims_expires_like_that_of_an_unknown_run(tmp_path, text):
    (tmp_path / "claims").mkdir()
    path = tmp_path / "claims" / "odd-1-0.jsonl"
    path.write_text(text)
    with Store(tmp_path) as store:
        store.claim(["a"])
        os.utime(path, (1e9, 1e9))
        store.claim(["b"])
        assert not path.exists()


@pytest.mark.parametrize("link", ["jsonl", "lock"])
def test_a_link_among_the_claims_is_no_run_and_leads_nowhere(tmp_path, link):
    (tmp_path / "claims").mkdir()
    precious = tmp_path / "precious"
    precious.write_text('{"machine": "another", "host": "far", "pid": 1}\n+a\n')
    for kind in ("jsonl", "lock"):
        path = tmp_path / "claims" / f"odd-1-0.{kind}"
        path.symlink_to(precious) if kind == link else path.write_text("")
    with Store(tmp_path) as store:
        assert store.claim(["a"]) == ["a"]
    assert precious.read_text().endswith("+a\n")
    assert not list((tmp_path / "claims").glob("odd*"))


def test_a_run_that_was_taken_for_dead_claims_anew(tmp_path):
    with Store(tmp_path) as one, Store(tmp_path) as other:
        one.claim(["a"])
        for path in (tmp_path / "claims").iterdir():  # as another machine does when it has not heard of us for long
            path.unlink()
        assert other.claim(["a"]) == ["a"]
        assert one.claim(["a", "b"]) == ["b"]
        assert other.claim(["b"]) == [], "and is alive again"


# ------------------------------------------------------------------------------------------- full and foreign disks


def limited(folder, size):
    """A process that may write no file beyond ``size`` bytes, as on a disk that is full there; what it said."""
    script = f"""
        import resource, signal, sys
        sys.path[:0] = [{str(ROOT)!r}, {str(SUPPORT)!r}]
        from pathlib import Path
        from bench.errors import UsageError
        from bench.store.folder import Store
        from handmade import case, static
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Store(Path({str(folder)!r})) as store:
            store.claim(["x"])
            resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
            for i in range(100):
                try:
                    store.add_task({{**static(case()), "task_id": f"task-{{i}}"}})
                except UsageError as error:
                    print(i, error)
                    break
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_full_disk_stops_with_one_clear_line_and_nothing_is_corrupt(tmp_path):
    said = limited(tmp_path, 2000)
    kept, _, message = said.partition(" ")
    assert message.count("\n") == 1
    assert "tasks.jsonl cannot be written (File too large): what was finished before is kept; make room" in message
    assert names(tmp_path) == [f"task-{i}" for i in range(int(kept))]
    assert (tmp_path / "tasks.jsonl").read_bytes().endswith(b"\n"), "what did not fit is taken back"
    with Store(tmp_path) as store:
        store.add_task(done("later"))
    assert names(tmp_path)[-1] == "later"


def test_a_disk_that_is_really_full_is_survived_in_every_file(small_disk):
    folder = small_disk / "run"
    with Store(folder) as store:
        with pytest.raises(UsageError, match="No space left on device") as error:
            [store.add_task(done(f"task-{i}")) for i in range(1000)]
        assert "\n" not in str(error.value)
        kept = names(folder)
        assert kept == [f"task-{i}" for i in range(len(kept))]
        for full in (
            lambda: store.add_plan([asked(n) for n in range(1, 200)]),
            lambda: store.write("env.json", "x" * 100_000),
            lambda: store.claim([f"task-{i}" for i in range(10_000)]),
        ):
            with pytest.raises(UsageError, match="No space left on device"):
                full()
        assert read_plan(folder) == []
        assert not (folder / "env.json").exists()
        assert names(folder) == kept
    with pytest.raises(UsageError, match="No space left on device"), Store(folder) as store:
        store.add_task(done("x" * 100, code_rev="r" * 200))
    (folder / ".lock").unlink()
    path = folder / "tasks.jsonl"
    path.write_bytes(path.read_bytes()[:1000])  # room again, and a torn line
    with Store(folder) as store:
        store.add_task(done("later"))
    assert names(folder)[-1] == "later"


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"file/run cannot be written .*--out"):
        Store(tmp_path / "file" / "run")


@pytest.mark.parametrize("name", [".lock", "logs", "claims", "checkpoints", "tracks", "tasks.jsonl", "plan.jsonl"])
def test_a_link_in_a_run_folder_leads_no_writer_out_of_it(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "tasks.jsonl").write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(outside / "tasks.jsonl" if "." in name else outside)
    with pytest.raises(UsageError, match=f"run/{name} is a link: what a run writes stays in its folder"):
        Store(folder)
    assert (outside / "tasks.jsonl").read_text() == "precious"
    assert [path.name for path in outside.iterdir()] == ["tasks.jsonl"]


@pytest.mark.parametrize("name", ["../up", "a/b", "/etc/passwd", "..", ".", ""])
def test_a_name_that_is_a_path_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="is no name of a file"):
        inside(tmp_path, name)


# ------------------------------------------------------------------------------------------------- plan, files


def test_the_plan_keeps_each_case_once(tmp_path):
    with Store(tmp_path) as store:
        store.add_plan([asked(1), asked(2)])
        store.add_plan([asked(2), asked(3)])
    lines = [json.loads(text)["case"]["n"] for text in (tmp_path / "plan.jsonl").read_text().splitlines()]
    assert lines == [1, 2, 3]


def test_a_case_that_is_skipped_and_asked_for_again_is_planned_as_it_was_last(tmp_path):
    with Store(tmp_path) as store:
        for skipped in (None, "no such device", None):
            store.add_plan([asked(2, skipped=skipped)])
    assert [line["skipped"] for line in read_plan(tmp_path)] == [None, "no such device", None]


def test_what_a_task_answered_that_is_no_result_becomes_an_error_and_spoils_no_line(tmp_path):
    odd = static(case())
    odd["results"][0] |= {"seconds": [0.0, float("nan")], "path_built": "\ud800"}
    with Store(tmp_path) as store:
        store.add_task(odd)
        store.add_task(done("after"))
    line, _ = read_tasks(tmp_path)
    (kept,) = line["results"]
    assert (kept["case_id"], kept["status"], kept["seconds"]) == (case().id, "error", [])
    assert kept["reason"].startswith("what it answered is no result: results[0].seconds[0]")


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


def test_a_line_of_another_schema_says_so(tmp_path):
    (tmp_path / "tasks.jsonl").write_bytes(text_of({**done("a"), "schema": 2}))
    with pytest.raises(UsageError, match="line 1 is of schema 2, not 1"):
        read_tasks(tmp_path)


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
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "env.json", "logs"]
