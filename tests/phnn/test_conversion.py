"""convert: which layers change, and why others stay."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from converted import Net, becomes
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

import phnn
from phnn.tolerances import tolerance


def test_every_layer_whose_widths_fit_changes_and_the_classifier_stays() -> None:
    assert becomes(Net()) == {
        "stem": "n=4 does not divide in_channels=3 (nearest: 4)",
        "body.0": "PHConv2d",
        "body.3": "PHConv2d",
        "body.4": "depthwise: one channel in each of its 16 groups",
        "body.5": "PHConvTranspose2d",
        "hidden": "PHLinear",
        "head": "the last layer (last='real')",
    }


def test_the_ends_follow_their_rules() -> None:
    found = becomes(Net(), n=2, first="real", last="convert")
    assert found["stem"] == "n=2 does not divide in_channels=3 (nearest: 2 or 4)"
    assert found["head"] == "PHLinear"
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert becomes(net, n=2, first="real") == {
        "0": "the first layer (first='real')",
        "1": "PHLinear",
        "2": "the last layer (last='real')",
    }


def test_a_model_that_is_one_layer_changes_itself() -> None:
    converted = phnn.convert(nn.Linear(8, 8), n=2, first="real")
    assert type(converted) is phnn.PHLinear
    assert converted.conversion.converted[0].name == ""


def test_a_last_layer_that_is_no_classifier_changes() -> None:
    assert becomes(nn.Sequential(nn.Linear(8, 8), nn.GRU(8, 8)))["1"] == "PHGRU"


@pytest.mark.parametrize(
    ("patterns", "changed"),
    [
        ({"include": "body.*"}, {"body.0", "body.3", "body.5"}),
        ({"include": ["body.0", "h*"]}, {"body.0", "hidden"}),
        ({"exclude": "body.*"}, {"hidden"}),
        ({"include": "body.*", "exclude": ("body.[03]",)}, {"body.5"}),
        ({"include": ()}, set()),
    ],
)
def test_patterns_choose_layers_by_name(patterns: dict[str, Any], changed: set[str]) -> None:
    report = phnn.convert(Net(), **patterns).conversion
    assert {layer.name for layer in report.converted} == changed


def test_a_pattern_says_that_it_kept_a_layer() -> None:
    assert becomes(Net(), exclude="hid*")["hidden"] == "excluded by 'hid*'"
    assert becomes(Net(), include="body.*")["hidden"] == "not included by 'body.*'"


def test_over_the_real_numbers_nothing_changes() -> None:
    net = Net()
    converted = phnn.convert(net, "real")
    assert not converted.conversion.converted
    assert list(converted.state_dict()) == list(net.state_dict())


class MyLinear(nn.Linear):
    pass


def _tied() -> nn.Module:
    pair = nn.ModuleList([nn.Embedding(8, 8), nn.Linear(8, 8)])
    pair[1].weight = pair[0].weight
    return pair


def _with(layer: Any, change: Any) -> Any:
    change(layer)
    return layer


_X = nn.Parameter(torch.zeros(2))
STAYS = {
    "a subclass": (lambda: MyLinear(8, 8), "MyLinear is a subclass of Linear"),
    "a hook": (lambda: _with(nn.Linear(8, 8), lambda m: m.register_forward_hook(lambda *_: None)), "it has hooks"),
    "a backward hook": (
        lambda: _with(nn.Linear(8, 8), lambda m: m.register_full_backward_hook(lambda *_: None)),
        "it has hooks",
    ),
    "a hook on its state": (
        lambda: _with(nn.Linear(8, 8), lambda m: m.register_state_dict_post_hook(lambda *_: None)),
        "it has hooks",
    ),
    "old weight norm": (lambda: weight_norm(nn.Conv1d(8, 8, 1)), "it has hooks"),
    "pruning": (lambda: prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.5), "it has hooks"),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(8, 8)), "its weight is parametrized"),
    "a forward": (lambda: _with(nn.Linear(8, 8), lambda m: setattr(m, "forward", abs)), "it has a forward of its own"),
    "a parameter": (lambda: _with(nn.Linear(8, 8), lambda m: m.register_parameter("lora", _X)), "not torch's: lora"),
    "a buffer": (lambda: _with(nn.Linear(8, 8), lambda m: m.register_buffer("seen", _X.data)), "buffers.*: seen"),
    "a part": (lambda: _with(nn.Linear(8, 8), lambda m: m.add_module("more", nn.ReLU())), "parts.*: more"),
    "a weight of another shape": (
        lambda: _with(nn.Linear(8, 8), lambda m: setattr(m, "weight", nn.Parameter(torch.zeros(4, 8)))),
        "parameters are not torch's: weight",
    ),
    "complex numbers": (lambda: nn.Linear(8, 8, dtype=torch.complex64), "weights are Parameter of torch.complex64"),
    "two dtypes": (
        lambda: _with(nn.Linear(8, 8), lambda m: setattr(m, "bias", nn.Parameter(m.bias.double()))),
        "differ in device or dtype",
    ),
    "projections of an LSTM": (lambda: nn.LSTM(8, 8, proj_size=4), "proj_size=4 is not supported"),
    "heads": (lambda: nn.MultiheadAttention(8, 4), "embed_dim per head=2"),
    "a cut encoder layer": (
        lambda: _with(nn.TransformerEncoderLayer(8, 2, 8), lambda m: setattr(m, "norm1", nn.Identity())),
        "its encoder layer.* stays: its parameters are not torch's: norm1.bias, norm1.weight",
    ),
    "groups": (lambda: nn.Conv2d(16, 16, 1, groups=8), "in_channels per group=2"),
}  # fmt: skip


@pytest.mark.parametrize("case", STAYS)
def test_what_is_not_torchs_own_layer_stays_as_it_is(case: str) -> None:
    make, expected = STAYS[case]
    layer = make()
    converted = phnn.convert(nn.ModuleList([layer, nn.Linear(8, 8)]), n=4)
    reasons = [change.reason or "" for change in converted.conversion.layers]
    assert any(re.search(expected, reason) for reason in reasons), reasons
    assert type(converted[0]) is type(layer)


def test_a_tied_weight_stays_tied() -> None:
    model = nn.Sequential(_tied(), nn.Linear(8, 8))
    converted = phnn.convert(model, n=2)
    assert converted.conversion.layers[0].reason == "its weight is also 0.0.weight"
    assert converted[0][0].weight is converted[0][1].weight
    assert converted[0][0].weight is not model[0][0].weight


def test_a_module_used_at_several_places_stays_one_module() -> None:
    shared = nn.Linear(8, 8)
    model = nn.Module()
    model.a, model.b, model.c = shared, nn.Sequential(shared), nn.Linear(8, 8)
    model.plain = [shared, {"again": shared}]
    converted = phnn.convert(model, n=2)
    assert type(converted.a) is phnn.PHLinear
    assert converted.a is converted.b[0] is converted.plain[0] is converted.plain[1]["again"]
    row = converted.conversion.layers[0]
    assert (row.name, row.aliases) == ("a", ("b.0",))
    assert converted.conversion.params_after == sum(p.numel() for p in converted.parameters())
    assert becomes(model, n=2, exclude="b.0")["a"] == "excluded by 'b.0'"


def test_a_part_that_the_model_uses_elsewhere_too_is_not_torn_out() -> None:
    model = nn.Module()
    model.block = nn.TransformerEncoderLayer(16, 2, 32)
    model.again = model.block.linear1
    converted = phnn.convert(model)
    assert converted.again is converted.block.linear1
    assert type(converted.again) is phnn.PHLinear
    assert becomes(model)["block.self_attn"].endswith("stays: its linear1 is also again")


def test_an_encoder_layer_changes_whole_or_in_parts() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
    assert set(becomes(encoder).values()) == {"PHTransformerEncoderLayer"}
    found = becomes(encoder, exclude="layers.0.self_attn")
    assert found["layers.0.self_attn"] == "excluded by 'layers.0.self_attn'"
    assert found["layers.0.linear1"] == "PHLinear"
    assert found["layers.1"] == "PHTransformerEncoderLayer"
    assert "layers.0.linear1" not in becomes(encoder, exclude="layers.0")
    found = becomes(encoder, rank=3)
    assert found["layers.0.linear1"] == "PHLinear"
    assert found["layers.0.self_attn"].endswith("PHMultiheadAttention takes no rank")


@pytest.mark.parametrize("options", [{}, {"exclude": "*.self_attn"}, {"n": 8}])
def test_an_encoder_runs_padded_in_every_mode(options: dict[str, Any]) -> None:
    """torch's encoder has a fast path, which reads weights by their names and makes nested tensors."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 2)
    converted = phnn.convert(encoder, **{"n": 4, **options})
    assert converted.conversion.converted
    x, padding = torch.randn(3, 5, 16), torch.tensor([[0] * 5, [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]).bool()
    expected = converted(x, src_key_padding_mask=padding)
    converted.eval()
    with torch.no_grad():
        y = converted(x, src_key_padding_mask=padding)
    seen = ~padding[:, : y.shape[1]]
    assert (y[seen] - expected[:, : y.shape[1]][seen]).norm() <= tolerance("float32", "composite") * expected.norm()
