"""What the page shows: rows, means, failures with their logs, where they come from; odd tables and hostile names."""

import json

import numpy as np
import pandas as pd
import pytest
from paged import HOSTILE, records, run_with_log

from bench.report import page
from bench.report.page.failures import failures
from bench.report.page.rows import page_rows
from bench.report.page.run import Run, provenance, run_of


def test_a_row_is_a_case_with_its_metrics_beside_each_other():
    rows = page_rows(records())
    assert rows.count == rows.cases == 16
    assert [column.name for column in rows.columns[:3]] == ["subject", "variant", "channels"]
    texts = rows.data["latency_t"]
    assert texts[0] == "320 µs"
    assert "crashed" in texts
    assert rows.same["dtype"] == "float32"


def test_what_follows_from_other_factors_comes_last_and_is_no_filter():
    df = records()
    df["kernel_size"] = df["subject"].map({"conv2d": 3, "linear": 1}).astype("Int64")
    names = {column.name: (i, column) for i, column in enumerate(page_rows(df).columns)}
    assert names["kernel_size"][0] > names["latency"][0]
    assert not names["kernel_size"][1].chosen
    assert names["channels"][1].chosen


def test_a_metric_that_is_called_like_a_factor_has_a_column_of_its_own(tmp_path):
    df = records()
    df.loc[df["metric"] == "params", "metric"] = "precision"
    df.loc[df["variant"] == "real", "precision"] = "tf32"
    rows = page_rows(df)
    assert set(rows.data["precision"]) == {"none", "tf32"}
    assert rows.data["precision_metric"][0] == pytest.approx(32e3)
    assert "<td>precision</td>" in page.html(df, Run(tmp_path))
    assert page_rows(df, most=9).data["precision_metric"][0] > 0


def test_an_answer_that_was_no_number_has_an_infinite_error():
    df = records()
    df.loc[df["metric"] == "latency", "value"] = float("inf")
    assert page_rows(df).data["latency_t"][0] == "infinite"


def test_more_cases_than_a_browser_holds_are_averaged_and_the_table_is_named(tmp_path):
    seeds = [records().assign(seed=seed, case_id=lambda df, s=seed: df["case_id"] + f"-{s}") for seed in range(20)]
    df = pd.concat(seeds).astype({"seed": "Int64"})
    rows = page_rows(df, most=50)
    assert rows.cases == 320
    assert rows.count <= 50
    assert rows.averaged == ["seed"]
    real = rows.data["variant"].index("real")
    assert rows.data["latency"][real] == pytest.approx(32e-5)
    assert rows.data["cases"][real] == 20
    assert sum(rows.data["failures"]) == 20
    text = page.html(df, Run(tmp_path), most=50)
    assert 'href="table.csv"' in text
    assert "320 cases" in text


def test_a_mean_is_geometric_and_shows_its_span():
    df = pd.concat([records().iloc[:3].assign(case_id=str(i), seed=i) for i in range(30)]).astype({"seed": "Int64"})
    latency = df["metric"] == "latency"
    df.loc[latency, "value"] = np.geomspace(1e-3, 4e-3, 30)
    rows = page_rows(df, most=5)
    assert rows.data["latency"] == pytest.approx([2e-3])
    assert rows.data["latency_t"] == ["2 ms (1 ms to 4 ms)"]


def test_failures_of_one_reason_are_told_together_with_the_end_of_their_log(tmp_path):
    run = run_with_log(tmp_path / "run")
    (found,), left = failures(records(), run.logs)
    assert left == 0
    assert found.status == "crashed"
    assert found.cases == ["linear / ph n=4 / batch=8, channels=128 / infer: latency"]
    assert found.log == "logs/task.log"
    assert found.tail.endswith(f"the last words {HOSTILE}\n")
    assert len(found.tail) < 5000


def run_folder(folder):
    """A run of two machines, one of whose cases crashed on both: on the second no log was kept."""
    line = {"schema": 1, "chunk_id": "c", "kind": "static", "repetition": 0, "siblings": 1, "wall": 1.0,
            "started": "2026-01-01T00:00:00+00:00", "code_rev": "c", "protocol_version": 2}  # fmt: skip
    result = {"case_id": "case", "status": "crashed", "reason": "it ended", "path_built": "", "values": {},
              "unsupported": {}, "seconds": [], "details": {}}  # fmt: skip
    folder.mkdir()
    with (folder / "tasks.jsonl").open("w") as file:
        for env_id in ("cpu-x", "cpu-y"):
            own = {"task_id": f"t{env_id}", "env_id": env_id, "said": ["one word", "its last"], "results": [result]}
            file.write(json.dumps(line | own) + "\n")
    (folder / "logs/kind").mkdir(parents=True)
    for name in ("tcpu-x.log", "tcpu-x.2.log", "tcpu-x.10.log"):
        (folder / "logs/kind" / name).write_text(f"this is {name}")
    (folder / "envs").mkdir()
    identity = {"cpu_model": "a CPU", "cores": 2, "packages": {"torch": "2.15.0"}}
    (folder / "envs/cpu-x.json").write_text(json.dumps({"env_id": "cpu-x", "identity": identity}))
    (folder / "envs/cpu-y.json").write_text(json.dumps({"env_id": "cpu-y", "identity": None}))
    (folder / "sweep.toml").write_text('title = "A title"\nanalysis = "one `two`"\n[protocol]\nprocesses = 3\n')
    return folder


