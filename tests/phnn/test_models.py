"""What every published model does over every algebra."""

from __future__ import annotations

import inspect

import pytest
import torch
from published import FAMILIES, MODELS, build, count, outputs_of, shape_of, small
from torch import nn

import phnn
from phnn.layers.conv import PHConv2d
from phnn.layers.linear import PHLinear
from phnn.registry import find, model_info

VARIANTS = ["real", "quaternion", 2, 4]
ALGEBRAS = [
    *(name for name in phnn.list_algebras() if "(" not in name and name != "ph"),
    *("cyclic(3)", "clifford(2,1)", "clifford(3,0,1)"),
    *(1, 2, 3, 4, 8, 16),
]  # fmt: skip
FORMS = [
    ("resnet8", {"stem": "imagenet", "size": 32}),
    ("resnet18", {"block": "bottleneck"}),
    ("resnet50", {"block": "basic", "pad": "real_stem"}),
    ("resnet8", {"in_channels": 1}),
    ("vgg11_bn", {"dropout": "before", "pad": "real_stem"}),
    ("vgg11_bn", {"pool": 2, "size": 64, "widths": "64-128-256-512", "head": "128"}),
    ("seldnet", {"form": "vanilla", "pad": "real_stem"}),
    ("seldnet", {"form": "full", "in_channels": 16}),
    ("seldnet", {"bins": 256, "in_channels": 3}),
]


def _check_gradients(name, variant, **axes):
    model, x = small(name, variant, **axes)
    y = model(x)
    assert y.shape == outputs_of(name, shape_of(name, **axes))
    assert torch.isfinite(y).all()
    (y * torch.randn_like(y)).sum().backward()
    for parameter, tensor in model.named_parameters():
        assert tensor.grad is not None, parameter
        assert torch.isfinite(tensor.grad).all(), parameter
        assert tensor.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_of_every_model_receives_a_gradient(name, variant):
    _check_gradients(name, variant)


@pytest.mark.parametrize("variant", ALGEBRAS)
def test_one_model_runs_and_learns_over_every_algebra(variant):
    _check_gradients("resnet8", variant, widths="48-48-48", width_scale=1.0)


@pytest.mark.parametrize(("name", "axes"), FORMS, ids=str)
@pytest.mark.parametrize("variant", ["real", "quaternion", 2])
def test_every_form_runs_and_learns(name, axes, variant):
    _check_gradients(name, variant, **axes)


@pytest.mark.parametrize("name", ["resnet8", "vgg11_bn", "seldnet"])
def test_biases_of_convolutions_are_applied(name):
    """Batch norm undoes them in training; in evaluation a bias that is changed changes the output."""
    model, x = small(name, 4, conv_bias=True)
    model.eval()
    assert all(m.bias is not None for m in model.modules() if isinstance(m, PHConv2d))
    with torch.no_grad():
        before = model(x)
        for module in model.modules():
            if isinstance(module, PHConv2d):
                module.bias.add_(1)
        assert not torch.allclose(model(x), before)


def test_ph_resnet20_has_a_quarter_of_the_convolution_weights_plus_the_rules():
    real = build("resnet20", "real", in_channels=4, device="meta")
    ph = build("resnet20", 4, in_channels=3, device="meta")
    real_weights = sum(m.weight.numel() for m in real.modules() if isinstance(m, nn.Conv2d))
    layers = [m for m in ph.modules() if isinstance(m, PHConv2d)]
    assert sum(m.F.numel() for m in layers) == real_weights // 4
    assert count(ph) == count(real) - real_weights + real_weights // 4 + len(layers) * 4**3


@pytest.mark.parametrize("name", MODELS)
def test_real_models_are_made_of_torch_layers_alone(name):
    model, _ = small(name, "real")
    assert {type(m).__module__.split(".")[0] for m in model.modules() if not list(m.children())} == {"torch"}


@pytest.mark.parametrize("name", MODELS)
def test_what_stays_real_is_what_model_info_says(name):
    model, _ = small(name, 4)
    real = {
        type(m).__name__ for m in model.modules() if type(m).__module__.startswith("torch") and len([*m.parameters()])
    }
    ph = {type(m) for m in model.modules() if isinstance(m, PHConv2d | PHLinear)}
    assert real - {"Sequential"} == {"BatchNorm2d", "Linear"} | ({"GRU"} if name == "seldnet" else set())
    assert sum(type(m) is nn.Linear for m in model.modules()) == (4 if name == "seldnet" else 1)
    assert ph == ({PHConv2d, PHLinear} if name.startswith("vgg") else {PHConv2d})


