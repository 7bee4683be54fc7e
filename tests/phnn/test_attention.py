"""Attention and the transformer encoder layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import phnn


def twins(**options: Any) -> tuple[Any, Any]:
    """Attention over the learned algebra of dimension 1, and torch's with the same weights."""
    layer = phnn.PHMultiheadAttention(8, 2, algebra="ph", n=1, **options)
    real = nn.MultiheadAttention(8, 2, **options)
    state = {"out_proj.weight": layer.out_proj.weight, "out_proj.bias": layer.out_proj.bias}
    weights = [getattr(layer, f"{name}_proj").weight for name in "qkv"]
    if "kdim" in options:
        state |= {f"{name}_proj_weight": W for name, W in zip("qkv", weights, strict=True)}
    else:
        state["in_proj_weight"] = torch.cat(weights)
    with torch.no_grad():
        for name in "qkv":
            getattr(layer, f"{name}_proj").bias.normal_()
    state["in_proj_bias"] = torch.cat([getattr(layer, f"{name}_proj").bias for name in "qkv"])
    for name in ("bias_k", "bias_v"):
        if getattr(layer, name) is not None:
            state[name] = getattr(layer, name)
    real.load_state_dict(state, strict=True)
    return layer, real


CAUSAL = torch.ones(4, 5, dtype=torch.bool).triu(1)
PADDING = torch.tensor([[False] * 5, [False, False, False, True, True], [False] * 4 + [True]])
CALLS: list[dict[str, Any]] = [
    {},
    {"attn_mask": CAUSAL},
    {"attn_mask": torch.linspace(-1, 1, 20).reshape(4, 5)},
    {"attn_mask": torch.linspace(-1, 1, 120).reshape(6, 4, 5)},
    {"key_padding_mask": PADDING},
    {"key_padding_mask": PADDING, "attn_mask": CAUSAL},
    {"average_attn_weights": False},
]


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 6, "vdim": 4}])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("need_weights", [True, False])
def test_it_is_torchs_attention_on_the_weights_that_it_builds(
    options: dict[str, Any], call: dict[str, Any], need_weights: bool
) -> None:
    layer, real = twins(batch_first=True, **options)
    if "attn_mask" in call and call["attn_mask"].dtype is not torch.bool and "key_padding_mask" in call:
        pytest.skip("torch wants both masks of one type")
    q, k, v = torch.randn(3, 4, 8), torch.randn(3, 5, layer.kdim), torch.randn(3, 5, layer.vdim)
    y, weights = layer(q, k, v, need_weights=need_weights, **call)
    expected, expected_weights = real(q, k, v, need_weights=need_weights, **call)
    torch.testing.assert_close(y, expected)
    if need_weights:
        torch.testing.assert_close(weights, expected_weights)
    else:
        assert weights is None


@pytest.mark.parametrize("need_weights", [True, False])
def test_length_first_and_unbatched_inputs_run_as_torchs(need_weights: bool) -> None:
    layer, real = twins()
    x = torch.randn(5, 3, 8)
    for each in (x, x[:, 0]):
        y, weights = layer(each, each, each, need_weights=need_weights)
        expected, expected_weights = real(each, each, each, need_weights=need_weights)
        torch.testing.assert_close(y, expected)
        if need_weights:
            torch.testing.assert_close(weights, expected_weights)


@pytest.mark.parametrize("need_weights", [True, False])
def test_is_causal_is_its_mask(need_weights: bool) -> None:
    layer = phnn.PHMultiheadAttention(16, 2, n=4, batch_first=True)
    x = torch.randn(2, 4, 16)
    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
    y, _ = layer(x, x, x, need_weights=need_weights, is_causal=True)
    torch.testing.assert_close(y, layer(x, x, x, need_weights=need_weights, attn_mask=mask)[0])
    assert not torch.allclose(y, layer(x, x, x)[0])


def test_heads_take_their_share_of_every_component() -> None:
    layer = phnn.PHMultiheadAttention(16, 2, n=4)
    x = torch.arange(16.0).reshape(1, 1, 16)
    heads = layer._split(x)
    assert heads[0, 0, 0].tolist() == [0, 1, 4, 5, 8, 9, 12, 13]
    assert torch.equal(layer._join(heads), x)


def test_dropout_acts_on_the_weights_in_training_alone() -> None:
    layer = phnn.PHMultiheadAttention(16, 2, n=4, dropout=0.5, batch_first=True)
    x = torch.randn(2, 8, 16)
    dropped = layer(x, x, x)[1]
    assert (dropped == 0).any()
    assert not torch.equal(layer(x, x, x, need_weights=False)[0], layer(x, x, x, need_weights=False)[0])
    layer.eval()
    assert torch.equal(layer(x, x, x)[0], layer(x, x, x)[0])


