"""Record files that are damaged or made up: a clear error of one line, never a traceback, never a silent drop.

25 mutations of each kind by default, 500 with --full: 4,000 in all.
"""

import copy
import json
import shutil

import pytest
from handmade import case, planned, result, task, timings, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bench
from bench.errors import UsageError
from bench.plan.case import Case
from bench.store.lines import read_plan, read_tasks, text_of
from bench.store.merge import merge
from bench.table import files
from bench.table.records import COLUMNS, missing

REAL, PH, NET = (
    case(),
    case(4),
    Case("resnet8", "model", "ph", 2, (("width_scale", 1.0),), data="digits", phase="none"),
)


def seed(folder):
    """A run folder with a line of each kind."""
    plan = [
        *planned(REAL, PH, metrics=("params", "latency", "latency_ratio", "numeric_error", "efficiency", "energy")),
        *planned(case(2), skipped="no reason"),
        *planned(NET, metrics=("accuracy", "train_time")),
    ]
    details = {"threads": 2, "traffic": {"flop": 10**9, "bytes": 10**6}}
    lines = [
        *(
            task("static", [result(c, values={"params": 7, "numeric_error": 0.0}, details=details)])
            for c in (REAL, PH)
        ),
        *timings([REAL, PH]),
        task("training", [result(NET, values={"accuracy": 0.9, "train_time": 3.0}, details={"losses": [2.0, 1.0]})]),
        task("static", [result(PH, "oom", reason="too big")], second=1, code_rev="c2"),
    ]
    return write(folder, plan, lines, "cpu-x")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = seed(tmp_path_factory.mktemp("sound") / "run")
    rates = [{"threads": 2, "flops": {"float32": 1e11}, "copied": {"1024": 1e10}, "read": {"1024": 1e10}}]
    measured = {"env_id": "cpu-x", "device": "cpu", "rates": rates, "launch": 1e-6, "timer": 1e-9, "caches": {},
                "caches_by": "os", "measured": "2026"}  # fmt: skip
    (folder / "roofs.json").write_text(json.dumps(measured))
    assert set(bench.load(folder)["status"]) == {"ok", "oom", "skipped"}
    return folder


def pytest_generate_tests(metafunc):
    if "examples" in metafunc.fixturenames:
        metafunc.parametrize("examples", [500 if metafunc.config.getoption("--full") else 25], ids=[""])


def hold(examples, check, *strategies):
    """Run ``check`` on so many examples, always the same ones."""
    run = settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )(given(*strategies)(check))  # fmt: skip
    run()


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([10**400, -1, 0, 2**63, "../../up", "1e999", "\ud800", "__class__", "a\nb", float("nan")])
)  # fmt: skip
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)


def places(value, at=()):
    """The ways to everything in a JSON value."""
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*at, key))


def mutated(draw, line):
    """The line with something in it replaced, taken out, renamed or doubled."""
    line = copy.deepcopy(line)
    way = draw.draw(st.sampled_from(sorted(places(line), key=repr)))
    if not way:
        return draw.draw(VALUES)
    *path, key = way
    inner = line
    for step in path:
        inner = inner[step]
    what = draw.draw(st.sampled_from(["replace", "remove", "add", "swap"]))
    if what == "replace":
        inner[key] = draw.draw(VALUES)
    elif what == "remove":
        del inner[key]
    elif what == "add" and isinstance(inner, dict):
        inner[draw.draw(st.text(max_size=6))] = draw.draw(VALUES)
    elif what == "add":
        inner.insert(key, draw.draw(VALUES))
    elif isinstance(inner, dict):
        other = draw.draw(st.sampled_from(sorted(inner)))
        inner[other] = inner.pop(key)
    return line


def attempt(call, *args):
    """What it gives, or None with what it refused."""
    try:
        return call(*args), ""
    except UsageError as error:
        return None, str(error)


def is_clear(message):
    return message.isprintable() and 10 < len(message) < 600


