"""The tables of the published models, on counts made by hand."""

import json

import pandas as pd
import pytest

from bench.plan import expansion, sweep
from bench.report import paper, tables
from bench.report.paper import Published
from bench.report.summary import section
from bench.schedule.run import plan_lines
from bench.table import frames
from bench.table.records import derive
from phnn.registry import find

SWEEP = """
schema = 1
name = "s"
title = "s"
[[cases]]
subject = "resnet8"
metrics = ["params", "macs", "macs_dense", "macs_weight_build", "file_bytes"]
[cases.axes]
algebra = ["real", "ph"]
n = [2, 4]
path = "dense"
num_classes = [10, 20]
batch = 1
[[cases]]
subject = "resnet8"
metrics = ["macs"]
[cases.axes]
algebra = ["real", "ph"]
n = [2, 4]
path = ["factored", "bilinear"]
rank = "generic"
batch = 1
"""
PUBLISHED = (
    Published("ResNet8", "resnet8", "here", {"real": 1000, "ph n=2": 512}),
    Published("ResNet8", "resnet8", "there", {"ph n=4": 270, "ph n=8": 1}, form={"num_classes": 20}, why="twenty classes"),
)  # fmt: skip
PARAMS = {("real", 10): 1000, ("ph n=2", 10): 500, ("ph n=4", 10): 250, ("ph n=4", 20): 270}


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The table of a sweep whose counts are made up: params by variant and classes, macs by path."""
    monkeypatch.setattr(paper, "published", lambda: PUBLISHED)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    planned = expansion.expand(sweep.load(tmp_path / "sweep.toml"))
    rows = frames.of_records(derive(plan_lines(planned), [line_of(p.case, p.metrics) for p in planned]))
    return rows


def line_of(case, metrics):
    variant = "real" if case.algebra == "real" else f"ph n={case.n}"
    macs = {"none": 100, "dense": 100, "factored": 120, "bilinear": 60}[case.path]
    values = {"params": PARAMS.get((variant, case.axes["num_classes"]), 7), "macs": macs, "macs_dense": 100}
    values |= {"macs_weight_build": case.n, "file_bytes": 4096}
    found = {"case_id": case.id, "status": "ok", "reason": "", "path_built": case.path, "unsupported": {}}
    found |= {"details": {}, "seconds": [], "values": {name: values[name] for name in metrics}}
    return {
        "task_id": case.id, "chunk_id": case.id, "kind": "static", "repetition": 0, "siblings": 1, "results": [found],
        "env_id": "e", "code_rev": "c", "protocol_version": 1, "started": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


def test_a_difference_is_explained_by_a_count_of_the_published_form_or_not_at_all(counted):
    found = paper.comparison(counted).set_index("variant")
    assert list(found.index) == ["real", "ph n=2", "ph n=4"], "what was not counted has no row"
    assert found["difference"].to_dict() == {"real": 0, "ph n=2": 12, "ph n=4": 20}
    assert found["explained by"].to_dict() == {
        "real": "no difference",
        "ph n=2": "not explained: +12 remain",
        "ph n=4": "twenty classes",
    }
    assert found.loc["ph n=4", ["published", "ours", "ours in the published form"]].tolist() == [270, 250, 270]


def test_costs_have_a_row_a_net_with_every_path_beside(counted):
    found = paper.costs(counted)
    assert found[["model", "variant"]].value_counts().max() == 1
    row = found.set_index(["model", "variant"]).loc[("ResNet8", "ph n=4")]
    assert row.drop("rank").to_dict() == {
        "params": 250, "file_bytes": 4096, "macs_dense": 100, "macs_weight_build": 4, "macs_along_dense": 100,
        "macs_along_factored": 120, "macs_along_bilinear": 60,
    }  # fmt: skip
    assert row["rank"] == 7
    assert set(found["model"]) == {"ResNet8", "resnet8, num_classes=20"}


def test_tables_are_written_as_csv_with_sources_and_as_latex(counted, tmp_path):
    written = tables.write(paper.tables(counted), tmp_path)
    assert [path.name for path in written] == [
        f"{name}.{kind}" for name in ("published", "costs") for kind in ("md", "csv", "tex")
    ]
    back = pd.read_csv(tmp_path / "published.csv")
    assert back["published"].tolist() == [1000, 512, 270]
    assert set(back["source"]) == {"here", "there"}
    latex = (tmp_path / "published.tex").read_text()
    assert all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{llrrrrl}"))
    assert r"ResNet8 & real & 1,000 & 1,000 & 1,000 & 0 & no difference \\" in latex
    assert "_" not in latex.partition("begin{tabular}")[2].replace(r"\_", "")


def test_the_summary_gets_a_section_for_each_table(counted):
    assert [section(own).splitlines()[0] for own in paper.tables(counted)] == [
        "### Published parameter counts", "### Costs of the models"
    ]  # fmt: skip


def test_a_table_that_counts_no_published_form_is_no_comparison(counted):
    shapes = counted["shape"].map(json.loads)
    assert paper.comparison(counted[shapes.map(lambda shape: shape["num_classes"] == 10)]) is None
    assert paper.tables(counted[counted["metric"] == "macs"]) == []


def test_published_counts_name_models_axes_variants_and_sources_that_there_are():
    paper.published.cache_clear()
    seen = set()
    for entry in paper.published():
        spec = find(entry.subject)
        assert {*entry.axes, *entry.form} <= set(spec.shape), entry
        assert entry.source
        assert bool(entry.form) == bool(entry.why)
        for variant in entry.params:
            assert variant in ("real", "quaternion", "ph n=2", "ph n=3", "ph n=4")
            assert (entry.model, variant) not in seen, "counted twice"
            seen.add((entry.model, variant))
    assert len(seen) == 34
