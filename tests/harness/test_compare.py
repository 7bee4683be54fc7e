"""Two sides compared: which rows meet, by which measurement, with which verdict, and what is said against it."""

import math
import random

import pandas as pd
import pytest
from runs import CODE, write_run
from scipy import stats as reference
from typer.testing import CliRunner

from bench.cli import app
from bench.compare import gate, source, told
from bench.compare.caveats import caveats
from bench.compare.change import Method
from bench.compare.comparison import compare, side
from bench.compare.where import any_of, one_each
from bench.errors import UsageError
from bench.plan import expansion, sweep
from bench.stats import Verdict
from bench.table import files
from phnn.algebras import algebra

SWEEP = """
schema = 1
name = "pairs"
title = "a test"
[protocol]
processes = 3
[[cases]]
subject = "linear"
metrics = ["params", "latency", "latency_ratio"]
[cases.axes]
algebra = ["real", "quaternion", "ph"]
n = [2, 4]
channels = [8, 16]
batch = 2
path = ["auto", "dense"]
[[cases]]
subject = "resnet8"
metrics = ["accuracy", "params"]
controls = ["slim"]
[cases.axes]
algebra = ["real", "ph"]
n = 4
data = "digits"
seed = [0, 1, 2, 3]
"""

SPEED = {"real": 1.0, "quaternion": 0.5, "ph": 0.8}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "pairs.toml"
    path.write_text(SWEEP)
    return expansion.expand(sweep.load(path))


def noisy(seed=0, spread=0.02, speed=SPEED):
    """Times with noise of the process that all of its cases share, and noise of their own."""
    rng = random.Random(seed)
    shared, own = {}, {}

    def seconds(case, process, turn):
        common = shared.setdefault((case.group_id, process, turn), math.exp(rng.gauss(0, 0.2)))
        mine = own.setdefault((case.id, process), math.exp(rng.gauss(0, spread)))
        return 1e-4 * case.axes["channels"] * speed[case.algebra] * common * mine

    return seconds


def accuracy(case, metric):
    base = {"real": 0.90, "ph": 0.91}[case.algebra] if metric == "accuracy" else 100.0 / case.n
    return base + (0.01 * case.seed if metric == "accuracy" else 0.0)


def values(case, metric):
    return accuracy(case, metric) if case.data != "none" else 100.0 / case.n


@pytest.fixture(scope="module")
def folder(planned, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), planned, noisy(), values)


def compared(a_path, a="", b="", b_path=None, **kwargs):
    sides = [
        side(source.read(path), one_each(text, flag) if text else {}, flag)
        for path, text, flag in ((a_path, a, "--a"), (b_path or a_path, b, "--b"))
    ]
    return compare(*sides, **kwargs)


def only(comparison, metric):
    return next(own for own in comparison.metrics if own.metric == metric)


def test_against_the_real_layer_a_pair_has_the_ratio_and_interval_of_the_table(folder):
    table = source.read(folder).rows
    found = only(compared(folder, "algebra=real", "algebra=quaternion,path=auto"), "latency")
    assert [change.method for change in found.changes] == [Method.ROUNDS] * 2
    for factors, change in zip(found.factors, found.changes, strict=True):
        row = table[
            (table["metric"] == "latency_ratio") & (table["algebra"] == "quaternion") & (table["path"] == "auto")
            & (table["channels"] == int(factors["channels"]))
        ].iloc[0]  # fmt: skip
        assert vars(change.interval()) == pytest.approx({end: float(row[end]) for end in ("value", "lo", "hi")})


def test_two_variants_of_a_process_are_compared_round_by_round(folder):
    found = only(compared(folder, "algebra=quaternion,path=auto", "algebra=ph,n=4,path=auto"), "latency")
    assert {change.method for change in found.changes} == {Method.ROUNDS}
    for change in found.changes:  # rounds differ by 20 %, which cancels; what remains is 2 % a process
        assert change.interval().lo < 1.6 < change.interval().hi
        assert change.interval().relative_half_width < 0.12


