"""Another package's layer and model in this project's sweeps: installed by pip, listed, measured, measured again."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLE = Path(__file__).parents[1] / "plugin_example"
ROOT = EXAMPLE.parents[1]

SWEEP = """
schema = 1
name = "plugins"
title = "a plug-in"
[protocol]
processes = 2
budget = 0.05
precision = 0.5
timeout = 240
[[cases]]
subject = "linear"
metrics = ["params", "macs", "latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "quaternion"]
channels = 16
batch = 2
[[cases]]
subject = "lowrank_linear"
metrics = ["params", "macs", "macs_dense", "macs_weight_build", "peak_bytes", "latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "quaternion"]
path = ["kron", "dense"]
channels = 16
batch = 2
inner = [2, 4]
[[cases]]
subject = "tiny_net"
metrics = ["params", "macs", "macs_dense"]
[cases.axes]
algebra = ["real", "quaternion"]
channels = 16
batch = 2
phase = "train_step"
"""


def python(*args, path=None):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, [*(path or []), ROOT]))}
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, env=env)


def package(folder, name, code, group, value):
    """A package as installed: a module and the metadata that names its entry point."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nmine = {value}\n")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which pip has installed the example, from a copy: a build writes beside its sources."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source")
    pip = ["-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--target"]
    done = python(*pip, folder / "site", source)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def ran(installed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "plugins.toml").write_text(SWEEP)
    done = python("-m", "bench", "run", folder / "plugins.toml", "--out", folder / "run", path=[installed])
    assert done.returncode == 0, done.stderr + done.stdout
    return folder, pd.read_csv(folder / "run" / "table.csv", keep_default_na=False)


def value(df, metric, **where):
    rows = df[df["metric"] == metric]
    for key, wanted in where.items():
        rows = rows[rows[key] == wanted]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def test_an_installed_package_is_listed_without_torch(installed):
    code = (
        "import sys, phnn; assert 'lowrank_linear' in phnn.list_layers(); assert 'tiny_net' in phnn.list_models();"
        "assert 'torch' not in sys.modules; print(phnn.create_layer('lowrank_linear', 8, 6, inner=2));"
        "print(phnn.create_model('tiny_net', channels=8, num_classes=2, inner=2, algebra='quaternion'))"
    )
    done = python("-W", "error", "-c", code, path=[installed])
    assert done.returncode == 0, done.stderr
    assert "LowRankLinear" in done.stdout
    assert "algebra='quaternion'" in done.stdout


def test_what_a_plug_in_does_not_take_collapses(ran, installed):
    done = python("-m", "bench", "list", ran[0] / "plugins.toml", path=[installed])
    names = [line.split()[1] for line in done.stdout.splitlines() if "lowrank" in line]
    assert names == [f"lowrank_linear/batch=2,channels=16,inner={i}/infer" for i in (2, 4)]


def test_a_plug_in_is_counted_and_compared_with_the_real_layer_of_its_shape(ran):
    _, df = ran
    assert set(df["status"]) == {"ok"}, df[["name", "status", "reason"]]
    for inner in (2, 4):
        own = {"subject": "lowrank_linear", "variant": f"lowrank_linear inner={inner}"}
        assert value(df, "params", **own)["value"] == 16 * inner * 2 + 16
        assert value(df, "macs", **own)["value"] == 2 * (16 * inner * 2)
        assert value(df, "macs_dense", **own)["value"] == 2 * 16 * 16
        ratio = value(df, "latency_ratio", **own)
        assert ratio["baseline_id"] == value(df, "latency", algebra="real", subject="linear")["case_id"]
        assert ratio["value"] > 0
        assert "aten" not in json.loads(value(df, "macs", **own)["details"])["macs_uncounted"]
    assert df[df["metric"] == "latency"]["group_id"].nunique() == 1


def test_a_model_of_phnns_layers_and_others_is_counted_by_both_costs(ran):
    counted = {a: value(ran[1], "macs", subject="tiny_net", algebra=a)["value"] for a in ("real", "quaternion")}
    assert counted == dict.fromkeys(counted, 2 * (16 * 16 + 16 * 4 + 4 * 10))
    assert (
        value(ran[1], "params", subject="tiny_net", algebra="quaternion")["value"] == 64 + 16 + 16 * 4 + 4 * 10 + 10
    )


def test_the_summary_shows_a_plug_in_beside_its_twin(ran):
    section = (ran[0] / "run" / "summary.md").read_text().split("### ")[1]
    assert section.startswith("linear, infer")
    assert all(f"| {name} |" in section for name in ("real", "quaternion", "lowrank_linear inner=2"))


def test_an_edited_plug_in_is_measured_again_and_nothing_else(ran, installed, tmp_path):
    folder = shutil.copytree(ran[0], tmp_path / "again")
    site = shutil.copytree(installed, tmp_path / "site")
    command = ["-m", "bench", "run", folder / "plugins.toml", "--out", folder / "run"]
    before = len((folder / "run" / "tasks.jsonl").read_text().splitlines())
    assert "0 measured now" in python(*command, path=[site]).stdout
    with (site / "phnn_lowrank" / "layers.py").open("a") as file:
        file.write("# edited\n")
    done = python(*command, path=[site])
    # static: two of the layer and two of the net; timing: two processes of the one chunk
    assert "2 tasks were done before and were not repeated; 6 measured now" in done.stdout, done.stdout + done.stderr
    assert len((folder / "run" / "tasks.jsonl").read_text().splitlines()) == before + 6


