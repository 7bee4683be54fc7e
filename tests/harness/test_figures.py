"""Figures: what they show and how they look at printed size."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.stats import gmean

sys.path.insert(0, str(Path(__file__).parent / "support"))
from boxes import texts
from drawn import FEW, ONE_MACHINE, check_looks, one, shown
from drawn import everything as all_kinds
from made_tables import ENVS, made, trained

from bench.report import figures, style
from bench.report.figures import Spec
from bench.report.figures.axes import log_ticks
from bench.report.provenance import CREATOR, provenance
from bench.table import filters


@pytest.fixture(scope="module")
def everything():
    return all_kinds()


@pytest.fixture(scope="module")
def drawn(everything):
    """Every one of the project's figures, by name."""
    pages = [page for spec in figures.builtin() for page in figures.draw(everything, spec)]
    yield dict(pages)
    plt.close("all")


# ------------------------------------------------------------------------------------------- at printed size


def test_every_figure_of_the_project_is_drawn_where_the_table_has_rows_for_it(drawn):
    names = {spec.name for spec in figures.builtin()} - {"energy_against_n"}
    assert {name for name in names if not any(page.startswith(name) for page in drawn)} == set()


def test_no_text_overlaps_another_or_is_cut_off_or_too_small(drawn):
    for figure in drawn.values():
        check_looks(figure, style.PLAIN)


@pytest.mark.parametrize("preset", ["ieee", "neurips", "icml"])
def test_presets_have_the_widths_and_the_type_of_the_journal(everything, preset, pytestconfig):
    chosen = style.preset(preset)
    every = figures.builtin()
    for spec in (
        every
        if pytestconfig.getoption("--full")
        else [s for s in every if s.name in ("speedup", "latency_against_n")]
    ):
        for _, figure in figures.draw(everything, spec, chosen):
            check_looks(figure, chosen)
            assert {text.get_fontname() for text, _ in texts(figure)} == {"STIXGeneral"}
            plt.close(figure)


def test_a_variant_looks_the_same_in_all_panels_of_a_figure(everything):
    slim = everything[everything["variant"] == "real"].assign(control="slim:x")
    slim = [
        slim.assign(variant=f"slim real ({name})", case_id=slim["case_id"] + name) for name in ("ph n=2", "ph n=4")
    ]
    few = everything[~((everything["variant"] == "ph n=2") & (everything["batch"] == 1))]
    slim[0] = slim[0][slim[0]["batch"] == 32]
    for spec in figures.builtin():
        for name, figure in figures.draw(pd.concat([few, *slim], ignore_index=True), spec):
            looks = {}
            for line in (line for axis in shown(figure) for line in axis.containers if hasattr(line, "lines")):
                first = line.lines[0]
                own = (first.get_color(), first.get_marker(), first.get_fillstyle(), str(first.get_linestyle()))
                assert looks.setdefault(line.get_label(), own) == own, (name, line.get_label())
            plt.close(figure)


def test_axes_have_names_and_units(drawn):
    for name, figure in drawn.items():
        for axis in shown(figure):
            assert axis.get_xlabel(), name
            assert axis.get_ylabel() or name.startswith(("speedup", "machines")), "variants need no name"
            for metric, unit in (
                ("latency", r"\((ns|µs|ms|s)\)"),
                ("peak memory", r"\([KMG]iB\)"),
                ("multiply-adds", "MAC"),
            ):
                if axis.get_ylabel().startswith(f"{metric} ("):
                    assert re.search(unit, axis.get_ylabel()), axis.get_ylabel()


def test_fonts_are_embedded_as_truetype(everything, tmp_path):
    spec = next(spec for spec in figures.builtin() if spec.name == "params_against_n")
    for preset in ("plain", "icml"):
        done = figures.write(everything, tmp_path, specs=[spec], formats=["pdf"], preset=style.preset(preset))
        content = done.paths[0].read_bytes()
        assert b"/Type3" not in content
        assert b"/FontFile2" in content, "TrueType outlines are in the file"