def test_a_last_width_serves_two_blocks_of_vgg():
    four, five = (build("vgg11_bn", "real", widths=w, device="meta") for w in ((8, 8, 8, 16), (8, 8, 8, 16, 16)))
    assert [p.shape for p in four.parameters()] == [p.shape for p in five.parameters()]


def test_zero_channels_go_in_front():
    """A quaternion net on RGB computes with 0 + R i + G j + B k."""
    model = build("resnet8", "quaternion").eval()
    x = torch.randn(2, 3, 8, 8)
    padded = torch.cat([torch.zeros(2, 1, 8, 8), x], dim=1)
    assert model.conv1.in_channels == 4
    assert torch.equal(model(x), model(padded))


@pytest.mark.parametrize(("name", "stem"), [("resnet8", "conv1"), ("vgg11_bn", "features.0"), ("seldnet", "cnn.0.0")])
def test_pad_may_be_refused_or_make_the_stem_real(name, stem):
    with pytest.raises(ValueError, match="in_channels=3.*pad="):
        build(name, "quaternion", in_channels=3, pad="error")
    real_stem = build(name, "quaternion", in_channels=3, pad="real_stem", device="meta")
    assert type(real_stem.get_submodule(stem)) is nn.Conv2d
    assert real_stem.get_submodule(stem).in_channels == 3
    with pytest.raises(ValueError, match="unknown pad 'zeros'"):
        build(name, "quaternion", pad="zeros")


# -------------------------------------------------------------------------------------------------------- widths