@pytest.mark.parametrize(
    ("code", "group", "why"),
    [
        ("import no_such_module", "phnn.layers", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("spec = 3", "phnn.layers", "TypeError: an entry point gives a phnn.registry.Spec or several, not 3"),
        ("def spec(): raise OSError('no disk')", "phnn.models", "OSError: no disk"),
        ("from phnn.registry import find; spec = find('linear')", "phnn.layers",
         "loses 'linear': a layer or model called 'linear' is registered already, by phnn: package broken 1.0 must"),
        ("from phnn.registry import find; spec = find('linear')", "phnn.models", "list it in the group phnn.layers"),
        ("from dataclasses import replace; from phnn.registry import find\n"
         "spec = replace(find('linear'), name='x', twin='lineal')", "phnn.layers", "its twin 'lineal' is no registered layer"),
        ("from dataclasses import replace; from phnn.registry import find\n"
         "spec = replace(find('linear'), name='x', twin='conv1d')", "phnn.layers", "its shape lacks size, kernel_size"),
    ],
)  # fmt: skip
def test_a_broken_plug_in_is_named_and_costs_nothing_else(tmp_path, installed, code, group, why):
    package(tmp_path, "broken", code, group, "broken:spec")
    code = "import phnn; assert {'linear', 'lowrank_linear'} <= set(phnn.list_layers()); phnn.list_layers()"
    done = python("-c", code, path=[tmp_path, installed])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("package broken 1.0") <= 2, "said once"
    assert why in done.stderr
    assert "plug-in 'mine' of package broken 1.0" in done.stderr


def test_of_two_packages_that_claim_a_name_both_are_named(tmp_path):
    code = (
        "from dataclasses import replace; from phnn.registry import find; spec = replace(find('linear'), name='mine')"
    )
    for name in ("second", "first"):
        package(tmp_path, name, code, "phnn.layers", f"{name}:spec")
    done = python("-c", "import phnn; from phnn.registry import origin; print(origin('mine'))", path=[tmp_path])
    assert "Origin(package='package first 1.0', module='first')" in done.stdout
    assert "'mine' is registered already, by package first 1.0: package second 1.0 must choose another" in done.stderr


def test_the_command_line_says_in_one_line_what_is_left_out_and_why_a_name_lacks(tmp_path):
    package(tmp_path, "broken", "import no_such_module", "phnn.layers", "broken:spec")
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(SWEEP.split('[[cases]]\nsubject = "lowrank')[0])
    done = python("-m", "bench", "list", sweep, path=[tmp_path])
    assert done.returncode == 0
    assert done.stderr.splitlines()[0].startswith(
        "bench: plug-in 'mine' of package broken 1.0 is left out: ModuleNot"
    )
    sweep.write_text(SWEEP)
    done = python("-m", "bench", "list", sweep, path=[tmp_path])
    assert done.returncode == 2
    assert "unknown subject 'lowrank_linear'" in done.stderr.splitlines()[-1]
    assert "package broken 1.0 is left out" in done.stderr.splitlines()[-1]


def test_an_axis_that_bears_the_name_of_a_factor_is_refused(tmp_path):
    code = (
        "from dataclasses import replace; from phnn.registry import find\n"
        "linear = find('linear'); spec = replace(linear, name='mine', shape={**linear.shape, 'rank': 3})"
    )
    package(tmp_path, "clash", code, "phnn.layers", "clash:spec")
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(SWEEP.split('[[cases]]\nsubject = "lowrank')[0].replace('"linear"', '"mine"'))
    done = python("-m", "bench", "list", sweep, path=[tmp_path])
    assert done.returncode == 2
    assert "'mine' of package clash 1.0 has an axis rank, the name of a factor" in done.stderr


# ------------------------------------------------------------------------------------------------ the page about it

PAGE = ROOT / "docs" / "add-your-own.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_page_shows_the_example_as_it_is():
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(shown) == 4
    for name, text in shown:
        assert text == (EXAMPLE / name).read_text(encoding="utf-8"), name


def test_the_code_of_the_page_runs(installed, tmp_path):
    code = "__package__ = 'phnn_lowrank'\n" + "\n".join(blocks("python"))
    (tmp_path / "page.py").write_text(code)
    assert code.count("assert") >= 4
    for path in ([installed], [EXAMPLE / "src"]):  # as a plug-in, and by hand before it is one
        done = python(tmp_path / "page.py", path=path)
        assert done.returncode == 0, done.stderr


def test_the_sweep_of_the_page_has_its_cases_in_one_group(installed, tmp_path):
    (text,) = (block for block in blocks("toml") if "[[cases]]" in block)
    (tmp_path / "page.toml").write_text('schema = 1\nname = "page"\ntitle = "page"\n' + text)
    code = (
        "import sys; from pathlib import Path; from bench.plan.expansion import expand; from bench.plan.sweep import load\n"
        "planned = expand(load(Path(sys.argv[1])))\n"
        "assert len(planned) == 4 and not any(p.skipped for p in planned)\n"
        "assert len({p.case.group_id for p in planned}) == 1\n"
    )
    done = python("-c", code, tmp_path / "page.toml", path=[installed])
    assert done.returncode == 0, done.stderr