def test_the_same_table_gives_the_same_bytes_in_every_format(everything, tmp_path):
    spec = next(spec for spec in figures.builtin() if spec.name == "params_against_n")
    first, second = (figures.write(everything, tmp_path / name, specs=[spec]).paths for name in "ab")
    assert {path.suffix for path in first} == {".pdf", ".svg", ".png"}
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_pages_drawn_in_several_processes_are_the_same_bytes(everything, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_MANY", 2)
    specs = [spec for spec in figures.builtin() if spec.name in ("params_against_n", "paths", "learning_curves")]
    first, second = (
        figures.write(everything, tmp_path / str(cores), specs=specs, formats=["svg"], cores=cores).paths
        for cores in (1, 2)
    )
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_each_file_says_where_it_comes_from(everything, tmp_path):
    (tmp_path / "sweep.toml").write_text('name = "mine & yours"')
    origin = provenance(everything, tmp_path, " --preset icml")
    spec = next(spec for spec in figures.builtin() if spec.name == "params_against_n")
    for path in figures.write(everything, tmp_path / "figures", specs=[spec], provenance=origin).paths:
        text = path.read_bytes().decode("utf-8", errors="replace").replace("&amp;", "&").replace("\\(", "(")
        for word in (
            "run mine & yours",
            ENVS[0],
            "code 0123456789ab",
            f"made by: bench report {origin.command[13:]}",
            CREATOR,
        ):
            assert word in text, (path.suffix, word)


# ------------------------------------------------------------------------------------------------ what is shown


def test_values_intervals_and_failures_stand_where_the_table_has_them(everything):
    where = {"phase": "infer", "subject": "conv2d", "batch": 32, "env_id": ENVS[0]}
    figure = one(everything, kind="against", metrics=["latency"], x="channels", where=where)
    (axis,) = shown(figure)
    own = filters.where(everything, {**where, "metric": "latency", "variant": "ph n=4"}, "test").sort_values(
        "channels"
    )
    line = next(c for c in axis.containers if c.get_label() == "ph n=4")
    scale = {"µs": 1e-6, "ms": 1e-3}[axis.get_ylabel()[-3:-1]]
    assert line.lines[0].get_ydata() * scale == pytest.approx(own["value"].astype(float).to_numpy())
    (bars,) = line.lines[2]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()]) * scale
    assert ends == pytest.approx(own[["lo", "hi"]].astype(float).to_numpy())
    lost = [line for line in axis.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert len(lost) == 1, "ph n=16 ran out of memory at the widest"
    assert lost[0].get_color() == style.look("ph").colour
    assert lost[0].get_xdata()[0] == pytest.approx(1536, rel=0.2)
    assert [t.get_text() for t in figure.legends[0].get_texts()][-1] == "oom"


def test_against_n_shows_the_widest_channels_and_says_so(everything):
    figure = one(everything, kind="against", metrics=["params"], x="n", where={"subject": "conv2d"})
    (axis,) = shown(figure)
    assert axis.get_title() == "conv2d, 1536 channels"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "2", "4", "16"]


def test_axes_are_logarithmic_where_values_span_a_decade_and_linear_from_0_elsewhere(everything):
    wide = shown(one(everything, kind="against", metrics=["latency"], x="channels", where={"subject": "conv2d"}))[0]
    near = shown(one(everything, kind="against", metrics=["latency_ratio"], x="channels",
                     where={"subject": "conv2d", "variant": ["real", "ph n=2"]}))[0]  # fmt: skip
    assert wide.get_yscale() == "log"
    assert near.get_yscale() == "linear"
    assert near.get_ylim()[0] == 0
    forced = one(
        everything, kind="against", metrics=["latency"], x="channels", where={"subject": "conv2d"}, scale="linear"
    )
    assert shown(forced)[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("low", "high"), [(1, 1.02), (5.0001, 5.0002), (0.9, 1.3), (3, 40), (20_000, 80_000), (1e-9, 1e9)]
)
def test_a_logarithmic_axis_has_three_labels_or_more_and_few_enough(low, high):
    ticks = log_ticks(low, high)
    assert 3 <= sum(low <= tick <= high for tick in ticks) <= 25
    assert ticks == sorted(ticks)


def test_a_speed_up_is_the_inverse_of_the_ratio_and_in_brackets_where_the_interval_holds_1(everything):
    where = {"phase": "infer", "subject": "conv2d", "batch": 1, "env_id": ENVS[0]}
    figure = one(everything, kind="heatmap", x="channels", where=where)
    (axis,) = shown(figure)
    cells = [text.get_text() for text in axis.texts]
    own = filters.where(everything, {**where, "metric": "latency_ratio", "channels": 48}, "test").set_index("variant")
    for variant in ("ph n=2", "ph n=4"):
        row = own.loc[variant]
        text = f"{1 / row['value']:.2f}"
        assert (f"({text})" if row["lo"] <= 1 <= row["hi"] else text) in cells
    assert "oom" in cells
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ph n=2", "ph n=4", "quaternion", "ph n=16"]


def test_few_variants_share_a_map_with_what_else_was_varied():
    df = made(9 * 2 * 40, (("real", 1), ("ph", 4)), subject=("conv2d",), phase=("infer",), batch=(1, 32), size=(16, 4),
              dtype=("float32",), threads=(2,), channels=(8, 16), failures=False, **ONE_MACHINE)  # fmt: skip
    figure = one(df, kind="heatmap", x="channels")
    assert [axis.get_title() for axis in shown(figure)] == ["conv2d, infer, batch 1", "conv2d, infer, batch 32"]
    assert [label.get_text() for label in shown(figure)[0].get_yticklabels()] == ["ph n=4, size 4", "ph n=4, size 16"]