def test_without_raw_rounds_the_real_layer_stands_between_and_the_interval_is_no_narrower(folder, tmp_path):
    read = source.read(folder)
    read.rows.to_parquet(tmp_path / "table.parquet")
    args = ("algebra=quaternion,path=auto", "algebra=ph,n=4,path=auto")
    with_rounds = only(compared(folder, *args), "latency")
    of_table = compared(tmp_path / "table.parquet", *args)
    without = only(of_table, "latency")
    assert {change.method for change in without.changes} == {Method.BASELINE}
    for near, far in zip(with_rounds.changes, without.changes, strict=True):
        assert far.interval().value == pytest.approx(near.interval().value, rel=0.01)
        assert far.estimate.variance > 0.5 * near.estimate.variance
    assert any("by way of the real layer" in text for text in caveats(of_table))


def test_a_table_as_csv_says_what_it_says_as_parquet(folder, tmp_path):
    rows = source.read(folder).rows
    rows.to_csv(tmp_path / "table.csv", index=False)
    rows.to_parquet(tmp_path / "table.parquet")
    one, other = (
        told.table(compared(tmp_path / name, "algebra=real", "algebra=ph,n=2"))
        for name in ("table.csv", "table.parquet")
    )
    pd.testing.assert_frame_equal(one, other)


def test_runs_are_compared_as_two_samples_of_processes(planned, folder, tmp_path):
    other = write_run(tmp_path / "b", planned, noisy(seed=7), values)
    comparison = compared(folder, b_path=other)
    found = only(comparison, "latency")
    assert {change.method for change in found.changes} == {Method.APART}
    assert any("processes of their own" in text for text in caveats(comparison))
    change, factors = found.changes[0], found.factors[0]

    def logs(path):
        read = source.read(path)
        row = read.rows[
            (read.rows["metric"] == "latency") & (read.rows["variant"] == factors["variant"])
            & (read.rows["channels"] == int(factors["channels"]))
        ].iloc[0]  # fmt: skip
        timed = read.findings.of(row["case_id"], row["env_id"], "timing")
        return [math.log(median) for median in read.findings.medians[[own.at for own in timed], 0]]

    welch = reference.ttest_ind(logs(other), logs(folder), equal_var=False).confidence_interval()
    assert [math.log(change.interval().lo), math.log(change.interval().hi)] == pytest.approx([welch.low, welch.high])


def test_a_real_layer_meets_every_path_and_a_slim_control_stays_out(folder):
    comparison = compared(folder, "algebra=real", "algebra=ph,n=4")
    found = only(comparison, "latency")
    assert [(own["channels"], own["path b"]) for own in found.factors] == [
        ("8", "auto"), ("8", "dense"), ("16", "auto"), ("16", "dense")
    ]  # fmt: skip
    assert len(only(comparison, "accuracy").changes) == 1


def test_pairs_agree_in_every_factor_that_is_not_named(folder):
    found = only(compared(folder, "channels=8", "channels=16", metrics=["latency"]), "latency")
    assert len(found.changes) == 7
    assert all(change.names[0] == change.names[1] for change in found.changes)
    assert all(change.interval().lo < 2 < change.interval().hi for change in found.changes)


def test_several_cases_against_several_are_no_pairs(folder):
    with pytest.raises(UsageError, match=r"differ in (variant|path) \("):
        compared(folder, "algebra=ph,path=auto,path=dense", "algebra=quaternion,path=auto,path=dense")
    with pytest.raises(UsageError, match="no case of"):
        compared(folder, "subject=linear", "subject=resnet8", metrics=["params"])


def test_accuracy_is_compared_by_the_difference_over_seeds(folder):
    found = only(compared(folder, "algebra=real", "algebra=ph,n=4"), "accuracy")
    (change,) = found.changes
    assert change.method is Method.SEEDS
    assert change.values == pytest.approx((0.915, 0.925))
    assert change.interval().value == pytest.approx(0.01)
    slim = only(compared(folder, "variant=slim real (ph n=4)", "algebra=ph,n=4", metrics=["accuracy"]), "accuracy")
    assert slim.changes[0].names == ("slim real (ph n=4)", "ph n=4")


def test_more_accuracy_is_better_and_fewer_parameters_too(folder):
    comparison = compared(folder, "algebra=real", "algebra=ph,n=4", metrics=["accuracy", "params"], margin=0.001)
    for metric in ("accuracy", "params"):
        own = only(comparison, metric)
        assert {own.verdict(change) for change in own.changes} == {Verdict.FASTER}, metric
    text = told.comparison(comparison)
    assert "BETTER" in text
    assert "FASTER" not in text


