"""init="project": what is hypercomplex already is found again, in every layer, and the report's error is the weight's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import phnn
from phnn.tolerances import tolerance

LAYERS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "linear": (lambda: nn.Linear(16, 24), ((3, 16),)),
    "linear without bias": (lambda: nn.Linear(16, 24, bias=False), ((3, 16),)),
    "conv1d": (lambda: nn.Conv1d(16, 8, 3, stride=2), ((2, 16, 9),)),
    "conv2d": (lambda: nn.Conv2d(16, 8, (3, 1), padding="same", padding_mode="reflect"), ((2, 16, 5, 5),)),
    "conv3d": (lambda: nn.Conv3d(16, 8, 2, dilation=2), ((2, 16, 4, 4, 4),)),
    "grouped conv2d": (lambda: nn.Conv2d(16, 32, 3, groups=2), ((2, 16, 5, 5),)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(16, 8, 3, 2, 1, 1), ((2, 16, 5),)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(16, 8, 3, stride=2), ((2, 16, 3, 3),)),
    "grouped conv_transpose2d": (lambda: nn.ConvTranspose2d(16, 32, 3, groups=2), ((2, 16, 3, 3),)),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(8, 16, 2), ((2, 8, 3, 3, 3),)),
    "rnn": (lambda: nn.RNN(8, 16, nonlinearity="relu"), ((4, 2, 8),)),
    "gru": (lambda: nn.GRU(8, 16, 2, bidirectional=True, batch_first=True), ((2, 4, 8),)),
    "lstm": (lambda: nn.LSTM(8, 16, 3, bias=False, bidirectional=True), ((4, 2, 8),)),
    "attention": (lambda: nn.MultiheadAttention(16, 4, batch_first=True), ((2, 5, 16),) * 3),
    "attention of other widths": (
        lambda: nn.MultiheadAttention(16, 2, kdim=8, vdim=12, add_bias_kv=True, add_zero_attn=True),
        ((5, 2, 16), (6, 2, 8), (6, 2, 12)),
    ),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True), ((2, 5, 16),)),
    "encoder layer, norm first": (
        lambda: nn.TransformerEncoderLayer(16, 4, 32, 0.0, norm_first=True, bias=False),
        ((5, 2, 16),),
    ),
}


def first_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("over", [{"n": 4}, {"n": 2}, {"algebra": "quaternion"}, {"algebra": "dual"}], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_weight_that_is_hypercomplex_already_is_reproduced(kind: str, over: dict[str, Any]) -> None:
    make, shapes = LAYERS[kind]
    ph = phnn.convert(make(), **over)
    with torch.no_grad():
        for name, parameter in ph.named_parameters():
            if not name.startswith("norm"):
                parameter.add_(0.1 * torch.randn_like(parameter))  # biases of attention are zero at first
    real = phnn.to_real(ph)
    again = phnn.convert(real, init="project", **over)
    assert [type(m) for m in again.modules()] == [type(m) for m in ph.modules()]
    assert again.conversion.layers[0].error <= 1e-6
    inputs = [torch.randn(shape) for shape in shapes]
    y, expected = first_of(again(*inputs)), first_of(ph(*inputs))
    assert (y - expected).norm() <= tolerance("float32", "composite") * expected.norm()
    assert (first_of(real(*inputs)) - expected).norm() <= tolerance("float32", "composite") * expected.norm()


def test_projection_reports_the_error_of_the_weight_that_it_makes() -> None:
    real = nn.Linear(32, 24)
    converted = phnn.convert(real, n=4, init="project")
    error = (converted.weight - real.weight).norm() / real.weight.norm()
    assert converted.conversion.layers[0].error == pytest.approx(float(error.detach()), rel=1e-5)
    assert torch.equal(converted.bias, real.bias)
    assert phnn.convert(real, "quaternion", init="project").conversion.layers[0].error > error, (
        "a rule to choose helps"
    )


def test_projection_is_nearer_to_the_trained_function_than_a_fresh_layer() -> None:
    torch.manual_seed(0)
    near = phnn.PHLinear(32, 32, n=4)
    real = phnn.to_real(near)
    with torch.no_grad():
        real.weight.add_(0.01 * torch.randn_like(real.weight))
    x = torch.randn(64, 32)
    error = {i: (phnn.convert(real, init=i)(x) - real(x)).norm() / real(x).norm() for i in ("random", "project")}
    assert error["project"] < 0.15 < error["random"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_projection_works_in_every_dtype(dtype: torch.dtype) -> None:
    real = phnn.to_real(phnn.PHLinear(16, 16, n=2, dtype=dtype))
    report = phnn.convert(real, n=2, init="project").conversion
    assert report.layers[0].error <= {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float64: 1e-7}[dtype]


def test_a_projected_layer_can_be_trained_on() -> None:
    """A and F have the scales of a fresh layer, so that one learning rate serves both."""
    real = nn.Linear(64, 64)
    fresh, projected = phnn.PHLinear(64, 64, n=4), phnn.convert(real, init="project")
    for name in ("A", "F"):
        ratio = getattr(projected, name).detach().square().mean() / getattr(fresh, name).detach().square().mean()
        assert 0.1 < float(ratio) < 10
