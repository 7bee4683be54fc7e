import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from bench import sweep
from bench.records import COLUMNS, derive
from bench.report import figures, style, table
from bench.run import plan_lines

IDENTITY = {"env_id": "e", "code_rev": "c", "protocol_version": 1, "started": "2026-01-01T00:00:00+00:00"}


def finished(planned):
    """A task for every case of a plan: times that grow with the width, accuracies that depend on the seed."""
    lines = []
    for p in planned:
        case, shape = p.case, dict(p.case.shape)
        width = shape.get("channels", 64)
        values = dict.fromkeys(p.metrics, 10.0 * width / case.n) | {"accuracy": 0.9 + case.seed / 100}
        common = {
            "case_id": case.id,
            "status": "ok",
            "reason": "",
            "path_built": "dense",
            "unsupported": {},
            "details": {},
        }
        for kind in ("static", "training"):
            result = {**common, "values": values, "seconds": []}
            lines.append({**IDENTITY, "task_id": kind + case.id, "kind": kind, "siblings": 1, "results": [result]})
    groups = {p.case.group_id for p in planned}
    for group in groups:
        cases = [p.case for p in planned if p.case.group_id == group]
        for process in range(3):
            results = [
                {"case_id": c.id, "status": "ok", "reason": "", "path_built": "dense", "unsupported": {}, "details": {},
                 "values": {}, "seconds": [1e-5 * dict(c.shape).get("channels", 9) * (1 + process / 50)] * 8}
                for c in cases
            ]  # fmt: skip
            task_id = f"timing{group}{process}"
            lines.append({**IDENTITY, "task_id": task_id, "kind": "timing", "siblings": 3, "results": results})
    return lines


@pytest.fixture(scope="module")
def quick():
    loaded = sweep.load(next(p for p in sweep.own_sweeps() if p.stem == "quick"))
    planned = sweep.expand(loaded)
    return table.frame(derive(plan_lines(planned), finished(planned)))


def test_csv_and_parquet_hold_the_same_rows(quick, tmp_path):
    csv, parquet = table.write(quick, tmp_path)
    back = pd.read_parquet(parquet)
    assert list(back.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(back, quick)
    text = pd.read_csv(csv)
    assert len(text) == len(quick)
    assert text["value"].to_numpy() == pytest.approx(quick["value"].astype(float).to_numpy(), nan_ok=True)


def test_every_figure_is_drawn_and_written_twice(quick, tmp_path):
    written = figures.write(quick, tmp_path)
    assert {p.stem for p in written} == set(figures.FIGURES)
    assert {p.suffix for p in written} == {".pdf", ".png"}
    for path in written:
        head = path.read_bytes()[:8]
        assert head.startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_fit_a_column_or_a_page_and_nothing_is_cut_off(quick, name):
    style.apply()
    figure = figures.FIGURES[name](quick)
    width = figure.get_size_inches()[0]
    assert width in (style.COLUMN, style.PAGE)
    figure.canvas.draw()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.01
    assert box.x1 <= width + 0.01
    legend = figure.legends[0].get_window_extent()
    for axis in (a for a in figure.axes if a.get_visible()):
        assert not legend.overlaps(axis.get_tightbbox()), "the legend lies over a panel"
        assert axis.get_xlabel()
        assert axis.get_ylabel()
    sizes = [t.get_fontsize() for t in figure.findobj(mpl.text.Text) if t.get_text()]
    assert min(sizes) >= 6
    plt.close(figure)


def test_fonts_are_embedded_as_truetype(quick, tmp_path):
    path = next(p for p in figures.write(quick, tmp_path) if p.suffix == ".pdf")
    assert b"/Type3" not in path.read_bytes()


def test_the_same_table_gives_the_same_pdf(quick, tmp_path):
    first, second = (figures.write(quick, tmp_path / name) for name in "ab")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_an_algebra_keeps_its_colour_and_marker():
    colours, markers = style.looks(["ph", "real", "tessarine"])
    assert colours["ph"] == style.looks(["ph"])[0]["ph"]
    assert len(set(colours.values())) == len(set(markers.values())) == 3


def test_a_table_without_numbers_draws_nothing(quick, tmp_path):
    failed = quick.assign(status="crashed", value=pd.array([pd.NA] * len(quick), dtype="Float64"))
    assert figures.write(failed, tmp_path) == []
    assert "crashed" in table.summary(failed)


def test_the_summary_has_a_row_for_each_variant_and_names_failures(quick):
    text = table.summary(quick)
    assert "| 8 | 128 | ph n=4 | auto |" in text
    assert "| slim real (ph n=4) |" in text
    assert "92.0 ± 2.0" in text, "mean and Student's t interval over seeds 0 to 4, in per cent"
    assert "Not measured" not in text
    broken = quick.copy()
    broken.loc[broken["metric"] == "params", ["status", "reason"]] = ["oom", "out of memory"]
    assert "**oom** (out of memory)" in table.summary(broken)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1.5e-3, "s", "1.5 ms"), (2.0, "s", "2 s"), (3e-9, "s", "0.003 µs"), (1536, "B", "1.5 KiB"), (512, "B", "0.5 KiB"),
     (1_500_000, "MAC", "1.5 M"), (0, "MAC", "0"), (2e-7, "1", "2.0e-07"), (0.5, "1", "0.5")],
)  # fmt: skip
def test_numbers_are_written_for_people(value, unit, text):
    assert table._text(value, unit) == text


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (1.2345, 0.0012, "1.234 ± 0.001"),
        (1.2345, 0.02, "1.23 ± 0.02"),
        (98.7, 1.25, "98.7 ± 1.2"),
        (0.5, float("nan"), "0.5"),
    ],
)
def test_digits_are_those_that_the_interval_supports(value, half, text):
    assert table._plus_minus(value, half) == text
