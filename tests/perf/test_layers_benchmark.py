"""The registry's layers under pytest-benchmark, for developers: ``pytest tests/perf --benchmark-enable``.

Without that option each is called once, which is what CI does: it asserts that the timing code runs, not a time.
"""

import pytest
import torch

import phnn
from phnn.registry import find


@pytest.mark.parametrize("algebra", ["real", "quaternion"])
@pytest.mark.parametrize("name", [n for n in phnn.list_layers() if n in ("linear", "conv2d")])
def test_forward(benchmark, name, algebra):
    spec = find(name)
    layer = spec.build(spec.shape, algebra=algebra).eval()
    inputs = spec.example_inputs(spec.shape)
    with torch.inference_mode():
        assert torch.isfinite(benchmark(layer, *inputs)).all()