def either_whole_or_refused(folder):
    """Load, merge and write again: all of the folder's lines count, or one clear line says which does not."""
    df, refused = attempt(bench.load, folder)
    if df is None:
        assert is_clear(refused)
        return
    for name, read in (("tasks.jsonl", read_tasks), ("plan.jsonl", read_plan)):
        assert len(read(folder)) == (folder / name).read_bytes().count(b"\n"), "a line was dropped"
    plan = read_plan(folder)
    asked = {(Case.from_factors(line["case"]).id, metric) for line in plan for metric in line["metrics"]}
    have = df[["case_id", "metric", "env_id"]].astype(object).to_dict("records")
    assert len(asked) == len({(r["case_id"], r["metric"]) for r in have}) + missing(plan, have), (
        "a record was dropped"
    )
    out = folder.with_name("merged")
    shutil.rmtree(out, ignore_errors=True)
    merged, refused = attempt(merge, [folder], out)
    if merged is None:
        assert is_clear(refused)
    else:
        assert len(read_tasks(out)) == len(read_tasks(folder))
        assert len(bench.load(out)) >= len(df)
    for path in files.write(df, folder):
        assert bench.load(path).equals(df)


def fresh(sound, tmp_path):
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(sound, folder)


def dumps(value):
    return json.dumps(value).encode() + b"\n"


@pytest.mark.parametrize("name", ["tasks.jsonl", "plan.jsonl"])
def test_lines_whose_values_were_changed(sound, tmp_path, name, examples):
    lines = [json.loads(text) for text in (sound / name).read_bytes().splitlines()]

    def check(draw):
        folder = fresh(sound, tmp_path)
        at = draw.draw(st.integers(0, len(lines) - 1))
        changed = [mutated(draw, line) if i == at else line for i, line in enumerate(lines)]
        (folder / name).write_bytes(b"".join(map(dumps, changed)))
        either_whole_or_refused(folder)

    hold(examples, check, st.data())


BYTES = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["set", "cut", "insert", "end"]), st.binary(min_size=1, max_size=4)),
    min_size=1, max_size=3,
)  # fmt: skip


def damaged(text, changes):
    """The bytes with some of them changed."""
    for at, what, new in changes:
        at %= len(text) + 1
        if what == "end":
            text = text[:at]
        else:
            text = text[:at] + (b"" if what == "cut" else new) + text[at + (0 if what == "insert" else len(new)) :]
    return text


@pytest.mark.parametrize("name", ["tasks.jsonl", "plan.jsonl", "roofs.json", "env.json"])
def test_files_whose_bytes_were_changed(sound, tmp_path, name, examples):
    text = (sound / name).read_bytes()

    def check(changes):
        folder = fresh(sound, tmp_path)
        (folder / name).write_bytes(damaged(text, changes))
        either_whole_or_refused(folder)

    hold(examples, check, BYTES)


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_tables_whose_bytes_were_changed(sound, tmp_path, name, examples):
    df = bench.load(sound)
    files.write(df, tmp_path)
    text = (tmp_path / name).read_bytes()

    def check(changes):
        (tmp_path / name).write_bytes(damaged(text, changes))
        found, refused = attempt(bench.load, tmp_path / name)
        if found is None:
            assert is_clear(refused)
        else:
            assert tuple(found.columns) == COLUMNS
            assert name == "table.csv" or found.equals(df), "a checksum tells every change of the data"

    hold(examples, check, BYTES)


def test_a_file_of_records_is_data_and_runs_nothing(sound, tmp_path):
    """What looks like code, a format, a path or a pickle stays the text that it is."""
    folder = fresh(sound, tmp_path)
    code = "__import__('os').system('touch owned')"
    lines = read_tasks(folder)
    lines[0]["results"][0] |= {"reason": code, "path_built": "{0.__class__}", "unsupported": {"params": code}}
    lines[0]["results"][0]["details"]["py/object"] = "os.system"
    (folder / "tasks.jsonl").write_bytes(b"".join(map(text_of, lines)))
    df = bench.load(folder)
    assert code in set(df["reason"])
    assert not list(tmp_path.rglob("owned"))
    for name in ("table.parquet", "table.csv"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
        with pytest.raises(UsageError):
            bench.load(tmp_path / name)
