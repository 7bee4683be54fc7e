"""``bench report`` on stored tables: what it writes, and its one line on what cannot be."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent / "support"))
from made_tables import ENVS, made

from bench.cli import app
from bench.errors import UsageError
from bench.table import files

FEW = (("real", 1), ("ph", 2), ("ph", 4))
SMALL = {
    "subject": ("linear",),
    "phase": ("infer",),
    "dtype": ("float32",),
    "threads": (2,),
    "size": (8,),
    "batch": (1,),
}


def report(*args):
    """Its output; a UsageError is what main shows as one line with exit code 2."""
    done = CliRunner().invoke(app, ["report", *map(str, args)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def fails(words, *args):
    with pytest.raises(UsageError, match=re.escape(words)) as raised:
        report(*args)
    assert "\n" not in str(raised.value)


ONE = '[[figure]]\nname = "mine"\nkind = "against"\nmetrics = ["params"]\n'


@pytest.fixture
def one(tmp_path):
    """Options that draw one small figure: what is asked here is not how figures look."""
    (tmp_path / "mine.toml").write_text(ONE)
    return ["--format", "png", "--figures", tmp_path / "mine.toml"]


@pytest.fixture
def stored(tmp_path):
    """A folder with a stored table and no run."""
    folder = tmp_path / "made" / "env"
    folder.mkdir(parents=True)
    made(9 * 3 * 6, FEW, **SMALL, env_id=ENVS[:1]).to_parquet(folder / "table.parquet", index=False)
    return folder


def test_a_stored_table_alone_gives_tables_and_figures_and_stays_as_it_is(stored, one, tmp_path):
    before = (stored / "table.parquet").read_bytes()
    printed = report(stored, "--format", "png")
    assert f"figure:  {stored}/figures/latency_against_n.png" in printed
    assert f"table:   {stored}/tables/linear_infer.tex" in printed
    assert (stored / "table.parquet").read_bytes() == before
    assert {path.suffix for path in (stored / "figures").iterdir()} == {".png"}
    assert "### linear, infer" in (stored / "summary.md").read_text()
    report(stored / "table.parquet", *one, "--out", tmp_path / "copy")
    for path in [*(stored / "tables").iterdir(), stored / "summary.md"]:
        copy = (tmp_path / "copy" / path.relative_to(stored)).read_text(encoding="utf-8")
        assert copy.replace(" --figures mine.toml", "") == path.read_text(encoding="utf-8")
    pd.testing.assert_frame_equal(files.read(tmp_path / "copy" / "table.csv"), files.read(stored / "table.parquet"))


def test_a_filter_reports_on_a_part_elsewhere(stored, one, tmp_path):
    fails("choose a folder of its own for it with --out", stored, "--filter", "variant=real")
    report(stored, "--filter", "channels=48,96", "--filter", "algebra=real,ph", *one, "--out", tmp_path / "part")
    assert set(files.read(tmp_path / "part" / "table.csv")["channels"]) == {48, 96}
    fails("leaves no record", stored, "--filter", "n=77", "--out", tmp_path / "part")
    report(stored, "--filter", "variant=ph n=4", "--filter", "batch=1", *one, "--out", tmp_path / "with_baseline")
    assert set(files.read(tmp_path / "with_baseline" / "table.csv")["variant"]) == {"real", "ph n=4"}
    report(stored, "--filter", "variant=ph n=4", "--filter", "metric=params", *one, "--out", tmp_path / "counts")
    assert set(files.read(tmp_path / "counts" / "table.csv")["metric"]) == {"params"}
    fails(
        "no column 'algebar', and no shape such an axis: did you mean algebra",
        stored,
        "--filter",
        "algebar=ph",
        "--out",
        tmp_path / "part",
    )
    fails("is not of the form key=value", stored, "--filter", "ph", "--out", tmp_path / "part")


def test_figures_of_a_file_take_the_place_of_the_usual_ones(stored, tmp_path):
    (tmp_path / "mine.toml").write_text(ONE)
    printed = report(stored, "--figures", tmp_path / "mine.toml", "--preset", "icml")
    assert {path.name for path in (stored / "figures").iterdir()} == {"mine.pdf", "mine.svg", "mine.png"}
    assert "(also .svg, .png)" in printed
    assert "--preset icml --figures mine.toml" in (stored / "figures" / "mine.svg").read_text()


def test_failures_only_give_a_summary_and_no_figure(stored):
    df = files.read(stored / "table.parquet")
    df = df.assign(status="crashed", reason="signal 11", value=pd.array([pd.NA] * len(df), dtype="Float64"))
    df.to_parquet(stored / "table.parquet", index=False)
    printed = report(stored)
    assert "figure:  none: nothing that was measured can be drawn" in printed
    assert f"records: {len(df)} crashed" in printed
    assert "**crashed** (signal 11)" in (stored / "summary.md").read_text()
    assert list((stored / "tables").iterdir()) == []


def test_what_is_no_table_is_one_line(stored, tmp_path):
    path = stored / "table.parquet"
    df = files.read(path)
    df.iloc[:0].to_parquet(path, index=False)
    fails("is empty: it has columns and no record", stored)
    df.drop(columns=["case_id"]).to_parquet(path, index=False)
    fails("it has no column 'case_id'", stored)
    df.astype({"value": "str"}).assign(value="fast").to_parquet(path, index=False)
    fails("is no sound table of records", stored)
    path.write_bytes(b"PAR1 and then nothing")
    fails("is no sound table of records", stored)
    path.unlink()
    (stored / "table.csv").write_text("")
    fails("is no sound table of records", stored)
    (stored / "table.csv").write_text("a,b\n1,2\n")
    fails("it has no column 'subject'", stored)
    (stored / "table.csv").unlink()
    fails("is no run folder", stored)
    fails("is no sound table of records", Path(__file__))


def test_unknown_presets_and_formats_are_one_line(stored):
    fails("no preset 'nature': choose one of plain, ieee", stored, "--preset", "nature")
    fails("gif is none of pdf, svg, png", stored, "--format", "pdf,gif")
    fails("it names none of pdf, svg, png", stored, "--format", ",")
    fails("no figure file", stored, "--figures", stored / "none.toml")
