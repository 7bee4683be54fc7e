import pytest
import torch
from torch import nn

import phnn
from phnn.layers.conv import PHConv2d

PUBLISHED = (60, 120, 240, 516)

# "net" counts: without the convolution biases that published code creates before batch norm
COUNTS = [
    ("resnet18", PUBLISHED, {"real": 10_877_062, "quaternion": 2_730_298, 2: 5_446_226, 3: 3_635_914, 4: 2_731_578}),
    ("resnet50", PUBLISHED, {"real": 22_538_086, "quaternion": 5_688_682, 2: 11_305_754, 3: 7_562_149, 4: 5_692_074}),
    ("resnet18", None, {"real": 11_173_962, "quaternion": 2_804_682}),
    ("resnet20", None, {"real": 272_474, "quaternion": 69_818}),
    ("resnet56", None, {"real": 855_770, "quaternion": 217_658}),
]


def build(name, variant, **kwargs):
    algebra = {"algebra": "ph", "n": variant} if isinstance(variant, int) else {"algebra": variant}
    return phnn.create_model(name, **algebra, **kwargs)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "widths", "variant", "expected"),
    [(name, widths, variant, n) for name, widths, table in COUNTS for variant, n in table.items()],
)
def test_parameter_counts_are_the_published_ones(name, widths, variant, expected):
    assert count(build(name, variant, widths=widths, device="meta")) == expected


def test_ph_resnet20_has_a_quarter_of_the_convolution_weights_plus_the_rules():
    real = build("resnet20", "real", in_channels=4, device="meta")
    ph = build("resnet20", 4, in_channels=3, device="meta")
    real_weights = sum(m.weight.numel() for m in real.modules() if isinstance(m, nn.Conv2d))
    layers = [m for m in ph.modules() if isinstance(m, PHConv2d)]
    assert sum(m.F.numel() for m in layers) == real_weights // 4
    assert count(ph) == count(real) - real_weights + real_weights // 4 + len(layers) * 4**3


@pytest.mark.parametrize("name", phnn.list_models("resnet*"))
@pytest.mark.parametrize("variant", ["real", "quaternion", 2, 4])
def test_every_parameter_of_every_model_receives_a_gradient(name, variant):
    torch.manual_seed(0)
    model = build(name, variant)
    y = model(torch.randn(2, 3, 8, 8))
    assert y.shape == (2, 10)
    assert torch.isfinite(y).all()
    y.square().sum().backward()
    for parameter, tensor in model.named_parameters():
        assert tensor.grad is not None, parameter
        assert tensor.grad.abs().sum() > 0, parameter


def test_real_models_are_made_of_torch_layers_alone():
    kinds = {type(m).__module__.split(".")[0] for m in build("resnet20", "real").modules() if not list(m.children())}
    assert kinds == {"torch"}


def test_module_names_are_torchvisions():
    import torchvision

    theirs = torchvision.models.resnet50(num_classes=10).state_dict()
    ours = build("resnet50", "real", device="meta").state_dict()
    assert list(ours) == list(theirs)
    assert {k for k in ours if ours[k].shape != theirs[k].shape} == {"conv1.weight"}, "only the stem differs: 3×3"


def test_a_real_resnet_computes_what_torchvisions_does():
    """Same blocks, strides and order: with torchvision's stem swapped for ours, the outputs are equal."""
    import torchvision

    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    ours = build("resnet18", "real")
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_zero_channels_go_in_front():
    """A quaternion net on RGB computes with 0 + R i + G j + B k."""
    model = build("resnet8", "quaternion").eval()
    x = torch.randn(2, 3, 8, 8)
    padded = torch.cat([torch.zeros(2, 1, 8, 8), x], dim=1)
    assert model.conv1.in_channels == 4
    assert torch.equal(model(x), model(padded))


def test_pad_may_be_refused_or_make_the_stem_real():
    with pytest.raises(ValueError, match="in_channels=3.*pad="):
        build("resnet8", "quaternion", pad="error")
    assert type(build("resnet8", "quaternion", pad="real_stem").conv1) is nn.Conv2d
    with pytest.raises(ValueError, match="unknown pad 'zeros'"):
        build("resnet8", "quaternion", pad="zeros")


def test_widths_that_n_does_not_divide_are_refused_with_those_that_fit():
    with pytest.raises(ValueError, match=r"n=3 does not divide widths\[0\]=16 \(nearest: 15 or 18\)"):
        build("resnet20", 3)
    with pytest.raises(ValueError, match="4 stages need 4 widths"):
        build("resnet18", "real", widths=(16, 32))


def test_width_scale_keeps_integer_widths_that_n_divides():
    model = build("resnet20", 4, width_scale=0.7)
    assert [m.out_channels for m in (model.layer1[0].conv1, model.layer2[0].conv1, model.layer3[0].conv1)] == [
        12,
        24,
        44,
    ]


@pytest.mark.parametrize("variant", ["quaternion", 4])
def test_activations_start_at_the_scale_of_the_real_net(variant):
    """Initialisation is by the variance of W. In eval mode a fresh batch norm passes its input on unchanged."""

    def scale(v):
        stage = build("resnet20", v).eval().layer1
        return stage(torch.relu(torch.randn(8, 16, 16, 16))).std()

    torch.manual_seed(0)
    ratio = (
        torch.stack([scale(variant) for _ in range(8)]).mean() / torch.stack([scale("real") for _ in range(8)]).mean()
    )
    assert 0.7 < ratio < 1.4
