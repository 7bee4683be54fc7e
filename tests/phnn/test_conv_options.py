"""Convolutions: every two options meet, forward and gradients against the definition. ``--full``: their product.

dtype, unbatched inputs and memory format take turns.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pairwise import Row, all_rows, pairwise
from ph_reference import parameters64, reference, relative_error

import phnn
from phnn.tolerances import tolerance

FACTORS: dict[str, list[Any]] = {
    "kind": ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"],
    "over": ["quaternion", "dual", "cyclic(3)", "ph2", "ph4"],
    "stride": [1, 2],
    "padding": [0, 1, 2, "same", "valid"],
    "padding_mode": ["zeros", "reflect", "replicate", "circular"],
    "dilation": [1, 2],
    "groups": [1, 2, 3],
    "bias": [True, False],
    "output_padding": [0, 1],
    "path": ["dense", "kron"],
}


def _allowed(row: Row) -> bool:
    transposed = row["kind"].startswith("conv_transpose")
    if transposed and (row["padding_mode"] != "zeros" or isinstance(row["padding"], str)):
        return False
    if not transposed and row["output_padding"]:
        return False
    if row["output_padding"] >= max(row["stride"], row["dilation"]):
        return False
    return not (row["padding"] == "same" and row["stride"] != 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full", default=False)
        rows = (all_rows if full else pairwise)(FACTORS, _allowed)
        for i, row in enumerate(rows):
            row["dtype"] = ("float64", "float32")[i % 2]
            row["batched"] = i % 3 > 0
            row["channels_last"] = i % 5 > 2 and row["kind"].endswith("2d") and row["batched"]
        metafunc.parametrize("row", rows, ids=["-".join(str(value) for value in row.values()) for row in rows])


def test_a_convolution_equals_its_definition_whatever_its_options(row: Row) -> None:
    learned = row["over"].startswith("ph")
    n = int(row["over"][2:]) if learned else phnn.algebra(row["over"]).n
    options = {
        name: row[name] for name in ("stride", "padding", "dilation", "groups", "bias", "padding_mode", "path")
    }
    if row["kind"].startswith("conv_transpose"):
        options["output_padding"] = row["output_padding"]
    dtype = getattr(torch, row["dtype"])
    width = n * row["groups"]
    layer = phnn.create_layer(
        row["kind"], width, 2 * width, 3, algebra="ph" if learned else row["over"], n=n, dtype=dtype, **options
    )
    dims = int(row["kind"][-2])
    x = torch.randn(2, width, *[6, 5, 5][:dims], dtype=dtype)
    x = x if row["batched"] else x[0]
    x = x.to(memory_format=torch.channels_last) if row["channels_last"] else x
    params, x64 = parameters64(layer), x.double().requires_grad_(True)
    x.requires_grad_(True)
    y, expected = layer(x), reference(layer, params, x64)
    assert y.shape == expected.shape
    assert relative_error(y, expected) <= tolerance(row["dtype"])
    probe = torch.randn_like(y)
    y.backward(probe)
    expected.backward(probe.double())
    for name, p in [*layer.named_parameters(), ("input", x)]:
        wanted = params.get(name, x64).grad
        assert p.grad is not None
        assert wanted is not None
        assert relative_error(p.grad, wanted) <= tolerance(row["dtype"], "composite", "gradient"), name


# ----------------------------------------------------------------------------------------------- memory formats


@pytest.mark.parametrize(
    "make",
    [
        lambda: phnn.PHConv2d(8, 8, 3, n=4),
        lambda: phnn.PHConv2d(8, 8, 3, n=4, groups=2),
        lambda: phnn.PHConvTranspose2d(8, 8, 3, algebra="quaternion"),
        lambda: phnn.QuaternionRotationConv2d(8, 8, 3),
        lambda: phnn.create_model("resnet20", algebra="quaternion", in_channels=8).eval(),
    ],
)
def test_a_module_goes_channels_last_and_computes_the_same(make: Any) -> None:
    module, x = make(), torch.randn(2, 8, 16, 16)
    with torch.no_grad():
        expected = module(x)
        y = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert relative_error(y, expected.double()) <= tolerance("float32", "model")
    assert all(p.is_contiguous() for name, p in module.named_parameters() if name.endswith(("F", "scale")))


def test_the_filters_of_one_dimension_keep_their_strides() -> None:
    """F of a Conv1d has four dimensions, as the weight of a Conv2d has: but they are not an image's."""
    layer = phnn.PHConv1d(8, 8, 3, n=4).to(memory_format=torch.channels_last)
    assert layer.F.is_contiguous()
    assert layer.double().F.dtype is torch.float64


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [phnn.PHConv2d, phnn.PHConvTranspose2d, phnn.QuaternionRotationConv2d])
def test_under_autocast_the_output_has_autocasts_dtype(kind: Any, groups: int) -> None:
    layer = kind(16, 16, 3, algebra="quaternion", groups=groups)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(2, 16, 5, 5)).dtype is torch.bfloat16


@pytest.mark.parametrize("kind", [phnn.PHConv2d, phnn.PHConvTranspose2d, phnn.QuaternionRotationConv2d])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("channels", [8, 17, 32])
def test_a_wrong_number_of_channels_is_named_with_the_right_one(kind: Any, groups: int, channels: int) -> None:
    layer = kind(16, 16, 3, algebra="quaternion", groups=groups)
    with pytest.raises(RuntimeError, match="16 channels"):
        layer(torch.randn(2, channels, 5, 5))
    with pytest.raises(RuntimeError):
        layer(torch.randn(2, 3, 16, 5, 5))