def test_counts_are_exact_and_without_an_interval(folder):
    found = only(compared(folder, "algebra=real", "algebra=quaternion,path=auto", metrics=["params"]), "params")
    assert all(
        vars(change.interval()) == pytest.approx(dict.fromkeys(("value", "lo", "hi"), 0.25))
        for change in found.changes
    )
    assert found.level == pytest.approx(0.95), "exact figures are no comparison of chance"


def test_verdicts_answer_for_all_pairs_together(folder):
    found = only(compared(folder, "algebra=real", "algebra=ph"), "latency")
    assert len(found.changes) == 8
    assert found.level == pytest.approx(1 - 0.05 / 8)


def test_the_mean_over_pairs_is_the_geometric_one_and_pairs_of_a_process_share_their_noise(folder):
    found = only(compared(folder, "algebra=real", "algebra=ph,n=4"), "latency")
    product = math.prod(change.interval().value for change in found.changes)
    assert found.overall.value == pytest.approx(product ** (1 / 4))
    one_group = [change for change in found.changes if change.cluster == found.changes[0].cluster]
    assert len(one_group) == 2
    widths = [math.sqrt(change.estimate.variance) for change in found.changes]
    reach = math.log(found.overall.hi) - math.log(found.overall.lo)
    assert reach > 2 * 1.96 * math.sqrt(sum(w * w for w in widths)) / 4, "as if all pairs were independent"


def test_a_failure_is_told_in_its_place_and_closes_the_gate(planned, folder, tmp_path):
    def failed(case, kind):
        return ("oom", "out of memory") if case.algebra == "quaternion" and kind == "timing" else None

    other = write_run(tmp_path / "b", planned, noisy(), values, failed=failed)
    comparison = compared(folder, b_path=other)
    found = only(comparison, "latency")
    lost = [change for change in found.changes if change.problem]
    assert len(lost) == 4
    assert all(change.lost and change.problem == "b: oom (out of memory)" for change in lost)
    assert "b: oom (out of memory)" in told.comparison(comparison)
    assert any("4 of 14 pairs have no figure" in text for text in caveats(comparison))
    assert len(found.measured) == 10
    done = run("compare", folder, other, "--metric", "latency", "--fail-on", "slower:50%")
    assert done.exit_code == 5
    assert "b: oom (out of memory)" in done.stderr


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.parametrize(
    ("factor", "gate_text", "code"),
    [(1.2, "slower:5%", 5), (1.0, "slower:5%", 0), (1.2, "slower:50%", 0), (0.5, "maybe-slower:5%", 0),
     (1.0, "maybe-slower:5%", 0), (1.04, "maybe-slower:0.03", 5), (1.04, "slower:10%", 0)],
)  # fmt: skip
def test_the_gate_closes_on_what_is_shown_and_on_nothing_else(planned, folder, tmp_path, factor, gate_text, code):
    slow = {name: speed * factor for name, speed in SPEED.items()}
    kept = [p for p in planned if p.case.data == "none" and p.case.path in ("auto", "none")]
    runs = []
    for name, speed in (("a", SPEED), ("b", slow)):
        quiet = {name: (lambda c, process, turn, s=speed: 1e-3 * s[c.algebra] * (1 + process / 1000))}
        runs.append(write_run(tmp_path / name, kept, quiet[name], values, processes=5))
    done = run("compare", *runs, "--metric", "latency", "--fail-on", gate_text)
    assert done.exit_code == code, done.output
    assert ("bench compare: " in done.stderr) == (code == 5)


def test_noise_passes_a_gate_for_what_is_shown_and_not_one_for_what_may_be(planned, tmp_path):
    kept = [p for p in planned if p.case.data == "none" and p.case.path in ("auto", "none")]
    runs = [write_run(tmp_path / name, kept, noisy(seed, 0.3), values) for seed, name in enumerate("ab")]
    assert run("compare", *runs, "--metric", "latency", "--fail-on", "slower:5%").exit_code == 0
    assert run("compare", *runs, "--metric", "latency", "--fail-on", "maybe-slower:5%").exit_code == 5


@pytest.mark.parametrize(
    "text", ["slower", "slower:", "slower:x", "faster:5%", "slower:-5%", "slower:nan", "slower:inf"]
)
def test_a_gate_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="--fail-on"):
        gate.parse(text)