def test_machines_are_compared_over_the_groups_that_they_share(everything):
    df = everything[(everything["subject"] == "conv2d") & (everything["phase"] == "infer")]
    figure = one(df, kind="machines")
    (axis,) = shown(figure)
    assert {c.get_label() for c in axis.containers} == {"cpu-made-8c", "cuda-made-b"}
    own = df[
        (df["metric"] == "latency_ratio")
        & (df["status"] == "ok")
        & (df["env_id"] == ENVS[0])
        & (df["variant"] == "ph n=4")
    ]
    shared = own[own["channels"] < 1536]  # where ph n=16 failed there is nothing to compare
    mean = float(np.exp(np.log(shared["value"].astype(float)).mean()))
    first = next(c for c in axis.containers if c.get_label() == "cpu-made-8c")
    assert mean in [pytest.approx(x) for x in first.lines[0].get_xdata()]


def test_a_roofline_never_lies_above_its_roof(everything):
    for axis in shown(one(everything, kind="roofline", where={"subject": "conv2d"})):
        for line in axis.lines:
            if line.get_linestyle() == "None":
                reached, intensity = line.get_ydata(), line.get_xdata()
                assert (reached <= np.minimum(91, intensity * 24) * 1.001).all()
        assert any("GB/s" in text.get_text() for text in axis.texts)


def test_paths_stand_in_one_order_beside_each_other(everything):
    (axis,) = shown(one(everything, kind="paths", where={"subject": "linear"}))
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        "kron",
        "dense",
        "factored",
        "bilinear",
        "tuned",
    ]


def test_learning_curves_are_means_over_seeds(everything):
    (axis,) = shown(one(everything, kind="learning", scale="linear"))
    real = next(line for line in axis.lines if line.get_label() == "real")
    rows = everything[(everything["metric"] == "train_loss") & (everything["variant"] == "real")]
    losses = [json.loads(text)["losses"] for text in rows["details"]]
    assert real.get_ydata() == pytest.approx(np.mean(losses, axis=0))
    assert "5 seeds" in axis.get_title()


def test_curves_on_a_logarithmic_axis_are_geometric_means_whose_bands_stay_above_zero(everything):
    df = everything[(everything["data"] != "none") & (everything["variant"] == "real")]
    losses = {seed: [10.0 ** (seed - epoch) for epoch in range(6)] for seed in df["seed"].unique()}
    df = df.assign(details=[json.dumps({"losses": losses[seed]}) for seed in df["seed"]])
    (axis,) = shown(one(df, kind="learning"))
    assert axis.get_yscale() == "log"
    assert axis.lines[0].get_ydata() == pytest.approx(gmean(list(losses.values())))
    (band,) = axis.collections
    assert (band.get_paths()[0].vertices[:, 1] > 0).all()


def test_a_learning_curve_shows_whatever_was_validated_in_whichever_row_holds_it(everything):
    df = trained()
    curve = [
        {"epoch": e + 1, "train_loss": 2 / (e + 1), "val_loss": 2.5 / (e + 1), "val_accuracy": 0.9, "lr": 0.1}
        for e in range(4)
    ]
    held = df["metric"] == "params"
    df["details"] = df["details"].where(~held, json.dumps({"curve": curve})).where(held, "{}")
    labels = [axis.get_ylabel() for axis in shown(one(df, kind="learning"))]
    assert labels == ["training loss", "validation loss", "validation accuracy (%)"]
    (axis,) = shown(one(df, kind="learning", metrics=["val_loss"]))
    assert axis.lines[0].get_ydata() == pytest.approx([2.5, 1.25, 2.5 / 3, 0.625])


def test_whatever_varies_has_a_panel_of_its_own():
    df = made(3000, FEW, subject=("linear",), phase=("infer",), batch=(1,), size=(8,), threads=(1, 2), **ONE_MACHINE)
    titles = [axis.get_title() for axis in shown(one(df, kind="against", metrics=["latency_ratio"], x="n"))]
    assert len(titles) == len(set(titles)) == 4
    assert all(("float32" in t or "bfloat16" in t) and "threads" in t for t in titles)


def test_what_does_not_fit_on_a_page_is_a_figure_a_subject_and_old_pages_go(everything, tmp_path):
    df = made(12000, FEW, dtype=("float32",), threads=(2,), size=(8,), **ONE_MACHINE)
    spec = Spec(name="time", kind="against", metrics=["latency"], x="channels")
    many = figures.write(df, tmp_path, specs=[spec], formats=["png"])
    assert {path.name for path in many.paths} >= {"time_linear.png", "time_conv2d.png"}
    (tmp_path / "time_mine.png").write_bytes(b"a file of the user's")
    few = figures.write(df[(df["subject"] == "linear")], tmp_path, specs=[spec], formats=["png"])
    assert [path.name for path in few.paths] == ["time.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"time.png", "time_mine.png"}


def test_what_is_not_drawn_for_its_number_is_said():
    df = made(10_000, FEW)
    spec = Spec(name="time", kind="against", metrics=["latency"], x="channels", panels=2)
    done = figures._drawing(df, spec)
    assert len(done.panels) <= 8
    assert done.found > 8
