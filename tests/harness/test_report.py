import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats as reference

from bench.plan import expansion, sweep
from bench.report import figures
from bench.report.figures import Spec
from bench.report.summary import summary
from bench.schedule.run import plan_lines
from bench.table import files, frames
from bench.table.records import COLUMNS, derive

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
            lines.append(
                {
                    **IDENTITY,
                    "task_id": kind + case.id,
                    "chunk_id": kind + case.id,
                    "repetition": 0,
                    "kind": kind,
                    "siblings": 1,
                    "results": [result],
                }
            )
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
            lines.append(
                {
                    **IDENTITY,
                    "task_id": task_id,
                    "chunk_id": group,
                    "repetition": process,
                    "kind": "timing",
                    "siblings": 3,
                    "results": results,
                }
            )
    return lines


@pytest.fixture(scope="module")
def quick():
    loaded = sweep.load(next(p for p in sweep.own_sweeps() if p.stem == "quick"))
    planned = expansion.expand(loaded)
    return frames.of_records(derive(plan_lines(planned), finished(planned)))


def test_csv_and_parquet_hold_the_same_rows(quick, tmp_path):
    csv, parquet = files.write(quick, tmp_path)
    back = pd.read_parquet(parquet)
    assert list(back.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(back, quick)
    text = pd.read_csv(csv)
    assert len(text) == len(quick)
    assert text["value"].to_numpy() == pytest.approx(quick["value"].astype(float).to_numpy(), nan_ok=True)


def test_the_summary_has_a_row_for_each_variant_and_names_failures(quick):
    text = summary(quick)
    assert "| 128 | ph n=4 |" in text
    assert "| slim real (ph n=4) |" in text
    assert "92.0 ± 2.0" in text, "mean and Student's t interval over seeds 0 to 4, in per cent"
    assert "Not measured" not in text
    broken = quick.copy()
    broken.loc[broken["metric"] == "params", ["status", "reason"]] = ["oom", "out of memory"]
    assert "**oom** (out of memory)" in summary(broken)


def expanded(tmp_path, cases):
    path = tmp_path / "sweep.toml"
    path.write_text(f'schema = 1\nname = "s"\ntitle = "s"\n{cases}')
    planned = expansion.expand(sweep.load(path))
    return frames.of_records(derive(plan_lines(planned), finished(planned)))


LAYERS = """[[cases]]
subject = "linear"
metrics = ["params", "latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "ph"]
n = [2, 4]
channels = [8, 16]
dtype = ["float32", "bfloat16"]
threads = [1, 2]
"""


def test_whatever_varies_is_told_apart_in_the_summary(tmp_path):
    df = expanded(tmp_path, LAYERS)
    lines = [line for line in summary(df).splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + df["case_id"].nunique(), "a row for each case, and the head"
    assert len(set(lines)) == len(lines)


TRAINED = """[[cases]]
subject = "resnet8"
metrics = ["accuracy", "params"]
controls = ["slim"]
[cases.axes]
algebra = ["real", "ph"]
n = 2
path = ["auto", "kron"]
width_scale = [0.5, 1]
data = "digits"
seed = [0, 1, 2]
"""


def test_seeds_are_the_only_thing_that_is_averaged(tmp_path):
    df = expanded(tmp_path, TRAINED)
    rows = [line.split(" | ") for line in summary(df).splitlines() if line.startswith(("| 0.5 |", "| 1 |"))]
    assert len(rows) == 2 * (1 + 2 + 1), "two widths of: real, ph on two paths, and the slim control that they share"
    assert {row[-3] for row in rows} == {"3"}, "three seeds in each"


def test_accuracies_are_compared_seed_by_seed(tmp_path):
    """Seeds differ by a point each, PH is half a point worse in every one: the paired interval has no width."""
    df = expanded(tmp_path, TRAINED.replace(', "kron"', "").replace("0.5, ", ""))
    worse = (df["metric"] == "accuracy") & (df["algebra"] == "ph")
    df.loc[worse, "value"] = df.loc[worse, "value"] - 0.005
    (row,) = [line for line in summary(df).splitlines() if line.startswith("| ph n=2")]
    assert row.count("-0.5 ± 0 (p = ") == 2, "against the real net, and against its slim control"


NETS = """[[cases]]
subject = "resnet8"
metrics = ["params"]
[cases.axes]
algebra = ["real", "ph"]
n = 2
num_classes = [10, 20]
width_scale = 1
"""


def test_shapes_are_told_apart_by_the_axes_in_which_they_differ(tmp_path):
    lines = [line for line in summary(expanded(tmp_path, NETS)).splitlines() if line.startswith("| ")]
    assert lines[0].startswith("| shape | variant |")
    assert sorted(line.split(" | ")[0] for line in lines[1:]) == ["| num_classes=10"] * 2 + ["| num_classes=20"] * 2


def test_the_own_sweep_of_layers_is_drawn_on_pages(tmp_path):
    """Fourteen variants of a group: every learned rule has a line of its own looks."""
    loaded = sweep.load(next(p for p in sweep.own_sweeps() if p.stem == "layers"))
    planned = [p for p in expansion.expand(loaded) if p.case.subject == "conv2d"]
    df = frames.of_records(derive(plan_lines(planned), finished(planned)))
    spec = Spec(name="time", kind="against", metrics=["latency"], x="channels", where={"phase": "infer", "batch": 1})
    ((_, figure),) = figures.draw(df, spec)
    axis = next(a for a in figure.axes if a.get_visible())
    lines = [bars.lines[0] for bars in axis.containers]
    looks = {
        (line.get_color(), line.get_marker(), line.get_fillstyle(), str(line._unscaled_dash_pattern))
        for line in lines
    }
    assert len(looks) == len(lines) == 14
    plt.close(figure)


def test_a_ratio_stands_beside_its_verdict_and_the_margin_is_stated(tmp_path):
    text = summary(expanded(tmp_path, LAYERS))
    head = next(line for line in text.splitlines() if line.startswith("| "))
    assert head.endswith("| latency ratio | verdict |")
    assert next(line for line in text.splitlines() if "| ph n=2 |" in line).endswith("| SAME |")
    assert next(line for line in text.splitlines() if "| real |" in line).endswith("| 1 |  |")
    assert "a difference of more than 1 % from the real layer" in text


def test_the_mean_over_groups_leaves_out_what_a_variant_lacks_and_says_so(tmp_path):
    df = expanded(tmp_path, LAYERS.replace(', "bfloat16"', "").replace("threads = [1, 2]", "threads = 1"))
    ratio = df["metric"] == "latency_ratio"
    df.loc[ratio & (df["variant"] == "ph n=2"), "value"] = 2.0
    assert "over 2 groups that have all variants: ph n=2 2, ph n=4 1." in summary(df)
    failed = ratio & (df["variant"] == "ph n=4") & (df["channels"] == 16)
    df.loc[failed, ["status", "reason"]] = ["oom", "out of memory"]
    assert "over 1 group that has all variants: ph n=2 2, ph n=4 1. Left out: channels 16 (no ph n=4)." in (
        summary(df)
    )
    df.loc[ratio & (df["variant"] == "ph n=2") & (df["channels"] == 8), ["status", "reason"]] = ["oom", "no memory"]
    assert "No group has all variants" in summary(df)


def test_p_values_of_a_table_are_adjusted_for_their_number(tmp_path):
    df = expanded(tmp_path, TRAINED.replace(', "kron"', "").replace("0.5, ", ""))
    differs = (df["metric"] == "accuracy") & (df["algebra"] == "ph")
    df.loc[differs, "value"] = df.loc[differs, "value"] + pd.Series([0.01, 0.02, 0.04], df.index[differs])
    text = summary(df)
    (row,) = [line for line in text.splitlines() if line.startswith("| ph n=2")]
    real = reference.ttest_1samp([0.01, 0.02, 0.04], 0).pvalue
    assert row.count(f"(p = {3 * real:.2g}, can't tell)") == 2, (
        "to the real net and to the slim one; the slim one's own is the third"
    )
    assert "adjusted by Holm for the 3 comparisons" in text
