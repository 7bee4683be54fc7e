"""Tables: their digits, their bold, their caveats, and that LaTeX takes them."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent / "support"))
from made_tables import ENVS, beside_paths, made, trained

from bench.cli import app
from bench.report import figures, style, tables
from bench.report.figures import Spec
from bench.report.summary import plus_minus, readable, summary
from bench.report.tables import numbers
from bench.report.tables.measured import MOST_ROWS, fastest
from bench.report.tables.model import Cell, Column, Table, footnotes
from bench.report.tables.render import csv, latex, latex_text, markdown
from bench.table import filters

FEW = (("real", 1), ("quaternion", 4), ("ph", 2), ("ph", 4), ("ph", 16))
SMALL = {
    "subject": ("linear",),
    "phase": ("infer",),
    "dtype": ("float32",),
    "threads": (2,),
    "size": (8,),
    "env_id": ENVS[:1],
}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small():
    return made(9 * 5 * 6 * 2, FEW, **SMALL | {"batch": (1, 32)})


def the(df, title="linear, infer"):
    return next(own for own in tables.of(df) if own.title == title)


def column(own, name):
    return [column.name for column in own.columns].index(name)


# ---------------------------------------------------------------------------------------------------------- digits


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1.5e-3, "s", "1.5 ms"), (2.0, "s", "2 s"), (3e-9, "s", "0.003 µs"), (1536, "B", "1.5 KiB"), (512, "B", "0.5 KiB"),
     (1_500_000, "MAC", "1.5 M"), (0, "MAC", "0"), (2e-7, "1", "2.0e-07"), (0.5, "1", "0.5")],
)  # fmt: skip
def test_numbers_are_written_for_people(value, unit, text):
    assert readable(value, unit) == text


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (1.2345, 0.0012, "1.2345 ± 0.0012"),
        (1.2345, 0.004, "1.234 ± 0.004"),
        (1.2345, 0.02, "1.234 ± 0.020"),
        (98.7, 1.25, "98.7 ± 1.2"),
        (98.7, 0.89, "98.7 ± 0.9"),
        (12345.0, 120, "12,340 ± 120"),
        (0.5, math.nan, "0.5"),
        (1.0, 0.0, "1 ± 0"),
    ],
)
def test_digits_are_those_that_the_interval_supports(value, half, text):
    assert plus_minus(value, half) == text


def test_latex_has_powers_of_ten_and_minus_signs_in_numbers_alone():
    cells = (Cell("ph-2e-07"), Cell("2.1e-07 [1.0e-07, 2.0e+05]", 2.1e-7), Cell("-0.2 ± 0.5 (p = 0.33)", -0.2))
    tex = latex(Table("a", "", tuple(Column(name) for name in "abc"), (cells,)))
    assert "ph-2e-07 &" in tex
    assert r"2.1$\times10^{-7}$ {[}1.0$\times10^{-7}$, 2.0$\times10^{5}$] &" in tex
    assert r"$-$0.2 $\pm$ 0.5 (p = 0.33)" in tex


def test_a_wide_interval_is_told_by_its_ends():
    assert numbers.interval(3.07, 1.85, 5.25) == "3.1 [1.9, 5.2]"
    assert numbers.interval(3.07, 3.0, 3.14) == "3.07 ± 0.07"


def test_a_csv_holds_the_digits_that_the_interval_supports(small, tmp_path):
    own = the(small)
    tables.write([own], tmp_path)
    back = pd.read_csv(tmp_path / "linear_infer.csv")
    row = back[(back["variant"] == "ph n=4") & (back["channels"] == 192) & (back["batch"] == 1)].iloc[0]
    stored = filters.where(
        small, {"variant": "ph n=4", "channels": 192, "batch": 1, "metric": "latency_ratio"}, "t"
    ).iloc[0]
    half = (stored["hi"] - stored["lo"]) / 2
    assert float(row["latency ratio"]) == pytest.approx(round(stored["value"], numbers.decimals(half)), abs=1e-12)
    assert row["latency ratio lo"] == pytest.approx(round(stored["lo"], numbers.decimals(half)), abs=1e-12)
    assert row["verdict"] == json.loads(stored["details"])["verdict"]
    assert back["params"].dtype.kind in "if"


# ------------------------------------------------------------------------------------------------------ best in bold


def ratios(**intervals):
    """The rows of one group: variant → (lo, hi, verdict); the real layer is 1."""
    df = made(9 * 5, FEW[:4], channels=(8,), failures=False, **SMALL)
    df = df[df["metric"] == "latency_ratio"].copy()
    for variant, (lo, hi, verdict) in intervals.items():
        row = df["variant"] == variant.replace("ph", "ph n=")
        df.loc[row, ["lo", "hi", "value"]] = lo, hi, (lo + hi) / 2
        df.loc[row, "details"] = json.dumps({"verdict": verdict, "margin": 0.01})
    return df


def bold(df):
    variants = dict(zip(df["case_id"], df["variant"], strict=True))
    return {variants[case] for case, _ in fastest(df)}


def test_bold_is_what_verdict_and_intervals_say_and_nothing_else():
    apart = {"quaternion": (0.50, 0.54, "FASTER"), "ph2": (0.8, 0.9, "FASTER"), "ph4": (0.60, 0.64, "FASTER")}
    assert bold(ratios(**apart)) == {"quaternion"}
    assert bold(ratios(**apart | {"ph4": (0.53, 0.64, "FASTER")})) == set(), "two that cannot be told apart"
    assert bold(ratios(**apart | {"quaternion": (0.50, 0.54, "CAN'T TELL")})) == set()
    slower = dict.fromkeys(("quaternion", "ph2", "ph4"), (1.2, 1.3, "SLOWER"))
    assert bold(ratios(**slower)) == {"real"}
    assert bold(ratios(**slower | {"ph2": (0.99, 1.3, "CAN'T TELL")})) == set()


def test_bold_shows_in_every_form(small):
    small = small[small["batch"] == 1]
    own = the(small)
    at = column(own, "latency ratio")
    best = [row[at] for row in own.rows if row[at].best]
    assert best
    assert f"**{best[0].text}**" in markdown(own)
    assert r"\bfseries" in latex(own)
    assert any(text.startswith("Bold: the fastest") for text in own.below)


def test_the_best_accuracy_is_bold_only_where_a_paired_test_says_so():
    df = trained(("real", "ph n=2", "ph n=4"), seeds=5)
    better = df.copy()
    rows = (better["metric"] == "accuracy") & (better["variant"] == "ph n=4")
    better.loc[rows, "value"] = better.loc[rows, "value"] + 0.05
    (own,) = tables.of(better)
    assert [row[0].text for row in own.rows if row[column(own, "accuracy (%)")].best] == ["ph n=4"]
    mixed = df.copy()
    mixed["value"] = mixed["value"].astype(float) + 0.03 * ((mixed["seed"] * 5 + mixed["n"]) % 3).astype(float) * (
        mixed["metric"] == "accuracy"
    )
    (own,) = tables.of(mixed)
    assert not any(row[column(own, "accuracy (%)")].best for row in own.rows)


# ------------------------------------------------------------------------------------------------ failures, caveats


def test_a_failure_is_named_in_its_cell_with_the_reason_below(small):
    own = the(small)
    text = markdown(own)
    assert "oom<sup>" in text
    assert "oom: out of memory: 12 GiB wanted" in text
    assert r"oom\textsuperscript" in latex(own)
    assert "ph n=16" in summary(small).split("### Not measured")[1]


def test_caveats_of_a_number_are_footnotes(small):
    own = the(small)
    assert any(note.startswith("noisy: ") for note in footnotes(own.rows))
    row = next(row for row in own.rows if row[0].text == "1")
    assert any(cell.notes and cell.notes[0].startswith("noisy") for cell in row)


def test_marks_go_on_after_z():
    rows = [[Cell(notes=(str(i),))] for i in range(60)]
    assert [footnotes(rows)[str(i)] for i in (0, 25, 26, 27, 52)] == ["a", "z", "aa", "ab", "ba"]


def test_what_is_not_finite_is_named(small):
    small.loc[(small["metric"] == "params") & (small["variant"] == "real"), "value"] = float("nan")
    assert "not finite" in markdown(the(small))


def test_machines_are_a_column_where_there_are_several():
    own = the(made(9 * 5 * 12, FEW, **SMALL | {"env_id": ENVS}))
    assert {row[column(own, "machine")].text for row in own.rows} == {"cpu-made-8c", "cuda-made-b"}


def test_more_cases_than_a_table_holds_are_told_by_their_means():
    df = made(9 * 5 * 400, FEW, **SMALL | {"size": tuple(range(1, 60)), "batch": (1, 2, 4, 8)})
    own = the(df)
    assert len(own.rows) <= MOST_ROWS
    assert "are too many for a table" in own.below[0]
    told = {row[0].text: [cell.text for cell in row] for row in own.rows}
    assert set(told) == {"real", "quaternion", "ph n=2", "ph n=4", "ph n=16"}
    of_ph = df[(df["metric"] == "latency_ratio") & (df["variant"] == "ph n=4")]["details"].map(json.loads)
    assert told["ph n=4"][column(own, "SLOWER")] == f"{sum(said['verdict'] == 'SLOWER' for said in of_ph):,}"
    assert int(told["ph n=16"][column(own, "failed")]) > 0


def test_rows_that_no_factor_tells_apart_are_shown_with_their_ids(small):
    twice = pd.concat([small, small.assign(case_id=small["case_id"] + "-again")], ignore_index=True)
    own = the(twice)
    assert len(own.rows) == 2 * len(the(small).rows)


def test_paths_are_rows_of_their_own():
    own = the(beside_paths(made(9 * 5, FEW, **SMALL)))
    assert {row[column(own, "path")].text for row in own.rows} == {
        "none",
        "kron",
        "dense",
        "factored",
        "bilinear",
        "tuned",
    }


# --------------------------------------------------------------------------------------------------------- escaping

STRANGE = (
    "100% of_it",
    "$x^2$ & {y}",
    "<b>bold</b>",
    "a|b",
    r"back\slash ~ #1 ^",
    "中文 and µ ± é",
    "`code` *star*",
    "{\\input{x}}",
)


def strange():
    df = made(9 * len(STRANGE), tuple((name, 1) for name in STRANGE), channels=(8,), failures=False, **SMALL)
    df["subject"], df["marks"] = STRANGE[1], "odd_mark & more"
    lost = df["metric"] == "macs"
    df.loc[lost, ["status", "reason"]] = ["error", "ValueError: got {}\n<script>alert(1)</script> $\\frac"]
    return df


def test_names_with_special_characters_are_escaped_in_every_form(tmp_path):
    df = strange()
    text = summary(df)
    assert "<b>" not in text
    assert "<script>" not in text
    assert r"a\|b" in text
    own = tables.of(df)[0]
    tex = latex(own)
    assert r"100\% of\_it" in tex
    assert r"\$x\textasciicircum{}2\$ \& \{y\}" in tex
    assert "U+4E2D" in tex, "a letter that the default fonts lack is named by its code"
    tables.write([own], tmp_path)
    assert set(pd.read_csv(next(tmp_path.glob("*.csv")))["variant"]) == set(STRANGE)


def test_tables_whose_names_become_one_file_name_are_kept_apart(tmp_path):
    df = made(9 * 5 * 2, FEW, **SMALL)
    both = pd.concat([df.assign(subject="a/b"), df.assign(subject="a b")])
    names = [own.name for own in tables.of(both)]
    assert len(set(names)) == 2


# ------------------------------------------------------------------------------------------------------------ LaTeX

PAGE = r"""\documentclass[twocolumn,10pt]{article}
\usepackage[letterpaper,top=1in,bottom=1in,left=0.67in,right=0.67in,columnsep=0.16in]{geometry}
\usepackage{booktabs,graphicx}
\setcounter{totalnumber}{50}\setcounter{dbltopnumber}{50}\renewcommand{\dblfloatpagefraction}{.1}
\begin{document}
BODY
\end{document}
"""


def compile_page(folder, body):
    """The log of pdflatex; fails if it does."""
    (folder / "page.tex").write_text(PAGE.replace("BODY", body), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=folder,
        capture_output=True,
        timeout=120,
    )
    log = (folder / "page.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-2000:]
    return log


def floats(folder, names):
    """A float a table, as wide as the page, in the size that papers use for tables."""
    made_of = [
        r"\begin{table*}\centering\footnotesize\setlength{\tabcolsep}{3.5pt}\caption{" + f"Table {i}" + r"}\input{" + name + r"}\end{table*}"
        + (r"\clearpage" if i % 4 == 3 else "")
        for i, name in enumerate(names)
    ]  # fmt: skip
    return "\n".join(made_of)


def overfull(log):
    """Points by which lines are too wide, the bearable ones left out."""
    return [
        float(points)
        for points in re.findall(r"Overfull \\hbox \((\d+\.?\d*)pt too wide\)", log)
        if float(points) > 2
    ]


@pytest.mark.system("pdflatex")
def test_every_table_compiles_within_the_page(small, tmp_path):
    two_machines = made(9 * 5 * 12 * 2, FEW, **SMALL | {"env_id": ENVS, "phase": ("infer", "train_step")})
    made_of = [
        *tables.of(pd.concat([two_machines, trained()])),
        *tables.of(beside_paths(small).assign(subject="paths")),
    ]
    names = [path.name for path in tables.write(made_of, tmp_path) if path.suffix == ".tex"]
    assert len(names) >= 6
    assert overfull(compile_page(tmp_path, floats(tmp_path, names))) == []


@pytest.mark.system("pdflatex")
def test_tables_with_special_characters_compile_and_run_nothing(tmp_path):
    names = [path.name for path in tables.write(tables.of(strange()), tmp_path) if path.suffix == ".tex"]
    compile_page(tmp_path, floats(tmp_path, names))


@pytest.mark.system("pdflatex")
@pytest.mark.parametrize("letter", ["ascii", "latin", "other"])
def test_any_letter_compiles(tmp_path, letter):
    letters = {
        "ascii": range(32, 127),
        "latin": range(160, 256),
        "other": [0x3B1, 0x2212, 0x4E2D, 0x1F600, 0x200B, 0x0, 0x7F],
    }
    text = " ".join(latex_text(chr(code)) + "x" for code in letters[letter])
    compile_page(tmp_path, text)


@pytest.mark.system("pdflatex")
def test_a_two_column_page_takes_figures_and_tables_as_they_are(small, tmp_path):
    """Widths of IEEE: a figure of one column, one of two, and a table."""
    ieee = style.preset("ieee")
    specs = [
        Spec(
            name="narrow", kind="against", metrics=["latency_ratio"], x="channels", where={"batch": 1}, width="column"
        ),
        Spec(name="wide", kind="against", metrics=["latency", "latency_ratio"], x="channels", where={"batch": 1}),
    ]
    drawn = figures.write(small, tmp_path, specs=specs, preset=ieee, formats=["pdf"]).paths
    assert [path.name for path in drawn] == ["narrow.pdf", "wide.pdf"]
    tables.write([the(small[small["batch"] == 1])], tmp_path)
    body = (
        r"""\begin{figure}\includegraphics{narrow.pdf}\caption{A figure of one column.}\end{figure}
    \begin{figure*}\includegraphics{wide.pdf}\caption{A figure of two.}\end{figure*}
    \begin{table*}\centering\footnotesize\input{linear_infer.tex}\caption{A table.}\end{table*}
    """
        + "Some words to set. " * 300
    )
    assert overfull(compile_page(tmp_path, body)) == []


def test_a_table_says_where_it_comes_from():
    own = Table("a", "A table\nof 2 lines", (Column("variant", True),), ((Cell("real"),),))
    lines = latex(own, "run quick\n; env e").splitlines()
    assert lines[0] == "% A table of 2 lines"
    assert lines[1] == "% run quick ; env e"


def test_the_same_table_gives_the_same_bytes(small, tmp_path):
    first, second = (tables.write(tables.of(small), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_csv_keeps_two_columns_of_one_name_apart():
    own = Table("a", "", (Column("n"), Column("n")), ((Cell("1", 1.0), Cell("x")),))
    assert csv(own).splitlines() == ["n,n ", "1,x"]


STORED = sorted((ROOT / "results/reference").glob("*/*/table.parquet"))
DERIVED = ("summary.md", "pareto.csv", "curves.csv", "tables/*")


@pytest.mark.parametrize("stored", STORED, ids=lambda path: path.parent.parent.name)
def test_reference_tables_are_what_their_stored_tables_give(stored, tmp_path, monkeypatch):
    """``make figures`` would change nothing but figures."""
    monkeypatch.chdir(ROOT)  # the command that a table names begins here
    monkeypatch.setattr(figures, "write", lambda *args, **options: figures.Outcome())
    CliRunner().invoke(app, ["report", str(stored.relative_to(ROOT)), "--out", str(tmp_path)], catch_exceptions=False)
    there, made = (
        {path.relative_to(folder): path.read_bytes() for pattern in DERIVED for path in folder.glob(pattern)}
        for folder in (stored.parent, tmp_path)
    )
    if stored.parent.parent.name == "accuracy" and Path("curves.csv") not in there:
        made.pop(Path("curves.csv"))  # too large for the repository
    assert set(there) == set(made), "run make figures"
    assert [name for name, content in made.items() if there[name] != content] == [], "run make figures"
