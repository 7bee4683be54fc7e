"""The 95 % interval covers as often as the methodology says, at the numbers of processes really used."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as reference

sys.path.insert(0, str(Path(__file__).parent / "support"))
import simulations
from simulations import PROCESSES, WORLDS

from bench import stats

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = ROOT / "results" / "reference" / "simulated"
MEASUREMENTS = 3000
BY_NAME = {world.name: world for world in WORLDS}
STATED = {
    cells[0]: [tuple(float(share) for share in cell.split(" · ")) for cell in cells[1:]]
    for line in (SIMULATED / "coverage.md").read_text(encoding="utf-8").splitlines()[2:]
    if (cells := line.strip("| ").split(" | "))
}


def test_the_simulation_counts_with_the_interval_of_the_tables():
    logs = simulations.WORLDS[0].medians(np.random.default_rng(0), 60, 5)[1]
    intervals = [stats.process_interval(row) for row in np.exp(logs).tolist()]
    held = [found.lo <= 1.005 <= found.hi for found in intervals]
    assert 0 < sum(held) < 60
    assert simulations.covered(logs, np.log(1.005)) == sum(held) / 60


@pytest.mark.parametrize("processes", PROCESSES)
@pytest.mark.parametrize("world", ["normal", "rounds skewed", "rounds bimodal", "clock drifts by 10 %"])
def test_the_interval_of_a_ratio_covers_95_per_cent_whatever_rounds_do(world, processes):
    """Within the binomial bounds (99.9 %) of a share of 0.95 in 3000: 0.937 to 0.963."""
    _, ratio = simulations.coverage(BY_NAME[world], processes, MEASUREMENTS, seed=1)
    low, high = reference.binom.interval(0.999, MEASUREMENTS, 0.95)
    assert low <= ratio * MEASUREMENTS <= high


@pytest.mark.parametrize("world", BY_NAME)
def test_the_table_of_the_methodology_is_what_simulation_gives(world):
    """Other draws than the table's: apart by no more than the sum of both errors allows (99.9 %)."""
    for processes, stated in zip(PROCESSES, STATED[world], strict=False):
        for share, said in zip(
            simulations.coverage(BY_NAME[world], processes, MEASUREMENTS, seed=1), stated, strict=True
        ):
            p = said / 100
            error = np.sqrt(p * (1 - p) * (1 / MEASUREMENTS + 1 / simulations.MEASUREMENTS))
            assert abs(share - p) <= 3.3 * error + 0.0005, f"{world}, {processes} processes"


def test_drift_that_a_round_shares_widens_no_ratio():
    for world in (BY_NAME["normal"], BY_NAME["clock drifts by 10 %"]):
        _, ratio = world.medians(np.random.default_rng(2), 500, 5)
        assert ratio.std(axis=1, ddof=1).mean() == pytest.approx(0.01, rel=0.1)
    time, _ = BY_NAME["clock drifts by 10 %"].medians(np.random.default_rng(2), 500, 5)
    assert time.std(axis=1, ddof=1).mean() > 0.04


def test_the_table_of_error_rates_is_the_exact_one():
    assert (SIMULATED / "verdicts.md").read_text(encoding="utf-8") == simulations.verdict_table()


@pytest.mark.parametrize("table", ["coverage.md", "verdicts.md"])
def test_the_methodology_shows_the_table(table):
    page = (ROOT / "docs" / "methodology.md").read_text(encoding="utf-8")
    assert f"<!-- text: simulated {table} -->\n{(SIMULATED / table).read_text(encoding='utf-8')}<!-- end -->" in page


def test_a_block_whose_text_is_not_measured_yet_says_so(tmp_path):
    found = runpy.run_path(str(ROOT / "docs" / "fill.py"))
    page = tmp_path / "page.md"
    page.write_text("<!-- text: nowhere figure.txt -->\nan old figure\n<!-- end -->\n")
    assert found["filled"](page) == "<!-- text: nowhere figure.txt -->\n*Not measured yet.*\n<!-- end -->\n"


def test_every_world_is_in_the_table():
    assert list(STATED) == list(BY_NAME)
    assert all(re.fullmatch(r"[\w %]+", name) for name in STATED)


# ------------------------------------------------------------------------------------------------- many processes


def test_from_20_processes_on_the_interval_is_scipys_bca():
    values = np.exp(np.random.default_rng(3).normal(0, 0.02, 20)).tolist()
    expected = reference.bootstrap(
        (np.log(values),), np.mean, method="BCa", n_resamples=9999, batch=10_000, rng=np.random.default_rng(0)
    ).confidence_interval
    found = stats.process_interval(values)
    assert (np.log(found.lo), np.log(found.hi)) == pytest.approx(tuple(expected))
    assert found == stats.process_interval(values), "the same data give the same interval"
    assert stats.process_interval(values[:19]) == stats.log_interval(values[:19]), "Student's t below"


def test_twenty_equal_processes_have_an_interval_without_width():
    assert stats.process_interval([2.0] * 20) == stats.Interval(2.0, 2.0, 2.0)


def pytest_generate_tests(metafunc):
    if "bootstrapped" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full", default=False)
        metafunc.parametrize("bootstrapped", list(BY_NAME) if full else ["normal"])


def test_the_bootstrap_covers_as_the_methodology_says(bootstrapped):
    found = simulations.bootstrap_coverage(BY_NAME[bootstrapped], 20, 300)
    for share, said in zip(found, STATED[bootstrapped][-1], strict=True):
        p = said / 100
        assert abs(share - p) <= 3.3 * np.sqrt(p * (1 - p) * (1 / 300 + 1 / 1000))
