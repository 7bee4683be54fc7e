"""to_real: the same outputs from torch.nn alone, in a process that has no phnn."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import KINDS
from torch import Tensor, nn

import phnn
import phnn.registry
from phnn.algebras import algebra
from phnn.tolerances import tolerance

CASES = [(kind, variant) for kind, found in KINDS.items() for variant in range(len(found.variants))]
ALGEBRAS = ["quaternion", "complex", "ph3"]


def first_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


# the first lines of a process in which importing phnn is an error
WITHOUT_PHNN = "import sys; sys.modules['phnn'] = None; import torch; torch.set_num_threads(1)"


def close(y: Tensor, expected: Tensor, kind: str = "composite") -> bool:
    bound = tolerance(str(expected.dtype).removeprefix("torch."), kind)
    return bool((y.double() - expected.double()).norm() <= bound * expected.double().norm())


# ------------------------------------------------------------------------------------------------------- layers


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Algebras take turns with the variants; ``--full`` runs them all with each."""
    if {"kind", "variant", "name"} <= set(metafunc.fixturenames):
        whole = metafunc.config.getoption("--full", default=False)
        turns = [(i, name) for i in range(len(CASES)) for name in ALGEBRAS]
        chosen = turns if whole else [(i, ALGEBRAS[i % len(ALGEBRAS)]) for i in range(len(CASES))]
        metafunc.parametrize(("kind", "variant", "name"), [(*CASES[i], name) for i, name in chosen])


def test_every_layer_becomes_torchs_with_the_same_outputs(kind: str, variant: int, name: str) -> None:
    if kind.startswith("rotation"):
        name = "quaternion"
    n = 3 if name == "ph3" else algebra(name).n
    over = {"algebra": "ph", "n": 3} if name == "ph3" else {"algebra": name}
    options = KINDS[kind].variants[variant]
    layer = phnn.create_layer(kind, *KINDS[kind].arguments(n), **over, **options)
    inputs = [torch.randn(shape) for shape in KINDS[kind].shapes(n, options)]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for _ in range(2):  # batch norms have seen something
            layer(*inputs)
        layer.eval()
        if kind.startswith("whitening") and not options.get("track_running_stats", True):
            with pytest.raises(ValueError, match="statistics"):
                phnn.to_real(layer)
            return
        if kind == "whitening1d" or (kind == "batch_norm1d" and inputs[0].dim() == 2):
            inputs = [x if x.dim() == 3 else x.unsqueeze(-1) for x in inputs]
        real = phnn.to_real(layer)
        y, expected = first_of(real(*inputs)), first_of(layer(*inputs))
    assert {type(m).__module__.split(".")[0] for m in real.modules()} == {"torch"}
    assert b"phnn" not in pickle.dumps(real)
    assert not real.training
    assert y.shape == expected.shape
    assert close(y, expected)


def test_gradients_of_the_input_are_the_same() -> None:
    layer = phnn.PHConv2d(8, 16, 3, groups=2, n=4, padding=1)
    x = torch.randn(2, 8, 5, 5)
    found = [torch.autograd.grad(m(leaf := x.clone().requires_grad_()).square().sum(), leaf)[0] for m in (layer, phnn.to_real(layer))]  # fmt: skip
    assert close(found[1], found[0])


def test_a_batch_norm_bakes_in_training_mode_too() -> None:
    layer = phnn.PHBatchNorm2d(8, n=4, momentum=None)
    real = phnn.to_real(layer)
    x = 3 * torch.randn(5, 8, 4, 4) + 1
    assert close(real(x), layer(x))
    assert close(real.running_var, layer.running_var)
    assert close(real.eval()(x), layer.eval()(x))


def test_modes_dtype_and_requires_grad_stay() -> None:
    net = nn.Sequential(phnn.PHLinear(8, 8, n=2, dtype=torch.float64), phnn.PHGRU(8, 8, n=2), nn.Dropout()).eval()
    net[1].train()
    net[0].F.requires_grad_(False)
    net[1].bias_hh_l0.requires_grad_(False)
    real = phnn.to_real(net)
    assert [m.training for m in real] == [False, True, False]
    assert real[0].weight.dtype is torch.float64
    assert {name for name, p in real.named_parameters() if not p.requires_grad} == {"0.weight", "1.bias_hh_l0"}


def test_a_rule_by_factors_and_a_shared_rule_are_built_in() -> None:
    rule = phnn.learned_rule(2)
    net = nn.Sequential(
        phnn.PHLinear(8, 8, n=2, rank=2), phnn.PHLinear(8, 8, rule=rule), phnn.PHLinear(8, 8, rule=rule)
    )
    x = torch.randn(3, 8)
    assert close(phnn.to_real(net)(x), net(x))


