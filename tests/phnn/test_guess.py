"""The path of a layer that was not tuned: a pure function of shapes."""

from __future__ import annotations

import pytest
import torch

import phnn
from phnn.auto import auto_path

LINEAR = {
    "n": 4,
    "rank": 8,
    "rows": 1024,
    "columns": 1024,
    "taps": 1,
    "positions": 1,
    "dtype": "float32",
    "device": "cpu",
    "phase": "infer",
    "convolution": False,
    "channels_last": False,
}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({}, "factored"),
        ({"phase": "train"}, "dense"),
        ({"positions": 256}, "bilinear"),
        ({"positions": 256, "rank": None}, "dense"),
        ({"positions": 256, "rank": 15}, "dense"),
        ({"positions": 256, "rows": 16}, "dense"),
        ({"rows": 64, "columns": 64}, "dense"),
        ({"device": "cuda", "positions": 256}, "dense"),
        ({"dtype": "bfloat16"}, "dense"),
        ({"convolution": True, "taps": 9, "positions": 2048}, "dense"),
        ({"convolution": True, "taps": 9, "positions": 2048, "channels_last": True}, "bilinear"),
    ],
)
def test_the_guess_follows_the_shapes(change, path):
    assert auto_path(**{**LINEAR, **change}) == path


def test_an_untuned_layer_follows_the_guess():
    layer = phnn.PHLinear(2048, 2048, algebra="quaternion")
    with torch.no_grad():
        layer(torch.randn(1, 2048))
        assert layer.path_built == "factored"
        layer(torch.randn(64, 2048))
        assert layer.path_built == "bilinear"
        layer(torch.randn(8, 2048))
        assert layer.path_built == "dense"


def test_the_guess_follows_a_decomposition_and_another_dtype():
    layer, x = phnn.PHLinear(512, 512, n=4), torch.randn(64, 512)
    with torch.no_grad():
        layer(x)
        assert layer.path_built == "dense"
        layer.decompose()
        layer(x)
        assert layer.path_built == "bilinear"
        layer.bfloat16()(x.bfloat16())
        assert layer.path_built == "dense"
