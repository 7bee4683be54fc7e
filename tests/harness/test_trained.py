"""What is made of trainings: the table of comparisons, learning curves, Pareto fronts. Figures are typed, not trained."""

import json
import math

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats as reference

from bench import stats
from bench.report import curves, figures, pareto, style
from bench.report.summary import summary
from bench.table import frames
from bench.table.records import COLUMNS

RECIPE = json.dumps({"epochs": 3, "start": "random"})


def row(variant, seed, metric, value, **columns):
    algebra = "ph" if variant.startswith("ph") else "real"
    slim = variant.startswith("slim")
    identity = f"{variant}-{seed}"
    base = {
        "subject": "resnet8", "twin": "", "kind": "model", "variant": variant, "algebra": algebra, "n": 4,
        "shape": '{"batch": 64, "size": 8}', "batch": 64, "seed": seed, "phase": "none", "path": "none",
        "rank": 0, "threads": 0, "control": "slim:ph n=4-" + str(seed) if slim else "none", "data": "digits",
        "recipe": RECIPE, "metric": metric, "unit": "1", "value": value, "status": "ok", "reason": "",
        "baseline_id": f"real-{seed}", "details": "{}", "case_id": identity, "group_id": f"g{seed}",
        "env_id": "e", "code_rev": "c",
    }  # fmt: skip
    return dict.fromkeys(COLUMNS) | base | columns


def frame(rows):
    return frames.of_records([{column: r.get(column) for column in COLUMNS} for r in rows])


def accuracies(by_variant, details=None, metric="accuracy", **columns):
    rows = []
    for variant, values in by_variant.items():
        for seed, value in enumerate(values):
            more = {"details": json.dumps(details or {}), **columns}
            rows.append(row(variant, seed, metric, value, **more))
            rows.append(row(variant, seed, "params", {"real": 80e3}.get(variant, 20e3), **more))
    return frame(rows)


REAL, PH, SLIM = [0.98, 0.97, 0.99, 0.98], [0.975, 0.972, 0.985, 0.98], [0.90, 0.91, 0.92, 0.90]


def line(text, variant):
    return next(part for part in text.splitlines() if part.startswith(f"| {variant} |"))


def test_a_variant_is_held_against_the_real_and_the_slim_real_net_with_a_verdict():
    text = summary(accuracies({"real": REAL, "ph n=4": PH, "slim real (ph n=4)": SLIM}))
    p = [reference.ttest_rel(a, b).pvalue for a, b in ((PH, REAL), (PH, SLIM), (SLIM, REAL))]
    adjusted = stats.holm(p)
    assert f"(p = {adjusted[0]:.2g}, can't tell) |" in line(text, "ph n=4")
    assert f"(p = {adjusted[1]:.2g}, better) |" in line(text, "ph n=4")
    assert f"(p = {adjusted[2]:.2g}, worse) |" in line(text, "slim real (ph n=4)")
    assert "adjusted by Holm for the 3 comparisons" in text
    assert "better and worse are said below p = 0.05" in text


def test_less_is_better_where_the_metric_says_so():
    text = summary(accuracies({"real": SLIM, "ph n=4": PH}, metric="error_rate"))
    assert "worse)" in line(text, "ph n=4")
    assert "points" not in text


def test_a_pair_that_lacks_its_control_is_left_out():
    df = accuracies({"real": REAL, "ph n=4": PH})
    df = df[~((df["variant"] == "real") & (df["seed"] == 2))]
    p = reference.ttest_rel([PH[i] for i in (0, 1, 3)], [REAL[i] for i in (0, 1, 3)]).pvalue
    assert f"p = {p:.2g}" in line(summary(df), "ph n=4")


def test_repeated_splits_of_one_data_set_are_tested_with_their_larger_variance():
    details = {"counts": {"train": 100, "val": 20, "test": 50}, "resampled": True}
    text = summary(accuracies({"real": REAL, "ph n=4": PH, "slim real (ph n=4)": SLIM}, details))
    _, p = stats.resampled_difference(PH, REAL, 0.5)
    plain = stats.paired_difference(PH, REAL)[1]
    assert p > plain
    assert f"p = {min(1, p):.2g}" in line(text, "ph n=4")
    assert "Nadeau and Bengio 2003" in text


def test_the_corrected_test_is_the_published_formula():
    """t = mean / sqrt((1/R + n_test/n_train) s²), R - 1 degrees of freedom."""
    d = [0.01, 0.03, -0.01, 0.02, 0.02]
    mean, s = sum(d) / 5, pd.Series(d).std()
    t = mean / math.sqrt((1 / 5 + 0.25) * s**2)
    interval, p = stats.resampled_difference(d, [0.0] * 5, 0.25)
    assert p == pytest.approx(2 * reference.t.sf(t, 4))
    assert interval.hi - mean == pytest.approx(reference.t.ppf(0.975, 4) * math.sqrt(0.2 + 0.25) * s)
    plain, same = stats.paired_difference(d, [0.0] * 5), stats.resampled_difference(d, [0.0] * 5, 0.0)
    assert (same[0].lo, same[1]) == pytest.approx((plain[0].lo, plain[1]))
    assert stats.resampled_difference([0.5, 0.5], [0.5, 0.5], 0.3)[1] == 1.0


def test_magnitudes_are_compared_by_their_ratio():
    text = summary(accuracies({"real": [1e-2, 2e-2, 1e-2], "ph n=4": [1e-4, 2e-4, 1.1e-4]}, metric="mse"))
    cell = line(text, "ph n=4")
    assert "**1.3e-04 [" in cell, "better than the only other one"
    assert "better)" in cell
    assert "/ real" in text
    text = summary(accuracies({"quaternion": [0.0, 0.0], "ph n=4": [1e-4, 2e-4]}, metric="rule_distance"))
    assert "at most 0.0e+00" in text