def test_a_changed_machine_shows_in_the_real_layers(planned, tmp_path):
    def steady(scale):
        return lambda case, process, turn: scale * 1e-3 * SPEED[case.algebra] * (1 + process / 1000)

    runs = [write_run(tmp_path / name, planned, steady(scale), values) for name, scale in (("a", 1), ("b", 1.1))]
    comparison = compared(runs[0], b_path=runs[1])
    assert any("real layers, torch's own code, take 1.1" in text for text in caveats(comparison))
    ratios = only(compared(runs[0], b_path=runs[1], metrics=["latency_ratio"]), "latency_ratio")
    assert {ratios.verdict(change) for change in ratios.changes} == {Verdict.SAME}


def test_two_machines_meet_case_by_case_with_a_warning(planned, folder, tmp_path):
    other = write_run(tmp_path / "b", planned, noisy(3), values, env_id="cpu-other")
    comparison = compared(folder, b_path=other)
    assert len(only(comparison, "latency").changes) == 14
    assert any("what differs is machine and software" in text for text in caveats(comparison))


def test_two_revisions_within_a_folder_are_compared(planned, tmp_path):
    both = write_run(tmp_path / "run", planned, noisy(1), values, code_rev="aaaa00000000", chunk="a")
    write_run(both, planned, noisy(2, speed={**SPEED, "ph": 8.0}), values, code_rev="bbbb00000000", chunk="b")
    done = run(
        "compare",
        both,
        "--a",
        "code_rev=aaaa",
        "--b",
        "code_rev=bbbb",
        "--metric",
        "latency",
        "--filter",
        "algebra=ph",
    )
    assert done.exit_code == 0, done.output
    assert "code aaaa00000000" in done.output
    assert "SLOWER" in done.output
    with pytest.raises(UsageError, match="no code revision cccc: it has aaaa00000000, bbbb00000000"):
        source.read(both, "cccc")


def test_the_revision_of_a_training_is_no_mixture_with_that_of_a_timing(folder, tmp_path):
    """It is a hash of more sources."""
    rows = source.read(folder).rows
    timed = rows["data"] == "none"
    rows = rows.assign(code_rev=rows["code_rev"].where(timed, "tttt00000000"))

    def mixed(rows, name):
        (tmp_path / name).mkdir()
        files.write(rows, tmp_path / name)
        told = caveats(compared(tmp_path / name / "table.parquet", "algebra=real", "algebra=ph"))
        return [text for text in told if "code revisions" in text]

    assert rows["code_rev"].nunique() == 2
    assert mixed(rows, "sound") == []
    first = timed & (rows["channels"] == rows.loc[timed, "channels"].min())
    (text,) = mixed(rows.assign(code_rev=rows["code_rev"].mask(first, "cccc00000000")), "two")
    assert text.startswith("a holds rows of 2 code revisions (")


def test_a_pair_is_timed_round_by_round_though_one_of_it_was_in_a_newer_chunk_too(planned, tmp_path):
    """The real layer is in every chunk of its group; what is compared with it is in one."""
    run = write_run(tmp_path / "run", planned, noisy(), values)
    newer = [p for p in planned if p.case.algebra == "real" or p.case.n == 2]
    write_run(run, newer, noisy(3), values, chunk="newer")
    for a, b in (("algebra=real", "algebra=quaternion"), ("algebra=quaternion", "algebra=real")):
        found = only(compared(run, a, b, metrics=["latency"]), "latency")
        assert {change.method for change in found.changes} == {Method.ROUNDS}
        assert all(len(change.processes) == 3 for change in found.changes)


def test_runs_below_one_folder_are_sides_by_their_name(planned, tmp_path):
    for name, speed in (("before", SPEED), ("after", {**SPEED, "ph": 8.0})):
        write_run(tmp_path / name, planned, noisy(len(name), speed=speed), values)
    found = only(compared(tmp_path, "run=before", "run=after", metrics=["latency"]), "latency")
    assert len(found.changes) == 14
    slower = {change.names[0] for change in found.changes if found.verdict(change) is Verdict.SLOWER}
    assert slower == {"ph n=2", "ph n=4"}
    done = run("rank", tmp_path)
    assert done.exit_code == 0, done.output
    assert done.output.count("over the real one's, run ") == 2


def test_one_process_gives_no_verdict(planned, tmp_path):
    one = write_run(tmp_path / "run", planned, noisy(), values, processes=1)
    comparison = compared(one, "algebra=real", "algebra=ph,n=2", metrics=["latency"])
    own = only(comparison, "latency")
    assert {own.verdict(change) for change in own.changes} == {Verdict.CANT_TELL}
    assert any("no interval, so no verdict" in text for text in caveats(comparison))
    assert "nan" not in told.comparison(comparison)