def test_a_run_folder_tells_its_sweep_its_machines_and_the_last_log_of_each_failure(tmp_path):
    df = pd.concat([records().assign(env_id=env_id, status="crashed") for env_id in ("cpu-x", "cpu-y")])
    run = run_of(run_folder(tmp_path / "run"), df)
    assert (run.title, run.protocol) == ("A title", "processes 3")
    assert run.logs["case", "cpu-x"].name == "logs/kind/tcpu-x.10.log"
    assert run.logs["case", "cpu-x"].tail(100) == "this is tcpu-x.10.log"
    assert run.logs["case", "cpu-y"].tail(100) == "one word\nits last"
    assert run.logs["case", "cpu-y"].tail(4) == "…last"
    told = provenance(df, run)
    assert told["machine"] == "a CPU, 2 cores, torch 2.15.0 (cpu-x); cpu-y"
    assert "one <code>two</code>" in page.html(df, run)


def test_what_a_link_in_a_run_folder_leads_to_is_not_told(tmp_path):
    secret = tmp_path / "secret.toml"
    secret.write_text('title = "of no concern to a reader"')
    folder = run_folder(tmp_path / "run")
    for name in ("sweep.toml", "logs/kind/tcpu-x.10.log"):
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
    text = page.html(records(), run_of(folder, records()))
    assert "of no concern" not in text


def test_the_table_that_is_named_is_the_one_beside_the_page(tmp_path):
    for name in ("table.csv", "table.parquet"):
        assert f'href="{name}"' not in page.write(records(), tmp_path, Run(tmp_path)).read_text()
    (tmp_path / "table.parquet").touch()
    assert 'href="table.parquet"' in page.write(records(), tmp_path, Run(tmp_path)).read_text()
    (tmp_path / "table.csv").touch()
    assert 'href="table.csv"' in page.write(records(), tmp_path, Run(tmp_path)).read_text()


def test_what_few_factors_tell_apart_is_averaged_over_the_others_alone():
    """Three hundred widths are too many rows; the two types behind them in the table are not."""
    wide = [
        records().assign(channels=c, dtype=dtype, case_id=lambda df, c=c, d=dtype: df["case_id"] + f"{c}{d}")
        for c in range(300)
        for dtype in ("float32", "bfloat16")
    ]
    df = pd.concat(wide).astype({"channels": "Int64"})
    rows = page_rows(df, most=100)
    assert rows.averaged == ["channels", "shape"] or rows.averaged == ["channels"]
    assert "dtype" in [column.name for column in rows.columns]
    assert rows.count == 16


def test_everything_that_a_run_named_is_escaped(tmp_path):
    text = page.html(records(), run_with_log(tmp_path / "run"))
    assert "&lt;img src=x onerror" in text
    assert "<img src=x" not in text
    assert "<script>window.hit" not in text
    assert "{{7*7}}" in text, "what looks like a template is text"


def test_of_many_failures_the_first_are_told_and_skipped_cases_come_last(tmp_path):
    many = pd.concat([records().assign(status="oom", reason=f"too large, {i}") for i in range(5)])
    skipped = records().assign(status="skipped", reason="no such kernel")
    found, left = failures(pd.concat([skipped, many]), {}, most=4)
    assert [failure.reason for failure in found] == [f"too large, {i}" for i in range(4)]
    assert left == 2
    found, _ = failures(pd.concat([skipped, many]), {})
    assert found[-1].status == "skipped"
    assert found[-1].more + len(found[-1].cases) == 16


@pytest.mark.parametrize(
    "df",
    [
        records().iloc[:0],
        records().iloc[:1],
        records()[lambda df: df["status"] != "ok"],
        records().assign(value=pd.array([float("nan")] * len(records()), dtype="Float64"), lo=pd.NA, hi=pd.NA),
        pd.concat(
            [
                records().assign(variant=f"v{i}", case_id=lambda df, i=i: df["case_id"] + f"{i}", algebra=f"a{i}")
                for i in range(30)
            ]
        ),
    ],
    ids=["empty", "one point", "failures only", "NaN", "30 variants"],
)
def test_odd_tables_give_a_page(df, tmp_path):
    assert "</html>" in page.html(df, Run(tmp_path))


def test_the_page_names_no_address_to_load_from(tmp_path):
    text = page.html(records(), Run(tmp_path))
    for tag in ("<script src", '<link rel="stylesheet', "@import", "url(http"):
        assert tag not in text
    assert "default-src 'none'" in text