def test_learning_rates_that_were_found_are_shown_and_edges_are_named():
    found = accuracies({"real": REAL, "ph n=4": PH}, {"lr": 0.3, "lr_at_edge": True})
    text = summary(found)
    assert "| 0.3 ×4 |" in line(text, "real")
    assert "a better one may lie beyond: real 4×, ph n=4 4×" in text


def test_a_converted_net_says_how_many_parameters_went():
    text = summary(accuracies({"real": REAL, "ph n=4": PH}, {"params_removed": 0.74}))
    assert "20,000 (-74 %)" in line(text, "ph n=4")


# ------------------------------------------------------------------------------------------------- curves

CURVE = [
    {"epoch": 1, "train_loss": 2.0, "val_accuracy": 0.5, "seconds": 1.0, "peak_rss_bytes": 5e8},
    {"epoch": 2, "train_loss": 1.0, "val_accuracy": 0.7, "seconds": 2.1, "peak_rss_bytes": 6e8},
]


def test_curves_are_records_with_units():
    df = frame(
        [row("real", 0, "train_loss", 1.0, details=json.dumps({"curve": CURVE})), row("real", 0, "params", 5.0)]
    )
    found = curves.frame(df)
    assert list(found.columns) == list(curves.COLUMNS)
    assert len(found) == 2 * 4
    last = found[(found["epoch"] == 2) & (found["metric"] == "val_accuracy")]
    assert last["value"].item() == 0.7
    assert set(found[found["metric"] == "seconds"]["unit"]) == {"s"}
    assert set(found[found["metric"] == "peak_rss_bytes"]["unit"]) == {"B"}


def test_a_conversion_has_two_stages():
    details = json.dumps({"curve_before": CURVE, "curve": CURVE[:1]})
    found = curves.frame(frame([row("ph n=4", 0, "train_loss", 1.0, details=details)]))
    assert found.groupby("stage")["epoch"].max().to_dict() == {"train": 2, "finetune": 1}


def test_without_trainings_there_is_no_file_of_curves(tmp_path):
    df = frame([row("real", 0, "params", 5.0, data="none")])
    assert curves.write(df, tmp_path) == pareto.write(df, tmp_path) == []
    assert figures.draw(df, PARETO) == []


# ------------------------------------------------------------------------------------------------- Pareto


PARETO = figures.Spec(name="fronts", kind="pareto")


def point(cost, value):
    return pareto.Point("v", "real", 1, cost, value, value, value)


@pytest.mark.parametrize(
    ("points", "higher", "front"),
    [
        ([(1, 0.9), (2, 0.8), (3, 0.95)], True, [True, False, True]),
        ([(1, 0.9), (2, 0.8), (3, 0.95)], False, [True, True, False]),
        ([(1, 0.9), (1, 0.9)], True, [True, True]),  # equals do not beat each other
        ([(1, 0.8), (1, 0.9)], True, [False, True]),
        ([(2, 0.9)], True, [True]),
    ],
)
def test_what_nothing_else_beats_in_both_is_on_the_front(points, higher, front):
    assert pareto.on_front([point(*p) for p in points], higher) == front


def with_costs():
    """Trainings with 64 a batch, and the same nets timed and counted with 8 a batch."""
    trained = accuracies({"real": REAL, "ph n=4": PH, "slim real (ph n=4)": SLIM})
    measured = {"shape": '{"batch": 8, "size": 8}', "batch": 8, "data": "none", "recipe": "{}", "phase": "infer"}
    costs = {"real": (1e-3, 9e6, 5e5), "ph n=4": (1.2e-3, 9.1e6, 4e5), "slim real (ph n=4)": (5e-4, 2e6, 2e5)}
    rows = [
        row(variant, None, metric, value, case_id=f"timed {variant}", **measured)
        for variant, values in costs.items()
        for metric, value in zip(("latency", "macs", "peak_bytes"), values, strict=True)
    ]
    return pd.concat([trained, frame(rows)], ignore_index=True)


def test_accuracy_meets_the_costs_of_the_same_net_measured_by_itself():
    found = pareto.fronts(with_costs())
    assert set(found["cost"]) == {"params", "macs", "latency", "peak_bytes"}
    fronts = {cost: set(own[own["on_front"]]["variant"]) for cost, own in found.groupby("cost")}
    assert fronts["params"] == {"real", "ph n=4"}, "the slim net has as many parameters as PH, and is worse"
    assert fronts["latency"] == {"real", "slim real (ph n=4)"}, "PH is slower than the real net, and no better"
    assert found[(found["variant"] == "real") & (found["cost"] == "latency")]["cost_value"].item() == 1e-3


def test_the_figure_has_a_panel_for_each_cost_and_fits_a_page():
    ((_, figure),) = figures.draw(with_costs(), PARETO)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    labels = [axis.get_xlabel() for axis in shown]
    assert labels == ["parameters (thousands)", "multiply-adds (M MAC)", "latency (ms)", "peak memory (KiB)"]
    assert figure.get_size_inches()[0] == style.PAGE
    pale = {c.get_label() for c in shown[2].containers if c.lines[0].get_alpha() < 1}
    assert pale == {"ph n=4"}, "slower than the real net and no better"
    plt.close(figure)


def test_a_converted_net_is_no_point_of_the_front():
    df = accuracies({"real": REAL, "ph n=4": PH}, recipe=json.dumps({"start": "project"}))
    assert pareto.fronts(df).empty


def test_the_table_of_fronts_is_written(tmp_path):
    (path,) = pareto.write(with_costs(), tmp_path)
    back = pd.read_csv(path)
    assert len(back) == 3 * 4
    assert back["on_front"].dtype == bool
