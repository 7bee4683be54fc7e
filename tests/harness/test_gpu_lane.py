"""The way to a GPU: the sweep's order, the goals of make, and the wheels for a machine without a registry."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from bench.metrics import METRICS
from bench.plan import expansion
from bench.plan import sweep as sweeps
from bench.plan.case import tasks
from phnn.registry import find

ROOT = Path(__file__).parents[2]
GPU = ROOT / "bench" / "sweeps" / "gpu.toml"


@pytest.fixture(scope="module")
def wheels():
    spec = importlib.util.spec_from_file_location("wheels", ROOT / "tools" / "wheels.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --------------------------------------------------------------------------------------------------- the sweep


@pytest.fixture(scope="module")
def planned():
    return expansion.expand(sweeps.load(GPU))


def test_every_case_of_the_gpu_sweep_can_be_run_on_a_gpu(planned):
    assert [p.case.name for p in planned if p.skipped] == []


def test_whatever_is_timed_for_a_ratio_has_the_real_layer_beside_it(planned):
    grouped = {p.case.group_id for p in planned if p.case.is_baseline}
    assert all(p.case.group_id in grouped for p in planned if "latency_ratio" in p.metrics)


def test_the_sweep_varies_all_that_only_a_gpu_shows(planned):
    """The issue's list: precision, compile, timers, groups, widths, batches, memory."""
    cases = [p.case for p in planned]
    assert {"float32", "bfloat16", "float16"} <= {c.dtype for c in cases}
    assert {"none", "tf32", "amp_bf16", "amp_fp16"} <= {c.precision for c in cases}
    assert {"none", "default", "max-autotune"} <= {c.compile for c in cases}
    assert {"host_warm", "host_cold", "device_warm", "device_cold", "graph"} <= {c.timer for c in cases}
    assert {"none", "kron", "dense", "factored", "bilinear", "tuned", "auto"} <= {c.path for c in cases}
    assert {7, 8, 14, 24, 28} <= {c.axes.get("groups") for c in cases if c.algebra == "real"}
    assert {1, 2, 4, 8} <= {c.axes["batch"] for c in cases if c.path == "factored"}
    assert {"energy", "efficiency", "largest_batch", "peak_bytes", "compile_time"} <= {
        metric for p in planned for metric in p.metrics
    }


def test_what_is_measured_first_is_what_fits_into_eight_minutes():
    """At 10 s a timing task, 2 s a static one and what energy and the search for a batch take."""
    sweep = sweeps.load(GPU)
    seconds = []
    for entry in sweep.cases:
        only = expansion.expand(sweep.model_copy(update={"cases": [entry]}))
        made = tasks(only, sweep.protocol.processes, {name: metric.task for name, metric in METRICS.items()})
        extra = {"energy": lambda task: 2.3 * len(task.cases), "largest_batch": lambda task: 15}
        seconds.append(
            sum(
                (10 if task.kind == "timing" else 2)
                + sum(cost(task) for m, cost in extra.items() if m in task.metrics)
                for task in made
            )
        )
    head = GPU.read_text().split("# =====")[0].count("[[cases]]")
    assert 7 * 60 <= sum(seconds[:head]) <= 9 * 60
    first = {subject for entry in sweep.cases[:head] for subject in [entry.subject]}
    assert "resnet50" in first
    assert any(find(subject).kind == "layer" for subject in first)


def test_a_budget_goes_down_the_file():
    """Where entries have a priority, the greater is measured first: it falls from entry to entry."""
    entries = sweeps.load(GPU).cases
    priorities = [getattr(entry, "priority", -place) for place, entry in enumerate(entries)]
    assert priorities == sorted(set(priorities), reverse=True)


# --------------------------------------------------------------------------------------------------- the goals


