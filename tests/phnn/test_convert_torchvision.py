"""Every classification model of torchvision converts, without a line of its own."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import phnn
from phnn.tolerances import tolerance

NAMES = torchvision.models.list_models(module=torchvision.models)
LEAST = {2: 0.45, 4: 0.70}  # of the convertible parameters that must go: 1 - 1/n less rules and biases
SMALL = {
    "alexnet": 64, "densenet121": 32, "efficientnet_b0": 32, "googlenet": 32, "mnasnet0_5": 32,
    "mobilenet_v3_small": 32, "regnet_y_400mf": 32, "resnet18": 32, "resnext50_32x4d": 32, "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32, "swin_t": 32, "swin_v2_t": 64, "vit_b_32": 224,
}  # fmt: skip
DEFAULT = ("mobilenet_v3_small", "resnext50_32x4d", "swin_t")  # groups, gates, weights that a function reads


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each n in turn, and few models run; ``--full`` converts each at both and runs all the small ones."""
    full = metafunc.config.getoption("--full", default=False)
    if "model_n" in metafunc.fixturenames:
        rows = [(name, n) for i, name in enumerate(NAMES) for n in ((2, 4) if full else ((2, 4)[i % 2],))]
        metafunc.parametrize("model_n", rows, ids=[f"{name}-{n}" for name, n in rows])
    if "small" in metafunc.fixturenames:
        metafunc.parametrize("small", list(SMALL) if full else DEFAULT)


def build(name: str, device: str) -> nn.Module:
    with warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore")  # of how GoogLeNet and Inception are initialised
        return torchvision.models.get_model(name, weights=None)


@pytest.fixture
def regnets_know_their_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """They compute their widths with torch, which the meta device does not."""
    from torchvision.models.regnet import BlockParams

    original = BlockParams.from_init_params.__func__

    def on_the_cpu(cls: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.device("cpu"):
            return original(cls, *args, **kwargs)

    monkeypatch.setattr(BlockParams, "from_init_params", classmethod(on_the_cpu))


@pytest.mark.usefixtures("regnets_know_their_widths")
def test_every_model_converts_and_shrinks(model_n: tuple[str, int]) -> None:
    name, n = model_n
    model = build(name, "meta")
    converted = phnn.convert(model, n=n)
    report = converted.conversion
    assert report.converted
    assert report.removed >= LEAST[n], str(report)
    assert report.params_after == sum(p.numel() for p in converted.parameters())
    reasons = ("does not divide", "depthwise", "the last layer")
    assert all(any(known in (layer.reason or "") for known in reasons) for layer in report.kept), str(report)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in phnn.to_real(converted).state_dict().items()} == shapes


def test_small_models_run_and_learn_and_bake(small: str) -> None:
    torch.manual_seed(0)
    converted = phnn.convert(build(small, "cpu"), n=4, last="convert")  # ViT's own classifier starts at zero
    size = SMALL[small]
    x = torch.randn(2, 3, size, size)
    converted.eval()
    y = converted(x)
    assert y.shape == (2, 1000)
    assert y.isfinite().all()
    y.square().mean().backward()
    missing = [name for name, p in converted.named_parameters() if p.grad is None and not name.startswith("aux")]
    assert not missing
    real = phnn.to_real(converted)
    with torch.no_grad():
        error = (real(x) - converted(x)).norm() / converted(x).norm()
    assert error <= tolerance("float32", "model")


def test_a_projected_model_is_nearer_the_more_of_it_may_be_kept() -> None:
    """n=1 is the trained model itself; the smaller n, the less is lost."""
    torch.manual_seed(0)
    model = build("resnet18", "cpu").eval()
    lost = {}
    for n in (1, 2, 4):
        report = phnn.convert(model, n=n, init="project", include="layer1.*").conversion
        lost[n] = max(layer.error or 0.0 for layer in report.converted)
    assert lost[1] <= 1e-6
    assert lost[1] < lost[2] < lost[4] < 1
