"""The tutorials run, in less time than a reader's, and end with what their text says.

``make docs`` executes them as they are; here they run with smaller parameters, in full under ``--full``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"


def run(name: str, **parameters: Any) -> dict[str, Any]:
    """The names that a tutorial ends with; ``parameters`` take the place of those in its parameters cell."""
    path = TUTORIALS / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": name}
    given = False
    for cell in re.finditer(r"^# %%(.*)\n((?:(?!# %%).*\n)*)", text, re.M):
        if "[markdown]" in cell[1]:
            continue
        line = text[: cell.start(2)].count("\n")
        exec(compile("\n" * line + cell[2], str(path), "exec"), names)
        if '"parameters"' in cell[1]:
            assert parameters.keys() <= names.keys(), "the tutorial has such parameters"
            names |= parameters
            given = True
    assert given, f"{path} has a cell with the tag parameters"
    return names


@pytest.fixture(autouse=True)
def _as_it_was():
    """Tutorials take one thread and a seed, and draw: nothing of it stays."""
    import matplotlib.pyplot as plt

    threads, state, backend = torch.get_num_threads(), torch.get_rng_state(), mpl.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


@pytest.fixture
def full(request) -> bool:
    return bool(request.config.getoption("--full", default=False))


def test_a_student_learns_the_product_and_its_rule(full):
    found = run("learn-the-product", **({} if full else {"steps": 12}))
    assert found["losses"][-1] < 1e-6 * found["losses"][0]
    assert found["error"] < 1e-3
    assert found["distance"] < 1e-3, "the rule is Hamilton's, in a basis of its own"
    assert found["apart"] > 0.1
    assert found["between"] < 1e-3, "another start finds another basis and the same rule"


def test_a_convolution_learns_the_rule_that_it_was_shown(full):
    found = run("learn-the-rule", **({} if full else {"steps": 15}))
    assert found["found"] < 1e-2
    assert found["error"] < 1e-2, "on a photograph that it has not seen"
    table = found["table"]
    assert table.diagonal().max() < 1e-2
    assert (table + torch.eye(4)).min() > 0.1, "and no other"
    assert found["noisy"] == sorted(found["noisy"]), "noise costs"


def test_a_torchvision_model_is_compressed_and_baked(full):
    found = run("compress-a-model", **({} if full else {"epochs": 1, "more_epochs": 1, "images": 400}))
    results = found["results"]
    assert results["n = 4, trained on"][0] < 0.27 * results["real"][0]
    assert found["difference"] < 1e-2, "what is baked computes the same"
    assert found["file_bytes"](found["quarters"]) < 0.27 * found["file_bytes"](found["plain"])
    if full:
        assert results["real"][1] > 90
        assert results["n = 4, trained on"][1] > results["n = 4, projected"][1]


@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("*.py")), ids=lambda path: path.stem)
def test_every_tutorial_is_tested_here(path):
    assert f'run("{path.stem}"' in Path(__file__).read_text(encoding="utf-8")
