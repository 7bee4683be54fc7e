"""pytest-benchmark's JSON as a run folder like any other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.compare import source
from bench.compare.comparison import compare, side
from bench.errors import UsageError
from bench.importers import pytest_benchmark as importer
from bench.plan.case import Case
from bench.store.merge import merge

ROOT = Path(__file__).resolve().parents[2]


def session(path, medians, when="2026-01-02T03:04:05+00:00", bench=None, data=True, **commit):
    """A file as pytest-benchmark 5 writes it, as far as it is read."""
    benchmarks = [
        {
            "group": None, "name": name, "fullname": f"tests/test_sort.py::{name}", "params": {"size": 8, "f": [1]},
            "param": "8", "extra_info": extra, "options": {},
            "stats": {"min": median, "median": median, "rounds": 3, "iterations": 5,
                      **({"data": [median, 0.9 * median, 1.1 * median]} if data else {})},
        }
        for name, (median, extra) in medians.items()
    ]  # fmt: skip
    info = {"machine": "x86_64", "cpu": {"brand_raw": "a CPU"}, "system": "Linux", "python_version": "3.11.7"}
    found = {"machine_info": info | ({"bench": bench} if bench else {}), "commit_info": {"id": "0123456789abcdef", **commit},
             "benchmarks": benchmarks, "datetime": when, "version": "5.3.1"}  # fmt: skip
    path.write_text(json.dumps(found))
    return path


def rows(folder):
    return source.read(folder).rows


def test_a_benchmark_of_others_is_a_subject_by_its_name(tmp_path):
    importer.write(session(tmp_path / "a.json", {"test_sort": (2e-3, {})}), tmp_path / "run")
    (row,) = rows(tmp_path / "run").to_dict("records")
    assert row["subject"] == "tests/test_sort.py::test_sort"
    assert (row["metric"], row["value"], row["samples"], row["processes"]) == ("latency", pytest.approx(2e-3), 3, 1)
    assert json.loads(row["shape"]) == {"size": 8}
    assert row["env_id"].startswith("pytest-benchmark-")
    assert row["code_rev"] == "0123456789ab"
    assert row["started"] == "2026-01-02T03:04:05+00:00"
    assert row["timer"] == importer.TIMER


def test_a_benchmark_of_ours_is_the_case_that_it_names(tmp_path):
    case = Case("linear", "layer", "ph", 4, (("batch", 2), ("channels", 8)), timer="host_warm")
    bench = {"env_id": "cpu-test", "identity": {"device": "cpu"}}
    path = session(tmp_path / "a.json", {"t": (1e-3, {"case": case.factors})}, bench=bench, code_rev="c0de")
    importer.write(path, tmp_path / "run")
    (row,) = rows(tmp_path / "run").to_dict("records")
    assert (row["subject"], row["variant"], row["env_id"], row["code_rev"]) == (
        "linear",
        "ph n=4",
        "cpu-test",
        "c0de",
    )
    assert row["timer"] == importer.TIMER, "its time is never taken for one of the harness's"
    assert row["case_id"] != case.id


def test_merged_sessions_are_observations_and_give_an_interval(tmp_path):
    sessions = [
        session(tmp_path / f"{i}.json", {"t": (median, {})}, when=f"2026-01-02T03:04:0{i}+00:00")
        for i, median in enumerate((1.0e-3, 1.1e-3, 1.2e-3))
    ]
    done = CliRunner().invoke(app, ["merge", *map(str, sessions), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "3 tasks of 1 cases from 3 folders" in done.output
    (row,) = rows(tmp_path / "run").to_dict("records")
    assert (row["processes"], row["samples"]) == (3, 9)
    assert row["lo"] < 1.1e-3 < row["hi"]
    assert json.loads((tmp_path / f"run/envs/{row['env_id']}.json").read_text())["identity"]["machine"] == "x86_64"


def test_a_session_that_was_merged_before_is_kept_once(tmp_path):
    path = session(tmp_path / "a.json", {"t": (1e-3, {})})
    merge([path], tmp_path / "run")
    found = merge([tmp_path / "run", path], tmp_path / "run")
    assert (found.duplicates, found.tasks.total(), found.conflicts) == (1, 1, [])


def test_code_that_differs_from_its_commit_says_so(tmp_path):
    importer.write(session(tmp_path / "a.json", {"t": (1e-3, {})}, dirty=True), tmp_path / "run")
    assert rows(tmp_path / "run")["code_rev"].tolist() == ["0123456789ab+"]


def test_two_sessions_are_compared(tmp_path):
    for name, median in (("a", 1e-3), ("b", 2e-3)):
        importer.write(session(tmp_path / f"{name}.json", {"t": (median, {})}), tmp_path / name)
    (found,) = compare(*(side(source.read(tmp_path / name), {}, "--a") for name in "ab")).metrics
    assert found.changes[0].interval().value == pytest.approx(2)


def test_without_saved_rounds_the_sample_is_the_median_and_says_so(tmp_path):
    importer.write(session(tmp_path / "a.json", {"t": (2e-3, {})}, data=False), tmp_path / "run")
    (row,) = rows(tmp_path / "run").to_dict("records")
    assert (row["value"], row["samples"]) == (pytest.approx(2e-3), 1)
    assert "median" in json.loads(row["details"])["rounds"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON of pytest-benchmark"),
        ("[]", "no JSON"),
        ('{"benchmarks": []}', "datetime"),
        ("\x00", "no JSON"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as found:
        importer.write(path, tmp_path / "run")
    assert "\n" not in str(found.value)


def test_a_benchmark_that_could_not_be_read_back_is_one_line(tmp_path):
    path = session(tmp_path / "a.json", {"t": (1e-3, {"threads": "all"})})
    with pytest.raises(UsageError, match="no record: .*threads") as found:
        importer.write(path, tmp_path / "run")
    assert "\n" not in str(found.value)


def test_a_case_that_is_none_is_one_line(tmp_path):
    path = session(tmp_path / "a.json", {"t": (1e-3, {"case": {"subject": "linear", "nonsense": 1}})})
    with pytest.raises(UsageError, match="names a case that is none"):
        importer.write(path, tmp_path / "run")


def test_what_the_micro_benchmarks_write_is_imported(tmp_path):
    """The real thing: a session of tests/perf, its JSON read back as cases of the registry."""
    out = tmp_path / "micro.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/perf/test_layers_benchmark.py", "-k", "linear and infer",
         "--benchmark-enable", "--benchmark-max-time=0.001", "--benchmark-min-rounds=2", "--benchmark-warmup=off",
         "--benchmark-timer=torch.utils.benchmark.utils.timer.timer", f"--benchmark-json={out}", "-p", "no:cacheprovider"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    importer.write(out, tmp_path / "run")
    found = rows(tmp_path / "run")
    linear = found[found["subject"] == "linear"]
    assert {"real", "quaternion", "ph n=4"} == set(linear["variant"])
    assert (linear["value"] > 0).all()
    assert found["env_id"].str.startswith("cpu-").all()
    assert set(linear["path_built"]) >= {"torch"}
