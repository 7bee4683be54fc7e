"""The commands as a person types them: what they print, what they write, how they exit."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

SWEEP = """
schema = 1
name = "e2e"
title = "end to end"
[protocol]
processes = 2
budget = 0.05
precision = 0.5
timeout = 240
[[cases]]
subject = "linear"
metrics = ["params", "macs", "peak_bytes", "numeric_error", "latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "quaternion"]
channels = 8
batch = 2
[[cases]]
subject = "linear"
metrics = ["params"]
[cases.axes]
algebra = "ph"
n = 3
channels = 8
[[cases]]
subject = "resnet8"
metrics = ["accuracy", "params"]
controls = ["slim"]
[cases.axes]
algebra = ["real", "ph"]
n = 2
data = "digits"
[cases.recipe]
epochs = 1
batch_size = 256
"""


def bench(*args, **kwargs):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, args)], capture_output=True, text=True, env=env, **kwargs
    )


def fails_in_one_line(done, *words):
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), lines[0]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("e2e")
    path = folder / "e2e.toml"
    path.write_text(SWEEP)
    return path, folder / "run", bench("run", path, "--out", folder / "run")


def test_a_run_ends_by_naming_table_and_figures(ran):
    _, folder, done = ran
    assert done.returncode == 0, done.stderr
    assert f"table:   {folder}/table.csv" in done.stdout
    assert f"figure:  {folder}/figures/pareto_fronts.pdf" in done.stdout
    for line in done.stdout.splitlines():
        if line.startswith("figure:"):
            pdf = line.split()[1]
            assert os.path.getsize(pdf) > 1000
            assert os.path.getsize(pdf.replace(".pdf", ".png")) > 1000
    assert "left]" in done.stderr, "progress says how long it will take"


def test_the_table_holds_every_metric_of_every_case(ran):
    df = pd.read_csv(ran[1] / "table.csv")
    assert (df[df["n"] == 3]["status"] == "skipped").all()
    ok = df[df["n"] != 3]
    assert set(ok["status"]) == {"ok"}, ok[["metric", "status", "reason"]]
    assert set(ok["metric"]) == {
        "params",
        "macs",
        "peak_bytes",
        "numeric_error",
        "latency",
        "latency_ratio",
        "accuracy",
    }
    assert ok["value"].notna().all()
    assert ok["env_id"].nunique() == 1
    assert ok.groupby(ok["data"] != "none")["code_rev"].nunique().eq(1).all()  # what trains is code of its own
    assert ok["code_rev"].nunique() == 2
    layers = ok[(ok["subject"] == "linear") & (ok["metric"] == "params")].set_index("algebra")["value"]
    assert layers.to_dict() == {"real": 72, "quaternion": 24}
    nets = ok[(ok["subject"] == "resnet8") & (ok["metric"] == "params")].set_index("variant")["value"]
    assert abs(nets["slim real (ph n=2)"] / nets["ph n=2"] - 1) < 0.02


def test_the_paper_sweep_writes_the_comparison_with_the_published_counts(tmp_path):
    filters = ["--filter", "subject=vgg16_bn", "--filter", "algebra=real"]
    done = bench("run", "bench/sweeps/paper.toml", *filters, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"table:   {tmp_path}/tables/published.tex" in done.stdout
    row = pd.read_csv(tmp_path / "tables" / "published.csv").iloc[0]
    assert row[["published", "ours", "ours in the published form", "difference"]].tolist() == [
        15253578, 15249354, 15253578, 4224
    ]  # fmt: skip
    assert row["explained by"].startswith("convolution biases, applied")
    assert r"\toprule" in (tmp_path / "tables" / "costs.tex").read_text()
    assert "### Published parameter counts" in (tmp_path / "summary.md").read_text()


def test_the_environment_is_kept_beside_the_table(ran):
    kept = json.loads((ran[1] / "env.json").read_text())
    shown = json.loads(bench("env").stdout)
    assert kept["identity"] == shown["identity"]
    assert kept["env_id"] == shown["env_id"]
    assert (ran[1] / "sweep.toml").read_text() == SWEEP


def test_running_again_unchanged_resumes_and_says_so(ran):
    path, folder, _ = ran
    before = (folder / "tasks.jsonl").read_bytes()
    done = bench("run", path, "--out", folder)
    assert done.returncode == 0
    assert "7 tasks were done before and were not repeated; 0 measured now" in done.stdout
    assert (folder / "tasks.jsonl").read_bytes() == before


def test_report_rebuilds_the_same_table_elsewhere(ran, tmp_path):
    _, folder, _ = ran
    done = bench("report", folder, "--out", tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "table.csv").read_bytes() == (folder / "table.csv").read_bytes()


def test_list_shows_ids_and_reasons(ran):
    done = bench("list", ran[0])
    assert done.returncode == 0
    ids = {line.split()[0] for line in done.stdout.splitlines()}
    assert set(pd.read_csv(ran[1] / "table.csv")["case_id"]) == ids
    assert "skipped: n=3 does not divide channels=8" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("channels = 8", "chanels = 8", ["chanels", "did you mean channels"]),
        ('"quaternion"', '"octernion"', ["octernion", "did you mean"]),
        ('"resnet8"', '"resnet9"', ["resnet9", "did you mean"]),
        ('"macs"', '"mac"', ["'mac'", "did you mean macs"]),
        ('algebra = ["real", "quaternion"]', "algebra = []", ["algebra"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_results_untouched(ran, tmp_path, old, new, words):
    _, folder, _ = ran
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    path = tmp_path / "bad.toml"
    path.write_text(SWEEP.replace(old, new))
    if new == "algebra = []":
        path.write_text(SWEEP.split('[[cases]]\nsubject = "linear"\nmetrics = ["params"]')[0].replace(old, new))
        words = ["expands to no case"]
    fails_in_one_line(bench("run", path, "--out", folder), *words)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_widths_that_fit_nowhere_are_one_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(
        SWEEP.split('[[cases]]\nsubject = "resnet8"')[0]
        .replace("channels = 8", "channels = 7")
        .replace('"real", ', "")
    )
    fails_in_one_line(bench("run", path, "--out", tmp_path / "run"), "n=4 does not divide channels=7", "4 or 8")
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_cannot_be_written_is_one_line(ran, tmp_path):
    (tmp_path / "file").write_text("in the way")
    fails_in_one_line(bench("run", ran[0], "--out", tmp_path / "file" / "run"), "cannot be written", "--out")


def test_an_absent_data_set_is_one_line(ran, tmp_path):
    fails_in_one_line(bench("run", ran[0], "--data", "cifar10", "--out", tmp_path / "run"), "cifar10", "--data-root")
    done = bench("run", ran[0], "--data", "cifar10", "--data-root", tmp_path / "none", "--out", tmp_path / "run")
    fails_in_one_line(done, "cifar10", "--download")
    fails_in_one_line(bench("run", ran[0], "--data", "mnits"), "mnits", "digits")
    assert not (tmp_path / "run").exists()


def test_the_gpu_sweep_without_a_gpu_names_cuda(tmp_path):
    if not subprocess.run(["sh", "-c", "command -v nvidia-smi"], capture_output=True).returncode:
        pytest.skip("this machine has an NVIDIA driver")
    fails_in_one_line(
        bench("run", "bench/sweeps/gpu.toml", "--out", tmp_path / "run"), "no CUDA device", "make bench"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_folder_is_one_line(tmp_path):
    fails_in_one_line(bench("report", tmp_path), "is no run folder")


def test_a_check_that_cannot_be_made_is_one_line_before_anything_is_measured(tmp_path):
    fails_in_one_line(bench("check", "--device", "tpu"), "'tpu' is neither cpu nor cuda")
    fails_in_one_line(bench("check", "--out", tmp_path / "none" / "check.json"), "cannot be written", "--out")
    fails_in_one_line(bench("check", "--out", tmp_path), "cannot be written", "--out")
    fails_in_one_line(bench("check", "--threads", "100000"), "100000 are more", "--threads")


def test_help_lists_the_verbs():
    done = bench("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("list", "run", "report", "env", "check"))


def test_roofs_are_absent_with_a_reason_until_they_are_measured_and_then_rows(tmp_path, monkeypatch):
    """Kept by env_id beside the environment, copied into the run folder, and no part of what identifies it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, folder = tmp_path / "roofs.toml", tmp_path / "run"
    head = SWEEP.split("[[cases]]")[0]
    path.write_text(head + '[[cases]]\nsubject = "linear"\nmetrics = ["latency", "efficiency"]\naxes = {batch = 2}\n')
    first = bench("run", path, "--out", folder)
    assert first.returncode == 0, first.stderr
    before = json.loads(bench("env").stdout)
    assert before["measured"] is None
    told = pd.read_csv(folder / "table.csv").set_index("metric")
    assert told["status"]["efficiency"] == "unsupported"
    assert "bench env --calibrate" in told["reason"]["efficiency"]

    calibrated = bench("env", "--calibrate", "--seconds", 0.02)
    assert calibrated.returncode == 0, calibrated.stderr
    after = json.loads(calibrated.stdout)
    assert after["measured"]["rates"][0]["flops"]["float32"] > 1e8
    assert after["env_id"] == before["env_id"]
    again = bench("run", path, "--out", folder)
    assert again.returncode == 0, again.stderr
    assert "0 measured now" in again.stdout
    told = pd.read_csv(folder / "table.csv").set_index("metric")
    assert told["value"]["efficiency"] > 0
    assert told["value"]["arithmetic_intensity"] > 0
    assert json.loads((folder / "roofs.json").read_text()) == after["measured"]