def make(*arguments: str) -> str:
    command = ["make", "--dry-run", "--no-print-directory", "VENV=", "PYTHON=python3", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_gpu_goals_calibrate_then_run_the_sweep_with_and_without_a_budget():
    calibrate, run = make("bench-gpu").splitlines()
    assert "bench env --device cuda --calibrate" in calibrate
    assert run.strip().endswith("bench run bench/sweeps/gpu.toml --time-budget 8m")
    assert "--time-budget 90s" in make("bench-gpu", "BUDGET=90s")
    assert "--time-budget" not in make("bench-gpu-full")
    assert "bench/sweeps/gpu.toml" in make("bench-gpu-full")


def test_without_a_gpu_the_goal_ends_with_a_clear_line():
    if not subprocess.run(["sh", "-c", "command -v nvidia-smi"], capture_output=True).returncode:
        pytest.skip("this machine has an NVIDIA driver")
    import sys

    done = subprocess.run(
        ["make", "--no-print-directory", "bench-gpu", "VENV=", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1, done.stderr
    assert "no CUDA device" in said[0]
    assert "make bench" in said[0]


# -------------------------------------------------------------------------------------------------- the wheels


def test_what_the_project_needs_is_asked_for_without_torch(wheels):
    needs = wheels.requirements(["test"])
    names = {wheels._name_of(need) for need in needs}
    assert {"pydantic", "typer", "nvidia-ml-py", "scipy", "pytest"} <= names
    assert not {"torch", "torchvision", "phnn-bench"} & names
    with pytest.raises(SystemExit, match="no extra 'tests': choose from"):
        wheels.requirements(["tests"])


def test_a_freeze_tells_versions_and_nothing_of_what_came_from_elsewhere(wheels):
    freeze = "numpy==2.5.2\nTyping_Extensions==4.1\ntorch @ file:///tmp/torch.whl\n-e git+x#egg=y\n# note\n"
    assert wheels.installed(freeze) == {"numpy": "2.5.2", "typing-extensions": "4.1"}


def item(name: str, version: str, kind: str = "whl"):
    url = f"https://registry/{name}-{version}.{kind}"
    return {"metadata": {"name": name, "version": version}, "download_info": {"url": url}}


REPORT = {
    "install": [
        item("Numpy", "2.5.2"), item("pydantic", "2.9"), item("pydantic_core", "2.23"), item("torch", "2.11"),
        item("nvidia-cublas", "13"), item("nvidia-ml-py", "13"), item("triton", "3.6"), item("fvcore", "0.1.5", "tar.gz"),
    ]
}  # fmt: skip


def test_what_is_there_and_what_comes_with_torch_is_not_carried(wheels):
    found = wheels.lacking(REPORT, {"numpy": "2.5.2", "pydantic": "1.10"})
    assert found == ["fvcore==0.1.5", "nvidia-ml-py==13", "pydantic-core==2.23", "pydantic==2.9"]


def recorded(folder: Path, built: str):
    """A pip that remembers what it was asked, and what the constraints were."""
    asked, held = [], []

    def run(*arguments: str) -> str:
        asked.append(arguments)
        if "--constraint" in arguments:
            held.append(Path(arguments[arguments.index("--constraint") + 1]).read_text())
        if arguments[0] == "wheel":
            (folder / built).write_bytes(b"0" * 2**20)
        return json.dumps(REPORT) if arguments[0] == "install" else ""

    return run, asked, held


def test_the_folder_is_filled_by_pip_for_the_machine_that_is_meant(wheels, tmp_path, capsys):
    (tmp_path / "have.txt").write_text("numpy==2.5.2\nfvcore==0.1.4\n")
    folder = tmp_path / "wheels"
    run, asked, held = recorded(folder, "fvcore-0.1.4-py3-none-any.whl")
    options = ["--have", str(tmp_path / "have.txt"), "--python", "3.12", "--platform", "manylinux_2_28_x86_64"]
    wheels.main([str(folder), *options], run)
    search, build, resolve, download = asked
    assert "--constraint" not in search
    assert build[-1] == "fvcore==0.1.4", "what is published as source alone, in the version that is there"
    assert held == ["numpy==2.5.2\nfvcore==0.1.4\n"]
    platform = {"--python-version=3.12", "--platform=manylinux_2_28_x86_64", "--platform=manylinux2014_x86_64"}
    assert platform | {"--only-binary=:all:"} <= set(resolve) & set(download)
    assert "--no-deps" in download
    assert not {"numpy==2.5.2", "torch==2.11"} & set(download)
    listed = (folder / "requirements.txt").read_text().splitlines()
    assert listed == ["fvcore==0.1.5", "nvidia-ml-py==13", "pydantic-core==2.23", "pydantic==2.9"]
    assert "4 packages, 1 MiB in all" in capsys.readouterr().out


def test_a_platform_takes_the_wheels_of_older_ones(wheels):
    names = wheels.older("manylinux_2_28_aarch64")
    assert names[0] == "manylinux_2_28_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(names)
    assert wheels.older("win_amd64") == ["win_amd64"]


def test_what_was_built_for_this_machine_alone_is_refused_for_another(wheels, tmp_path):
    run, _, _ = recorded(tmp_path, "fvcore-0.1.5-cp311-cp311-linux_x86_64.whl")
    with pytest.raises(SystemExit, match="built for this machine"):
        wheels.fill(tmp_path, ["fvcore"], {}, ["--python-version=3.12"], run)


def test_an_absent_freeze_and_a_failing_pip_end_in_one_line(wheels, tmp_path):
    with pytest.raises(SystemExit, match="have\\.txt cannot be read: No such file"):
        wheels.main([str(tmp_path), "--have", str(tmp_path / "have.txt")])
    with pytest.raises(SystemExit, match=r"^pip download failed: \S"):
        wheels.pip("download", "--no-index", "--no-deps", "--dest", str(tmp_path), "no-such-package-of-ours")
