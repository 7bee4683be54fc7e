"""Variants ranked by geometric means: over which cases, with which ranks, and what is said against them."""

import math
import random

import pytest
from runs import write_run
from typer.testing import CliRunner

from bench.cli import app
from bench.compare import source, told
from bench.compare.rank import rank
from bench.errors import UsageError
from bench.plan import expansion, sweep
from bench.stats import Verdict

SWEEP = """
schema = 1
name = "ranks"
title = "a test"
[protocol]
processes = 5
[[cases]]
subject = "linear"
metrics = ["params", "latency", "latency_ratio", "macs_weight_build"]
[cases.axes]
algebra = ["real", "quaternion", "ph"]
n = [2, 4]
channels = [8, 16, 32]
batch = [1, 2]
[[cases]]
subject = "linear"
metrics = ["latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "ph"]
n = 8
channels = 8
batch = 1
[[cases]]
subject = "resnet8"
metrics = ["accuracy"]
[cases.axes]
algebra = ["real", "ph"]
n = 4
data = "digits"
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "ranks.toml"
    path.write_text(SWEEP)
    return expansion.expand(sweep.load(path))


SPEED = {("real", 1): 1.0, ("quaternion", 4): 0.8, ("ph", 4): 0.8, ("ph", 2): 1.2, ("ph", 8): 0.1}


def seconds(spread, seed=0):
    rng = random.Random(seed)
    own = {}

    def of(case, process, turn):
        mine = own.setdefault((case.id, process), math.exp(rng.gauss(0, spread)))
        return 1e-4 * SPEED[case.algebra, case.n] * case.axes["channels"] ** (1 / case.n) * mine

    return of


@pytest.fixture(scope="module")
def folder(planned, tmp_path_factory):
    def values(case, metric):
        return 0 if metric == "macs_weight_build" and case.algebra == "real" else 100 / case.n

    return write_run(tmp_path_factory.mktemp("run"), planned, seconds(0.005), values, processes=5)


def ranking(folder, metric="latency", by=()):
    read = source.read(folder)
    return rank(read.rows, metric, by, read.findings)


def test_the_mean_is_geometric_over_the_cases_that_all_have_and_who_lacks_most_is_left_out(folder):
    (found,) = ranking(folder)
    assert found.left_out == {"ph n=8": 1}
    assert (len(found.groups), found.total) == (6, 6)
    places = {place.variant: place for place in found.places}
    assert set(places) == {"real", "quaternion", "ph n=2", "ph n=4"}
    scale = [channels ** (1 / 2 - 1) for channels in (8, 16, 32)]
    assert places["ph n=2"].mean.value == pytest.approx(1.2 * math.prod(scale) ** (1 / 3), rel=0.02)
    assert places["real"].mean.lo == places["real"].mean.hi == 1


def test_variants_that_are_not_told_apart_share_their_ranks(folder):
    (found,) = ranking(folder)
    ranks = {place.variant: (place.first, place.last) for place in found.places}
    assert ranks == {"quaternion": (1, 2), "ph n=4": (1, 2), "ph n=2": (3, 3), "real": (4, 4)}
    text = told.rankings([found])
    assert "1-2   quaternion" in text or "1-2   ph n=4" in text
    assert "not told apart by more than the margin" in text
    assert "ph n=8 (in 1 of 6 cases)" in text


def test_a_variant_that_failed_somewhere_is_ranked_on_the_rest_and_its_failure_is_named(planned, tmp_path):
    def failed(case, kind):
        broken = case.algebra == "quaternion" and case.axes["channels"] == 32 and kind == "timing"
        return ("timeout", "no result after 9 s") if broken else None

    folder = write_run(tmp_path / "run", planned, seconds(0.005), failed=failed, processes=5)
    (found,) = ranking(folder)
    assert len(found.groups) == 4
    assert all(lacking == ("quaternion",) for lacking in found.lacking.values())
    assert "failed: quaternion in linear, infer: timeout (no result after 9 s)" in told.rankings([found])
    done = CliRunner().invoke(app, ["rank", str(folder), "--fail-on", "slower:500%"])
    assert done.exit_code == 5, "a failure closes every gate"


def test_noise_gives_spans_of_ranks_and_no_verdict(planned, tmp_path):
    own = random.Random(3)
    folder = write_run(tmp_path / "run", planned, lambda *_: math.exp(own.gauss(0, 1)), processes=3, rounds=1)
    (found,) = ranking(folder)
    assert all(place.last - place.first >= 1 for place in found.places)
    assert {place.verdict for place in found.places if place.variant != "real"} == {Verdict.CANT_TELL}


def test_each_value_of_a_column_has_its_ranking(folder):
    found = ranking(folder, by=("channels",))
    assert [own.title for own in found] == ["channels 8", "channels 16", "channels 32"]
    assert [len(own.groups) for own in found] == [1, 2, 2]
    assert "ph n=8" in {place.variant for place in found[0].places}, "in one of two cases: that is half"


def test_counts_are_ranked_exactly(folder):
    (found,) = ranking(folder, "params")
    assert [(p.variant, p.mean.value) for p in found.places[:1]] == [("quaternion", pytest.approx(0.25))]
    assert found.places[-1].variant == "real"


@pytest.mark.parametrize(
    ("args", "code"),
    [(["--fail-on", "slower:5%"], 0), (["--fail-on", "slower:5%", "--filter", "variant=ph n=8"], 0),
     (["--fail-on", "maybe-slower:5%"], 0)],
)  # fmt: skip
def test_a_gate_is_open_where_all_are_faster(folder, args, code):
    done = CliRunner().invoke(app, ["rank", str(folder), *args])
    assert done.exit_code == code, done.output


def test_a_gate_closes_on_a_variant_that_is_slower_than_real(planned, tmp_path):
    slow = lambda case, process, turn: 1e-3 * (1.2 if case.algebra == "ph" else 1.0) * (1 + process / 1000)  # noqa: E731
    folder = write_run(tmp_path / "run", planned, slow, processes=5)
    done = CliRunner().invoke(app, ["rank", str(folder), "--fail-on", "slower:5%"])
    assert done.exit_code == 5
    assert "bench rank: slower:5%: latency of ph n=2: worse by more than 5 % than real" in done.stderr
    assert "quaternion" not in done.stderr


@pytest.mark.parametrize(
    ("metric", "words"),
    [("accuracy", "bench compare"), ("latencies", "ranked is one of"), ("energy", "the table has"),
     ("macs_weight_build", "nothing to rank")],
)  # fmt: skip
def test_what_cannot_be_ranked_is_refused_in_one_line(folder, metric, words):
    with pytest.raises(UsageError, match=words):
        ranking(folder, metric)