def test_initial_projections_have_torchs_variance() -> None:
    real = nn.MultiheadAttention(128, 4).in_proj_weight
    layers = [phnn.PHMultiheadAttention(128, 4, algebra="octonion") for _ in range(5)]
    std = torch.stack([getattr(layer, f"{name}_proj").weight for layer in layers for name in "qkv"]).detach().std()
    assert float(std) == pytest.approx(float(real.detach().std()), rel=0.03)
    assert all(layer.q_proj.bias.abs().max() == 0 for layer in layers)


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_encoder_layer_is_torchs_on_the_weights_that_it_builds(norm_first: bool) -> None:
    options: dict[str, Any] = {"dim_feedforward": 12, "norm_first": norm_first, "activation": "gelu"}
    layer = phnn.PHTransformerEncoderLayer(8, 2, algebra="ph", n=1, dropout=0.0, **options)
    real = nn.TransformerEncoderLayer(8, 2, dropout=0.0, **options)
    mine = layer.self_attn
    state = {
        "self_attn.in_proj_weight": torch.cat([getattr(mine, f"{name}_proj").weight for name in "qkv"]),
        "self_attn.in_proj_bias": torch.cat([getattr(mine, f"{name}_proj").bias for name in "qkv"]),
        "self_attn.out_proj.weight": mine.out_proj.weight,
        "self_attn.out_proj.bias": mine.out_proj.bias,
    }
    for name in ("linear1", "linear2", "norm1", "norm2"):
        own = getattr(layer, name)
        state |= {f"{name}.weight": own.weight, f"{name}.bias": own.bias}
    real.load_state_dict(state, strict=True)
    x, mask = torch.randn(5, 3, 8), torch.ones(5, 5, dtype=torch.bool).triu(1)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[0, 3:] = True
    for masks in ({}, {"src_mask": mask}, {"src_key_padding_mask": padding}):
        torch.testing.assert_close(layer(x, **masks), real(x, **masks))


def test_the_encoder_layer_stacks_in_torchs_encoder() -> None:
    layer = phnn.PHTransformerEncoderLayer(16, 2, 32, n=4, batch_first=True)
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    assert stack(torch.randn(2, 3, 16)).shape == (2, 3, 16)


def test_real_is_torchs_own() -> None:
    assert type(phnn.PHMultiheadAttention(8, 2, algebra="real")) is nn.MultiheadAttention
    assert type(phnn.PHTransformerEncoderLayer(8, 2, algebra="real")) is nn.TransformerEncoderLayer


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phnn.PHMultiheadAttention(16, 3, n=4), "num_heads=3"),
        (lambda: phnn.PHMultiheadAttention(16, 8, n=4), "embed_dim per head=2"),
        (lambda: phnn.PHMultiheadAttention(16, 2, n=4, kdim=6), "kdim=6"),
        (lambda: phnn.PHTransformerEncoderLayer(16, 2, 30, n=4), "dim_feedforward=30"),
        (lambda: phnn.PHTransformerEncoderLayer(16, 2, 32, n=4, activation="rely"), "did you mean relu"),
        (lambda: phnn.PHMultiheadAttention(16, 2, n=4)(*[torch.randn(16)] * 3), "2D"),
        (lambda: phnn.PHMultiheadAttention(16, 0, n=4), "num_heads=0"),
    ],
)
def test_what_cannot_be_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


X = torch.randn(2, 3, 16)


@pytest.mark.parametrize(
    ("inputs", "masks", "message"),
    [
        ((X, X, X), {"key_padding_mask": torch.tensor([[0, 0, 1]] * 2)}, "key_padding_mask is boolean or floating"),
        ((X, X, X), {"attn_mask": torch.ones(3, 3, dtype=torch.int32)}, "attn_mask is boolean or floating"),
        ((X, X, X), {"key_padding_mask": torch.zeros(1, 3, dtype=torch.bool)}, r"\(1, 3\), not \(2, 3\)"),
        ((X, X, X), {"attn_mask": torch.zeros(1, 3)}, r"\(1, 3\), not \(3, 3\)"),
        ((X, X, X), {"attn_mask": torch.zeros(2, 3, 3)}, r"\(2, 3, 3\), not \(3, 3\) or \(4, 3, 3\)"),
        ((X, X[:1], X[:1]), {}, "do not fit"),
        ((X, X, X[:, :2]), {}, "do not fit"),
        ((torch.nested.nested_tensor(list(X), layout=torch.jagged),) * 3, {}, "nested"),
    ],
)
@pytest.mark.parametrize("need_weights", [True, False])
def test_what_would_broadcast_unseen_is_refused(inputs: Any, masks: Any, message: str, need_weights: bool) -> None:
    layer = phnn.PHMultiheadAttention(16, 2, n=4, batch_first=True)
    with pytest.raises(ValueError, match=message):
        layer(*inputs, need_weights=need_weights, **masks)


def test_the_extra_key_and_value_start_with_torchs_variance() -> None:
    layer = phnn.PHMultiheadAttention(512, 4, n=4, add_bias_kv=True)
    real = nn.MultiheadAttention(512, 4, add_bias_kv=True)
    for name in ("bias_k", "bias_v"):
        assert float(getattr(layer, name).std()) == pytest.approx(float(getattr(real, name).std()), rel=0.2)


@pytest.mark.parametrize("name", ["dropout", "dropout1", "dropout2"])
def test_each_dropout_of_the_encoder_layer_acts_in_training(name: str) -> None:
    layer = phnn.PHTransformerEncoderLayer(16, 2, 32, dropout=0.0, n=4)
    x = torch.randn(5, 3, 16)
    torch.testing.assert_close(layer(x), layer(x))
    getattr(layer, name).p = 0.5
    assert not torch.allclose(layer(x), layer(x))
    layer.eval()
    torch.testing.assert_close(layer(x), layer(x))


def test_the_encoder_layer_hands_its_probability_to_every_dropout() -> None:
    layer = phnn.PHTransformerEncoderLayer(16, 2, 32, dropout=0.3, n=4)
    assert layer.dropout.p == layer.dropout1.p == layer.dropout2.p == layer.self_attn.dropout == 0.3


def test_gradients_are_those_of_finite_differences() -> None:
    layer = phnn.PHMultiheadAttention(4, 2, n=2, dtype=torch.float64, add_bias_kv=True)
    names = list(dict(layer.named_parameters()))

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, x, x))[0]

    x = torch.randn(3, 1, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(call, (x, *layer.parameters()), fast_mode=True)
