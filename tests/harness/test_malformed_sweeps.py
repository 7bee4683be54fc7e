"""Sweep files that went wrong in every way: one clear line each, never a traceback, never a silent drop.

``make test-faults`` tries 1,000 of each kind.
"""

import copy
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.metrics import METRICS
from bench.plan import expansion, selection, sweep
from bench.plan.case import tasks

KINDS = {name: metric.task for name, metric in METRICS.items()}
QUICK = next(path for path in sweep.own_sweeps() if path.stem == "quick").read_text()
TREE = tomllib.loads(QUICK) | {"plugins": [], "launch": {}}
TREE.pop("launch")

# what people and programs write by mistake, and what somebody might write on purpose
STRANGE = [
    "", "ph", "real", "../../etc", "/", "a/b", "..", "x" * 300, "\x00", "\u202e", "ph(4)", "cyclic(99999999)", "clifford(40,0,0)",
    "__import__('os')", "os:system", "infer", "cuda", "tuned", "16-32-64", "generic", "digits", "accuracy", "latency",
    0, -1, 1, 2, 3, 7, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), True, False,
    [], {}, [[]], [{}], [1, "a", None], ["real", ["ph"]], {"a": {"b": 1}}, list(range(2000)), [1.5, 2], ["ph"] * 3,
]  # fmt: skip


def toml(value):
    """A value as TOML writes it, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value if item is not None) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), repr(value))
    return json.dumps(value) if isinstance(value, str) else str(value)


def paths(tree, at=()):
    """Where something is in a tree."""
    yield at
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield from paths(item, (*at, key))


def parent(tree, path):
    for key in path[:-1]:
        tree = tree[key]
    return tree


@st.composite
def mutated_trees(draw):
    """A sweep with a few of its parts replaced, left out, doubled, renamed or moved."""
    tree = copy.deepcopy(TREE)
    for _ in range(draw(st.integers(1, 3))):
        known = [path for path in paths(tree) if path]
        path = draw(st.sampled_from(known))
        inside, key = parent(tree, path), path[-1]
        match draw(st.sampled_from(["replace", "replace", "leave out", "add", "rename", "list", "move"])):
            case "replace":
                inside[key] = draw(st.sampled_from(STRANGE))
            case "leave out":
                del inside[key]
            case "add" if isinstance(inside, dict):
                names = ["channels", "n", "path", "rank", "threads", "compile", "priority", "plugins", "control", "x"]
                inside[draw(st.sampled_from(names))] = draw(st.sampled_from(STRANGE))
            case "rename" if isinstance(inside, dict):
                inside[draw(st.sampled_from([str(key)[:-1], str(key).upper(), "axes", "cases"]))] = inside.pop(key)
            case "list":
                inside[key] = [inside[key], draw(st.sampled_from(STRANGE))]
            case "move":
                inside[key] = (
                    copy.deepcopy(parent(tree, draw(st.sampled_from(known)))) if len(path) > 1 else inside[key]
                )
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in tree.items()).encode(
        "utf-8", "surrogatepass"
    )


@st.composite
def mutated_bytes(draw):
    """The text of a sweep with some bytes cut out, put in or exchanged."""
    text = QUICK.encode()
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 40))
        new = draw(
            st.one_of(
                st.binary(max_size=20),
                st.sampled_from([b"[" * 5000, b"9" * 5000, b'"', b"\n[[cases]]\n", b"=", b"{"]),
            )
        )
        text = text[:at] + new + text[at + length :]
    return text


def is_planned_or_refused(path: Path, data: bytes) -> str:
    """The text of the refusal, empty if there is none; anything else than these two is a mistake of ours."""
    path.write_bytes(data)
    try:
        loaded = sweep.load(path)
        planned = expansion.expand(loaded)
        tasks(planned, loaded.protocol.processes, KINDS)
        selection.shard(planned, "1/1")
    except UsageError as error:
        text = str(error)
        assert text
        assert len(text.splitlines()) == 1, text
        assert len(text) < 2000, text
        return text
    assert planned, "a sweep without cases, and nobody said so"
    assert loaded.name.replace(".", "").strip(), "no name of a folder"
    assert "/" not in loaded.name
    return ""


@pytest.mark.parametrize("kind", [mutated_trees, mutated_bytes])
def test_a_damaged_sweep_is_planned_or_refused_in_one_line(tmp_path, request, kind):
    found = []

    @settings(
        max_examples=1000 if request.config.getoption("--full") else 100, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(kind())
    def check(data):
        found.append(is_planned_or_refused(tmp_path / "sweep.toml", data))

    check()
    assert sum(map(bool, found)) > len(found) / 4, "the mutations hardly damage anything"


@pytest.mark.parametrize(
    "name", ["../out", "a/b", "/tmp/x", "..", ".", "", "a\x00b", "con\nname", "x" * 101, "~", "-x"]
)
def test_no_name_of_a_sweep_leads_out_of_the_folder_of_results(tmp_path, name):
    text = QUICK.replace('name = "quick"', f"name = {json.dumps(name)}")
    assert is_planned_or_refused(tmp_path / "sweep.toml", text.encode())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("timeout = 300", "timeout = inf", "protocol.timeout: Input should be a finite number"),
        ("timeout = 300", "timeout = 1e300", "protocol.timeout: Input should be less than or equal to 604800"),
        ("channels = [32, 128]", f"channels = {list(range(4, 4004))}\nbatch = {list(range(1, 400))}", "combinations are more than 1,000,000"),
        ("processes = 3", f"processes = {'[' * 5000}", "is not valid TOML"),
        ("processes = 3", f"processes = {'9' * 5000}", "is not valid TOML"),
    ],
)  # fmt: skip
def test_what_would_hang_or_fill_the_machine_is_refused(tmp_path, old, new, expected):
    text = QUICK.replace(old, new, 1)
    if "batch = [" in new:
        text = text.replace("batch = 8\n", "", 1)
    assert expected in is_planned_or_refused(tmp_path / "sweep.toml", text.encode())
