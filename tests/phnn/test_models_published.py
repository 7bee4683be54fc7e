"""The published models: their parameter counts to the unit, and torchvision's nets where they coincide."""

from __future__ import annotations

import pytest
import torch
from published import NET, SELD_CONVOLUTIONS, WITH_BIAS, build, count
from torch import nn

import phnn
from phnn.registry import find

CASES = [
    pytest.param(name, {**options, "conv_bias": conv_bias}, variant, expected, id=f"{name}-{variant}-{form}-{i}")
    for form, conv_bias, table in (("net", False, NET), ("bias", True, WITH_BIAS))
    for i, (name, options, variants) in enumerate(table)
    for variant, expected in variants.items()
]


@pytest.mark.parametrize(("name", "options", "variant", "expected"), CASES)
def test_parameter_counts_are_the_published_ones(name, options, variant, expected):
    assert count(build(name, variant, **options, device="meta")) == expected


@pytest.mark.parametrize(("variant", "expected"), SELD_CONVOLUTIONS.items())
def test_seldnets_convolutions_have_the_published_counts(variant, expected):
    nets = [build("seldnet", variant, in_channels=16, conv_bias=bias, device="meta") for bias in (False, True)]
    assert tuple(count(net.cnn) for net in nets) == expected


def test_the_full_seldnet_has_its_hidden_linear_layers_over_the_algebra():
    augmented, full = (build("seldnet", "quaternion", form=form, device="meta") for form in ("augmented", "full"))
    saved = (512 * 1024 + 2 * 1024 * 1024) * 3 // 4
    assert count(augmented) - count(full) == saved
    assert type(full.rnn) is nn.GRU


@pytest.mark.parametrize(("form", "channels"), [("vanilla", 64), ("augmented", 512), ("full", 512)])
def test_seldnet_takes_a_minute_of_sound_to_600_steps(form, channels):
    """The convolutions see the whole minute, 256 bins × 4800 frames; the GRU, slow without a kernel, a part of it."""
    spec = find("seldnet")
    shape = {**spec.shape, "form": form}
    model = spec.build(shape, algebra="quaternion", device="meta")
    (x,) = spec.example_inputs(shape, device="meta")
    assert x.shape == (1, 4, 256, 4800)
    assert model.cnn(x).shape == (1, channels, 2, 600)
    assert model.rnn.input_size == 2 * channels
    assert model(x[..., :83]).shape == (1, 10, 42)


def test_seldnet_sees_each_frame_of_sound_where_it_is():
    """Bins and channels are pooled and joined, time is not: in a net without memory only the changed steps change."""
    model = phnn.create_model("seldnet", algebra="real", width_scale=0.125).eval()
    x = torch.randn(1, 4, 256, 80)
    changed = x.clone()
    changed[..., :8] += 1
    features = [model.cnn(tensor) for tensor in (x, changed)]
    assert features[0].shape == (1, 64, 2, 10)
    differ = (features[0] - features[1]).abs().amax((0, 1, 2)) > 0
    assert differ[0]
    assert not differ[4:].any()


# -------------------------------------------------------------------------------------------------- torchvision


def _as_in_training(model: nn.Module) -> None:
    """Batch norms that have seen data, so that no statistics are trivial."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_real_resnets_are_torchvisions(name):
    """With the ImageNet stem: the same state_dict, and the same outputs bit for bit."""
    import torchvision

    theirs = getattr(torchvision.models, name)(num_classes=20).eval()
    _as_in_training(theirs)
    ours = build(name, "real", stem="imagenet", num_classes=20).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_the_default_stem_is_all_that_differs_from_torchvisions():
    import torchvision

    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    ours = build("resnet18", "real")
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"])
def test_real_vggs_have_torchvisions_state_dict(name):
    import torchvision

    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(num_classes=1000).state_dict()
    ours = build(
        name, "real", head=(4096, 4096), pool=7, num_classes=1000, conv_bias=True, device="meta"
    ).state_dict()
    assert [(key, ours[key].shape) for key in ours] == [(key, theirs[key].shape) for key in theirs]


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16_bn"])
def test_real_vggs_compute_what_torchvisions_do(name):
    """Their own features; their head, but of 64 hidden features, which its 4,096 would take a gigabyte for."""
    import torchvision

    theirs = getattr(torchvision.models, name)(num_classes=10, init_weights=False).eval()
    _as_in_training(theirs)
    head = theirs.classifier
    head[0], head[3], head[6] = nn.Linear(512 * 7 * 7, 64), nn.Linear(64, 64), nn.Linear(64, 10)
    ours = build(name, "real", head=(64, 64), pool=7, conv_bias=True).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for size in (32, 64):
        x = torch.randn(2, 3, size, size)
        with torch.no_grad():
            assert torch.equal(ours(x), theirs(x))


def test_the_published_head_drops_before_each_hidden_layer():
    after, before = (build("vgg11_bn", "real", width_scale=0.125, dropout=place) for place in ("after", "before"))
    kinds = [[type(layer).__name__ for layer in model.classifier] for model in (after, before)]
    assert kinds[0] == [*("Linear", "ReLU", "Dropout") * 2, "Linear"]
    assert kinds[1] == [*("Dropout", "Linear", "ReLU") * 2, "Linear"]
    assert count(after) == count(before)
