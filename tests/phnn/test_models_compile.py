"""The published models compile and export. By default each family at its smallest; ``--full``: every model."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from published import MODELS, SMALLEST, small

from phnn.tolerances import tolerance


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    full = metafunc.config.getoption("--full", default=False)
    if "inductor" in metafunc.fixturenames:
        metafunc.parametrize("inductor", MODELS if full else SMALLEST[:1])
    else:
        metafunc.parametrize("name", MODELS if full else SMALLEST)
        metafunc.parametrize("variant", ["real", "quaternion", 2, 4] if full else [4])


def _compiles(name, variant, backend):
    torch._dynamo.reset()
    model, x = small(name, variant)
    model.eval()  # one function of x, without dropout
    twin = copy.deepcopy(model)
    # torch's GRU is one that Dynamo steps around: SELDnet is two graphs
    compiled = torch.compile(twin, fullgraph=name != "seldnet", backend=backend)
    expected, y = model(x), compiled(x)
    assert (y - expected).norm() <= tolerance("float32", "model") * expected.norm()
    expected.square().sum().backward()
    y.square().sum().backward()
    for (key, mine), theirs in zip(twin.named_parameters(), model.parameters(), strict=True):
        assert mine.grad is not None, key
        assert (mine.grad - theirs.grad).norm() <= tolerance("float32", "model", "gradient") * theirs.grad.norm(), key


def test_models_compile(name, variant):
    _compiles(name, variant, "aot_eager")


@pytest.mark.system("g++")  # inductor's C++ compiler
def test_models_compile_with_inductor(inductor):
    _compiles(inductor, 4, "inductor")


def test_models_export(name, variant):
    model, x = small(name, variant)
    model.eval()
    with torch.no_grad(), warnings.catch_warnings():
        # of torch's own GRU, whose list of weights is set anew while it is traced
        warnings.filterwarnings("ignore", message="The tensor attributes? self.rnn._flat_weights")
        program = torch.export.export(model, (x,))
        torch.testing.assert_close(program.module()(x), model(x))