def test_a_shared_layer_stays_shared_and_the_model_is_not_touched() -> None:
    layer = phnn.PHLinear(8, 8, n=2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    real = phnn.to_real(net)
    assert real[0] is real[2]
    assert net[0] is layer
    assert real[0].weight.data_ptr() != layer.weight.data_ptr()


# ------------------------------------------------------------------------------------------------------- models


class Everything(nn.Module):
    """Most of what convert swaps, in one net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 16, 3, groups=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.up = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.gru = nn.GRU(16, 8, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(torch.relu(self.norm(self.grouped(self.stem(x)))))
        x = self.encoder(x.flatten(2).mT)
        x, _ = self.attention(x, x, x, need_weights=False)
        x, _ = self.gru(x)
        return self.head(x.mean(1))


@pytest.mark.parametrize("over", [{"n": 2}, {"n": 4, "last": "convert"}, {"algebra": "quaternion"}], ids=str)
@pytest.mark.parametrize("init", ["random", "project"])
def test_a_converted_model_bakes_into_the_structure_that_it_came_from(over: dict[str, Any], init: str) -> None:
    torch.manual_seed(0)
    original = Everything().eval()
    converted = phnn.convert(original, init=init, **over)
    real = phnn.to_real(converted)
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        assert close(real(x), converted(x))
    shapes = {name: value.shape for name, value in original.state_dict().items()}
    assert {name: value.shape for name, value in real.state_dict().items()} == shapes
    assert not hasattr(real, "conversion")
    fresh = Everything().eval()
    fresh.load_state_dict(real.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(x), real(x))


def test_what_is_baked_loads_and_exports_without_phnn(tmp_path: Path) -> None:
    """A process in which phnn cannot be imported loads the module, its state_dict and its exported program."""
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2), nn.Flatten(2), nn.LSTM(25, 8)
    )
    net[4] = nn.Linear(25, 8)
    real = phnn.to_real(phnn.convert(net, n=2)).eval()
    x = torch.randn(2, 4, 6, 6)
    torch.save(real, tmp_path / "module.pt")
    torch.save(real.state_dict(), tmp_path / "state.pt")
    torch.export.save(torch.export.export(real, (x,)), tmp_path / "program.pt2")
    with torch.no_grad():
        torch.save((x, real(x)), tmp_path / "example.pt")
    assert b"phnn" not in (tmp_path / "module.pt").read_bytes()
    code = f"""{WITHOUT_PHNN}
from torch import nn
folder = {str(tmp_path)!r}
x, y = torch.load(folder + "/example.pt")
module = torch.load(folder + "/module.pt", weights_only=False)
assert torch.equal(module(x), y)
net = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2), nn.Flatten(2), nn.Linear(25, 8))
net.load_state_dict(torch.load(folder + "/state.pt"))
assert torch.equal(net(x), y)
assert torch.allclose(torch.export.load(folder + "/program.pt2").module()(x), y, atol=1e-6)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert run.returncode == 0, run.stderr


def test_a_model_of_phnn_is_exported_for_where_phnn_is_not(tmp_path: Path) -> None:
    model = phnn.create_model("resnet8", n=4).eval()
    real = phnn.to_real(model)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert close(real(x), model(x), "model")
    assert all(type(m).__module__.startswith(("torch.", "phnn.models.")) for m in real.modules())
    torch.export.save(torch.export.export(real, (x,)), tmp_path / "program.pt2")
    torch.save((x, model(x).detach()), tmp_path / "example.pt")
    code = f"""{WITHOUT_PHNN}
folder = {str(tmp_path)!r}
x, y = torch.load(folder + "/example.pt")
program = torch.export.load(folder + "/program.pt2")
assert (program.module()(x) - y).norm() <= 1e-4 * y.norm()
assert all("phnn" not in str(node.target) for node in program.graph.nodes)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert run.returncode == 0, run.stderr


# ------------------------------------------------------------------------------------------------------- errors


class Mine(phnn.PHLinear):
    pass


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (phnn.PHDropout(0.1, n=2), r"1 \(PHDropout\) drops whole numbers.*call .eval\(\)"),
        (phnn.PHWhitening2d(8, n=2), r"1 \(PHWhitening2d\) whitens by the batch's statistics.*call .eval\(\)"),
        (Mine(8, 8, n=2), r"1 \(Mine\) is none of phnn's own layers"),
    ],
)
def test_what_torch_cannot_do_is_refused_by_name(layer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phnn.to_real(nn.Sequential(nn.ReLU(), layer))


def test_hooks_and_parametrizations_are_not_lost_in_silence() -> None:
    layer = phnn.PHLinear(8, 8, n=2)
    layer.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"the model \(PHLinear\) has hooks, which would be lost"):
        phnn.to_real(layer)
    layer = torch.nn.utils.parametrizations.weight_norm(phnn.PHLinear(8, 8, n=2), "F")
    with pytest.raises(ValueError, match="has parametrizations, which would be lost"):
        phnn.to_real(layer)
    attention = phnn.PHMultiheadAttention(8, 2, n=2)
    attention.q_proj = Mine(8, 8, n=2)
    with pytest.raises(ValueError, match="has a projection of class Mine, not PHLinear"):
        phnn.to_real(attention)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
def test_a_real_layer_with_a_computed_weight_stays_in_the_baked_model() -> None:
    """torch's old weight_norm leaves the result of a computation as an attribute, which deepcopy refuses."""
    net, x = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(8, 8)), phnn.PHLinear(8, 8, n=2)), torch.randn(2, 8)
    y = net(x)
    torch.testing.assert_close(phnn.to_real(net)(x), y)


def test_a_dropout_that_drops_nothing_bakes_in_training_mode() -> None:
    assert type(phnn.to_real(phnn.PHDropout2d(0.0, n=2))) is nn.Dropout2d
    real = phnn.to_real(phnn.PHDropout(0.3, n=2).eval())
    assert (type(real), real.p, real.training) == (nn.Dropout, 0.3, False)


def test_reports_leave_with_phnn_wherever_they_hang() -> None:
    net = nn.Sequential(phnn.convert(nn.Linear(8, 8), n=2), nn.ReLU())
    file = io.BytesIO()
    torch.save(phnn.to_real(net), file)
    assert b"phnn" not in file.getvalue()