def test_what_cannot_be_told_names_the_ratio_that_would_have_been(planned, folder):
    comparison = compared(folder, "algebra=ph,n=2,path=auto", "algebra=ph,n=4,path=auto", metrics=["latency"])
    said = [text for text in caveats(comparison) if "cannot be told apart" in text]
    assert len(said) == 1
    assert "2 of 2 pairs" in said[0]


def test_all_pairs_are_written_as_csv(folder, tmp_path):
    out = tmp_path / "pairs.csv"
    done = run("compare", folder, "--a", "algebra=real", "--b", "algebra=ph,n=2,path=auto", "--out", out)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out)
    assert table["metric"].tolist() == ["latency", "latency"]
    assert set(table["measured"]) == {"in the same rounds"}
    assert {"value", "lo", "hi", "verdict", "channels"} <= set(table.columns)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["{run}"], "with what?"),
        (["{run}", "--a", "algebra=real", "--b", "algebra=quaternoin"], "quaternion"),
        (["{run}", "--a", "algbra=real", "--b", "algebra=ph"], "did you mean algebra"),
        (["{run}", "--a", "algebra", "--b", "algebra=ph"], "key=value"),
        (["{run}", "--a", "channels=7", "--b", "channels=8"], "channels is one of"),
        (["{run}", "--a", "algebra=real", "--b", "algebra=ph", "--metric", "energy"], "both sides have only"),
        (["{run}", "--a", "algebra=real", "--b", "algebra=ph", "--margin", "much"], "--margin"),
        (["{run}", "nowhere"], "nowhere"),
        (["{run}", "{empty}"], "holds no run"),
        (["{run}", "{run}/plan.jsonl"], "no sound table of records"),
        (["{run}", "{foreign}"], "no table of records"),
        (["{run}", "{damaged}"], "no sound table of records"),
        (["{run}", "--a", "algebra=real", "--b", "algebra=ph", "--out", "pairs.txt"], "no .csv"),
    ],
)
def test_what_a_person_got_wrong_is_one_line(folder, tmp_path, args, words):
    foreign, damaged, empty = tmp_path / "foreign.csv", tmp_path / "damaged.parquet", tmp_path / "empty"
    empty.mkdir()
    foreign.write_text("a,b\n1,2\n")
    damaged.write_bytes(b"PAR1 not a table")
    done = run("compare", *(arg.format(run=folder, foreign=foreign, damaged=damaged, empty=empty) for arg in args))
    assert isinstance(done.exception, UsageError), done.output
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_table_without_a_record_is_one_line(folder, tmp_path):
    files.write(source.read(folder).rows.iloc[:0], tmp_path)
    for verb in (["compare", tmp_path, folder], ["rank", tmp_path / "table.csv"]):
        done = run(*verb)
        assert isinstance(done.exception, UsageError), done.output
        assert "is empty" in str(done.exception)


def test_where_all_failed_every_pair_has_its_reason_and_there_is_nothing_to_rank(planned, tmp_path):
    crashed = write_run(tmp_path / "run", planned, failed=lambda case, kind: ("crashed", "it ended | [bold]x\n\x1b"))
    done = run("compare", crashed, "--a", "algebra=real", "--b", "algebra=ph,n=2", "--fail-on", "maybe-slower:5%")
    assert done.exit_code == 5, done.output
    assert "a: crashed (it ended | [bold]x ?)" in done.output
    assert "pairs have no figure" in done.output
    done = run("rank", crashed)
    assert isinstance(done.exception, UsageError)
    assert "nothing to rank" in str(done.exception)


def test_commas_within_an_algebras_name_are_its_own():
    name = algebra("Cl(0,3)").name
    assert one_each("algebra=Cl(0,3),n=8", "--a") == {"algebra": (name,), "n": ("8",)}
    assert any_of(["algebra=Cl(0,3),ph", "n=2,4"]) == {"algebra": (name, "ph"), "n": ("2", "4")}


def test_a_run_compared_with_itself_is_the_same(folder):
    found = only(compared(folder, b_path=folder, metrics=["latency"]), "latency")
    assert all(change.interval().value == pytest.approx(1) for change in found.changes)
    assert CODE in told.comparison(compared(folder, b_path=folder))
