"""bench.load and bench.wide: the same rows from wherever they are."""

import subprocess
import sys

import pandas as pd
import pytest
from handmade import case, planned, result, static, task, timings, write

import bench
from bench.errors import UsageError
from bench.schedule.run import plan_lines
from bench.table import files, frames
from bench.table.records import COLUMNS, derive

REAL, PH, BIG = case(), case(4), case(4, channels=16)


@pytest.fixture
def run(tmp_path):
    plan = [*planned(REAL, PH), *planned(BIG, skipped='no "room",\nnone')]
    lines = [static(REAL), task("static", [result(PH, "oom", reason="too big")]), *timings([REAL, PH])]
    return write(tmp_path / "runs" / "x", plan, lines, "cpu-x")


def test_a_run_folder_gives_what_derive_gives(run):
    df = bench.load(run)
    assert tuple(df.columns) == COLUMNS
    lines = [static(REAL), task("static", [result(PH, "oom", reason="too big")]), *timings([REAL, PH])]
    plan = [*plan_lines(planned(REAL, PH)), *plan_lines(planned(BIG, skipped='no "room",\nnone'))]
    pd.testing.assert_frame_equal(df, frames.of_records(derive(plan, lines)))
    assert len(df) == 4 + 4 + 4


def test_both_files_give_back_the_same_table(run):
    df = bench.load(run)
    for path in files.write(df, run):
        pd.testing.assert_frame_equal(bench.load(path), df)


def test_columns_have_their_types_whatever_the_records_hold(run):
    df = bench.load(run)
    assert {str(df[name].dtype) for name in ("value", "lo", "hi", "width_scale")} == {"Float64"}
    assert {str(df[name].dtype) for name in ("n", "samples", "batch", "kernel_size")} == {"Int64"}
    assert {str(df[name].dtype) for name in ("subject", "baseline_id", "details")} == {"str"}
    skipped = df[df["status"] == "skipped"]
    assert skipped["env_id"].isna().all()
    assert (skipped["reason"] == 'no "room",\nnone').all()


def test_a_folder_of_runs_gives_all_their_rows_and_says_whose_they_are(run):
    write(run.parent / "deep" / "y", planned(REAL), [static(REAL, env_id="cpu-y")])
    df = bench.load(run.parent)
    assert df.groupby("run").size().to_dict() == {"x": 12, "deep/y": 2}
    lone = run.parent / "only-a-table"
    lone.mkdir()
    files.write(bench.load(run), lone)
    assert len(bench.load(run.parent)) == 12 + 2 + 12


def test_links_in_a_folder_of_runs_are_not_followed(run, tmp_path):
    outside = write(tmp_path / "outside", planned(REAL), [static(REAL)])
    (run.parent / "link").symlink_to(outside)
    assert set(bench.load(run.parent)["run"]) == {"x"}


def test_wide_has_a_row_for_each_case_on_each_machine(run):
    wide = bench.wide(bench.load(run))
    assert wide.set_index("case_id").index.tolist() == [REAL.id, PH.id, BIG.id]
    real, ph, big = wide.to_dict("records")
    assert (real["params"], real["latency"], real["latency_lo"]) == (7.0, pytest.approx(1.0), pytest.approx(1.0))
    assert (ph["latency_status"], pd.isna(ph["latency"]), ph["params_status"]) == ("oom", True, "oom")
    assert (big["latency_status"], big["channels"], pd.isna(big["env_id"])) == ("skipped", 16, True)
    assert real["baseline_id"] == REAL.id
    assert "params_lo" not in wide, "a count has no interval"


def test_wide_does_not_choose_between_two_rows_of_one_thing(run):
    write(run.parent / "y", planned(REAL), [static(REAL)])
    df = bench.load(run.parent)
    assert len(bench.wide(df)) == 4, "the runs tell them apart"
    with pytest.raises(UsageError, match=f"two rows have the params of case {REAL.id} on cpu-x: .*bench merge"):
        bench.wide(df.drop(columns="run"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.parquet", None, "no file .*none.parquet: name a run folder"),
        ("table.parquet", b"PAR1 nonsense PAR1", "is no sound table of records"),
        ("table.parquet", b"", "is no sound table of records"),
        ("table.csv", b"a,b\n1,2\n", "it has no column 'subject'"),
        ("table.csv", b"\xff\xfe\x00", "is no sound table|has no column"),
        ("table.csv", b"", "is no sound table of records"),
    ],
)
def test_what_is_no_table_is_an_error_of_one_line(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(UsageError, match=said) as error:
        bench.load(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_table_with_a_word_for_a_number_or_of_another_schema_is_an_error(run):
    df = bench.load(run)
    csv, _ = files.write(df, run)
    text = csv.read_text()
    csv.write_text(text.replace(",linear,", ",linear,").replace(",7.0,", ",seven,"))
    with pytest.raises(UsageError, match=r"table.csv is no sound table of records: .*value.*seven"):
        bench.load(csv)
    for schema in (2, None):
        csv, parquet = files.write(df.assign(schema=pd.array([schema] * len(df), "Int64")), run)
        for path in (csv, parquet):
            with pytest.raises(UsageError, match="is of schema .*, not 1"):
                bench.load(path)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="holds no run: name a run folder"):
        bench.load(tmp_path)


def test_importing_bench_stays_light():
    script = (
        "import sys, bench; print(sorted({'pandas', 'numpy', 'torch', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "[]\n"