@pytest.mark.parametrize(
    ("name", "n", "options", "message"),
    [
        ("resnet20", 3, {}, r"n=3 does not divide widths\[0\]=16 \(nearest: 15 or 18\)"),
        ("resnet152", 3, {}, r"widths\[0\]=64 \(nearest: 63 or 66\), widths\[1\]=128 \(nearest: 126 or 129\)"),
        ("vgg16_bn", 3, {}, r"n=3 does not divide widths\[0\]=64 \(nearest: 63 or 66\)"),
        ("vgg16_bn", 3, {"widths": (24, 72, 216, 648)}, r"n=3 does not divide head\[0\]=512 \(nearest: 510 or 513\)"),
        ("seldnet", 3, {}, r"n=3 does not divide widths\[0\]=64 \(nearest: 63 or 66\)"),
        ("seldnet", 3, {"form": "full", "widths": (66, 126, 255, 513)}, r"GRU output=512 \(nearest: 510 or 513\)"),
        ("seldnet", 3, {"widths": (66, 126)}, "4 stages need 4 widths"),
        ("resnet18", 3, {"widths": (15, 30)}, "4 stages need 4 widths"),
        ("vgg11_bn", 3, {"widths": (15, 30)}, "VGG needs 5 widths"),
        ("resnet18", 4, {"stem": "imagnet"}, "unknown stem 'imagnet': did you mean imagenet"),
        ("resnet18", 4, {"block": "wide"}, "unknown block 'wide'"),
        ("vgg11_bn", 4, {"dropout": "inside"}, "unknown dropout 'inside'"),
        ("seldnet", 4, {"form": "fuller"}, "unknown form 'fuller': did you mean full"),
        ("seldnet", 3, {"bins": 64, "widths": (66, 126, 255, 513)}, "bins=64.*128 bins"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_fits(name, n, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, n, **options, device="meta")


@pytest.mark.parametrize("name", MODELS)
def test_the_registry_refuses_the_widths_that_the_model_refuses(name):
    spec = find(name)
    reason = spec.constraints(phnn.algebra("ph", 3), spec.shape)
    with pytest.raises(ValueError, match="n=3 does not divide") as error:
        build(name, 3, device="meta")
    assert reason == str(error.value)


@pytest.mark.parametrize(
    ("name", "axes", "reason"),
    [
        ("resnet18", {"widths": "16-x"}, "widths='16-x' is not of the form"),
        ("resnet18", {"widths": "0-4-4-4"}, "widths='0-4-4-4' is not of the form"),
        ("vgg16_bn", {"head": "512,512"}, "head='512,512' is not of the form"),
        ("vgg16_bn", {"size": 8}, "size=8: VGG halves the side 5 times, 32 is the least"),
        ("seldnet", {"frames": 4}, "frames=4: pooling takes 8 frames to one"),
        ("resnet18", {"pad": "error"}, "in_channels=3.*pad='zero_first'"),
    ],
)
def test_a_shape_that_cannot_be_is_skipped_with_the_reason(name, axes, reason):
    spec = find(name)
    shape = {**spec.shape, **axes}
    with pytest.raises(ValueError, match=reason):
        spec.build(shape, algebra="quaternion", device="meta")


def test_width_scale_keeps_integer_widths_that_n_divides():
    model = build("resnet20", 4, width_scale=0.7)
    widths = [m.out_channels for m in (model.layer1[0].conv1, model.layer2[0].conv1, model.layer3[0].conv1)]
    assert widths == [12, 24, 44]


@pytest.mark.parametrize("n", [1, 3, 8, 16])
@pytest.mark.parametrize("form", ["augmented", "full", "vanilla"])
def test_a_scaled_seldnet_has_all_its_widths_scaled(form, n):
    model = build("seldnet", n, form=form, width_scale=0.3, device="meta")
    convs = [block[0].out_channels for block in model.cnn]
    own = (64, 64, 64) if form == "vanilla" else (64, 128, 256, 512)
    hidden, linear = (128, 128) if form == "vanilla" else (256, 1024)
    assert all(width % n == 0 and abs(width - 0.3 * full) <= n for width, full in zip(convs, own, strict=True))
    assert abs(model.rnn.hidden_size - 0.3 * hidden) <= n
    assert abs(model.sed[0].out_features - 0.3 * linear) <= n


@pytest.mark.parametrize(("name", "part"), [("resnet20", "layer1"), ("vgg16_bn", "features")])
@pytest.mark.parametrize("variant", ["quaternion", 4])
def test_activations_start_at_the_scale_of_the_real_net(name, part, variant):
    """Initialisation is by the variance of W. In eval mode a fresh batch norm passes its input on unchanged."""
    options = {"width_scale": 0.5, "in_channels": 4} if name == "vgg16_bn" else {}

    def scale(v):
        stage = getattr(build(name, v, **options).eval(), part)
        channels = next(m for m in stage.modules() if hasattr(m, "in_channels")).in_channels
        return stage(torch.relu(torch.randn(8, channels, 32, 32))).std()

    ratio = (
        torch.stack([scale(variant) for _ in range(8)]).mean() / torch.stack([scale("real") for _ in range(8)]).mean()
    )
    assert 0.7 < ratio < 1.4


# ---------------------------------------------------------------------------------------------------- model_info


@pytest.mark.parametrize("name", MODELS)
def test_model_info_tells_the_options_as_they_are(name):
    spec, info = find(name), model_info(name)
    module = __import__(spec.target.split(":")[0], fromlist=["_"])
    parameters = inspect.signature(getattr(module, spec.target.split(":")[1])).parameters
    taken = {
        p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in spec.keywords
    }
    told = {option.name: option.default for option in info.options}
    if "block" in told:  # told is the model's own, which None stands for
        assert told.pop("block") == spec.keywords["default_block"]
        assert taken.pop("block") is None
    assert told == taken
    assert all(option.default in option.values for option in info.options if option.values)


@pytest.mark.parametrize("name", MODELS)
def test_model_info_is_a_page_for_people(name):
    info = model_info(name)
    text = str(info)
    assert info.source in text
    assert "batch norm" in info.real
    assert "convolutions" in info.hypercomplex
    assert all(option.name in text and option.doc in text for option in info.options)
    assert info.common == ("algebra", "n", "path", "rank", "device", "dtype")
    assert info == model_info(name)


def test_the_published_families_are_registered():
    assert phnn.list_models("resnet*") == [
        *(f"resnet{layers}" for layers in (8, 20, 32, 44, 56, 110)),
        *(f"resnet{layers}" for layers in (18, 34, 50, 101, 152)),
    ]
    assert phnn.list_models("vgg*") == [f"vgg{layers}_bn" for layers in (11, 13, 16, 19)]
    assert {find(name).target.split(":")[1] for name in MODELS} == set(FAMILIES)
