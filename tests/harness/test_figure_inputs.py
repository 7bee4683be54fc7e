"""Figures of strange tables, and figures that a person asks for in TOML: nothing makes them fail without a word."""

import re

import numpy as np
import pandas as pd
import pytest
from drawn import FEW, ONE_MACHINE, check_looks, one, shown
from drawn import everything as all_kinds
from made_tables import made
from matplotlib import pyplot as plt

from bench.errors import UsageError
from bench.metrics import METRICS
from bench.report import figures, style
from bench.report.figures import Spec


@pytest.fixture(scope="module")
def everything():
    return all_kinds()


STRANGE = ("100% of_it", "$x^2$ & {y}", "<b>bold</b>", "_hidden", "a" * 90, r"back\slash ~ #1", "naïve µ")


def test_names_with_special_characters_are_shown_as_they_are(tmp_path):
    df = made(
        400, FEW, subject=("linear",), phase=("infer",), batch=(1,), channels=(8, 16), failures=False, **ONE_MACHINE
    )
    for variant, strange in zip(("ph n=2", "ph n=4", "ph n=16", "quaternion"), STRANGE, strict=False):
        df.loc[df["variant"] == variant, ["variant", "algebra"]] = strange
    df["subject"] = STRANGE[1] + STRANGE[5]
    for spec in figures.builtin():
        for _, figure in figures.draw(df, spec):
            check_looks(figure, style.PLAIN)
            plt.close(figure)
    done = figures.write(
        df, tmp_path, formats=["svg"], specs=[Spec(name="one", kind="against", metrics=["latency"], x="channels")]
    )
    text = done.paths[0].read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>" not in text
    assert "_hidden" in text
    assert "$x^2$ &amp; {y}" in text


def test_thirty_variants_fit_into_one_figure():
    variants = (("real", 1), *(("ph", n) for n in range(2, 31)))
    df = made(
        30 * 9 * 6, variants, subject=("linear",), phase=("infer",), batch=(1,), dtype=("float32",), **ONE_MACHINE
    )
    for spec in figures.builtin():
        for _, figure in figures.draw(df, spec):
            check_looks(figure, style.PLAIN)
            plt.close(figure)
    (axis,) = shown(one(df, kind="against", metrics=["latency"], x="channels"))
    assert len(axis.containers) == 30


def test_one_single_point_is_drawn_if_asked_for_and_else_left_out(tmp_path):
    df = made(9, (("ph", 4),), channels=(8,), failures=False, **ONE_MACHINE)
    assert figures.write(df, tmp_path, formats=["png"]).paths == [tmp_path / "roofline.png"]
    for kind in ("against", "heatmap"):
        figure = one(df, kind=kind, metrics=["latency"], x="channels", least=1)
        check_looks(figure, style.PLAIN)
    assert figures.draw(df.iloc[:0], Spec(name="none", kind="against")) == []


@pytest.mark.parametrize("kind", list(figures.KINDS))
def test_a_table_without_numbers_draws_nothing_and_says_what_lacks(everything, tmp_path, kind):
    lost = everything.assign(status="crashed", value=pd.array([pd.NA] * len(everything), dtype="Float64"))
    done = figures.write(lost, tmp_path, specs=[Spec(name="mine", kind=kind)])
    assert done.paths == []
    assert done.notes[-1].startswith("mine: not drawn, the table has no ")
    assert figures.write(everything.iloc[:0], tmp_path, specs=[Spec(name="mine", kind=kind)]).paths == []


def test_numbers_that_are_none_are_left_out_and_counted(tmp_path):
    df = made(
        400, FEW, subject=("linear",), phase=("infer",), batch=(1,), channels=(8, 16), failures=False, **ONE_MACHINE
    )
    df.loc[df.index[df["variant"] == "ph n=2"], "value"] = float("nan")
    df.loc[df.index[df["variant"] == "ph n=4"], "value"] = float("inf")
    done = figures.write(df, tmp_path, formats=["png"])
    assert done.paths
    lacking = int((~np.isfinite(df["value"].astype(float))).sum())
    assert f"{lacking} rows say ok and hold no finite number" in done.notes[0]


# ----------------------------------------------------------------------------------------------------------- TOML


def test_a_figure_is_a_few_lines_of_toml(everything, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("""
        [[figure]]
        name = "half"
        kind = "against"
        metrics = ["latency"]
        x = "batch"
        hue = "algebra"
        where = { subject = "conv2d", phase = "infer", channels = 192, n = [1, 4] }
        width = "column"
    """)
    (spec,) = figures.load(path)
    done = figures.write(everything, tmp_path, specs=[spec], formats=["pdf"])
    assert [p.name for p in done.paths] == ["half.pdf"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[figure]]\nkind = 'against'", "figure[0].name: Field required"),
        ("[[figure]]\nname = 'a'\nkind = 'pie'", "figure[0].kind: Input should be 'against'"),
        ("[[figure]]\nname = 'a'\nkind = 'paths'\nmetric = 'x'", "is no key of a figure: did you mean metrics"),
        ("[[figure]]\nname = '../a'\nkind = 'paths'", "figure[0].name: String should match"),
        ("[[figure]]\nname = 'a'\nkind = 'paths'\n[[figure]]\nname = 'a'\nkind = 'paths'", "two figures are named 'a'"),
        ("figure = 3", "figure: Input should be a valid list"),
        ("[[figure]", "is not valid TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_figure_file_is_one_line(tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)) as raised:
        figures.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"kind": "against", "where": {"algebar": "ph"}},
            "the table has no column 'algebar', and no shape such an axis: did you mean algebra",
        ),
        ({"kind": "against", "where": {"n": "four"}}, "n is a number, not 'four'"),
        ({"kind": "against", "x": "algebra"}, "x is 'algebra', which holds no numbers"),
        ({"kind": "against", "metrics": ["latncy"]}, "no metric 'latncy': did you mean latency"),
    ],
)
def test_what_a_figure_asks_of_a_table_in_vain_is_one_line(everything, spec, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        figures.draw(everything, Spec(name="mine", **spec))


def test_every_metric_of_the_project_has_a_name_and_a_unit_on_an_axis():
    from bench.report import units

    for metric in METRICS.values():
        scale = units.scale(metric.name, [1.0])
        label = scale.label(units.name_of(metric.name))
        assert "_" not in label
        assert metric.unit == "1" or "(" in label
