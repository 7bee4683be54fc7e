"""The weight that a layer keeps between calls is that of its parameters as they are."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from ph_reference import parameters64, reference, relative_error
from torch import Tensor, nn

import phnn


def right(layer: Any, x: Tensor) -> bool:
    """Whether a call without gradients computes with the parameters as they now are."""
    with torch.no_grad():
        expected = reference(layer, parameters64(layer), x.double())
        return relative_error(layer(x), expected) < 1e-5 and relative_error(layer(x), expected) < 1e-5


@pytest.fixture(params=["linear", "conv_transpose1d"])
def warm(request: pytest.FixtureRequest) -> tuple[Any, Tensor]:
    """A layer that has cached its weight, and an input."""
    options: dict[str, Any] = {} if request.param == "linear" else {"kernel_size": 1}
    layer = phnn.create_layer(request.param, 8, 8, algebra="ph", n=4, **options)
    x = torch.randn(3, 8) if request.param == "linear" else torch.randn(3, 8, 2)
    assert right(layer, x)
    return layer, x


def test_the_weight_is_built_once_while_nothing_changes(
    warm: tuple[Any, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = warm
    with torch.no_grad():
        y = layer(x)
        monkeypatch.setattr(layer, "_build", lambda: pytest.fail("built again"))
        assert torch.equal(layer(x), y)


def test_the_cache_follows_an_optimizer_step(warm: tuple[Any, Tensor]) -> None:
    layer, x = warm
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(x).square().sum().backward()
    optimizer.step()
    assert right(layer, x)


class Unseen(torch.optim.Optimizer):
    """Writes as the compiled kernels of other packages do: the version of a parameter does not tell."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(1.5)


OPTIMIZERS: dict[str, Any] = {
    "fused Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, fused=True),
    "fused SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, fused=True),
    "foreach AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, foreach=True),
    "of another package": Unseen,
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("late", [False, True], ids=["before backward", "between backward and step"])
def test_the_cache_follows_steps_that_no_version_tells(warm: tuple[Any, Tensor], make: Any, late: bool) -> None:
    layer, x = warm
    optimizer = make(layer.parameters())
    for _ in range(2):
        layer(x).square().sum().backward()
        if late:
            assert right(layer, x)
        optimizer.step()
        assert right(layer, x)
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["gru", "whitening1d"])
def test_what_other_layers_keep_follows_fused_steps(kind: str) -> None:
    layer = phnn.create_layer(kind, 8, 8, n=4) if kind == "gru" else phnn.PHWhitening1d(8, n=4).eval()
    x = torch.randn(5, 3, 8) if kind == "gru" else torch.randn(5, 8)

    def first(module: Any) -> Tensor:
        y = module(x)
        return y[0] if isinstance(y, tuple) else y

    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    first(layer).square().sum().backward()
    with torch.no_grad():
        before = first(layer)
        optimizer.step()
        after = first(layer)
        torch.testing.assert_close(after, first(copy.deepcopy(layer)))
    assert not torch.allclose(before, after)


def test_a_step_counts_for_nothing_but_what_was_kept() -> None:
    other = nn.Linear(4, 4)
    other(torch.randn(1, 4)).sum().backward()
    version = other.weight._version
    torch.optim.SGD(other.parameters(), fused=True).step()
    assert other.weight._version == version, "import phnn changes what torch does elsewhere"


def test_the_cache_follows_load_state_dict(warm: tuple[Any, Tensor]) -> None:
    layer, x = warm
    new = {name: torch.randn_like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(new)
    assert right(layer, x)
    layer.load_state_dict({name: torch.randn_like(value) for name, value in new.items()}, assign=True)
    assert right(layer, x)


def test_the_cache_follows_to(warm: tuple[Any, Tensor]) -> None:
    layer, x = warm
    layer.double()
    assert layer.weight.dtype is torch.float64
    assert right(layer, x.double())
    layer.float()
    assert right(layer, x)


@pytest.mark.parametrize("name", ["A", "F"])
def test_the_cache_follows_edits_in_place_and_new_parameters(warm: tuple[Any, Tensor], name: str) -> None:
    layer, x = warm
    with torch.no_grad():
        getattr(layer, name).mul_(2).add_(1)
    assert right(layer, x)
    setattr(layer, name, nn.Parameter(torch.randn_like(getattr(layer, name))))
    assert right(layer, x)


def test_the_cache_is_right_in_inference_mode_and_after_it(warm: tuple[Any, Tensor]) -> None:
    layer, x = warm
    layer.requires_grad_(False)
    layer.clear_cache()
    with torch.inference_mode():
        assert right(layer, x)
    x.requires_grad_(True)
    layer(x).sum().backward()  # a weight cached in inference mode may not enter autograd; this one may
    assert x.grad is not None


def test_clear_cache_makes_unseen_writes_seen(warm: tuple[Any, Tensor]) -> None:
    layer, x = warm
    layer.F.data.mul_(3)
    layer.clear_cache()
    assert right(layer, x)


def test_a_frozen_rule_still_lets_the_filters_learn(warm: tuple[Any, Tensor]) -> None:
    layer, x = warm
    layer.A.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.A.grad is None
    assert layer.F.grad.abs().sum() > 0
    layer.F.requires_grad_(False)
    assert layer.bias.requires_grad  # freezing the weight leaves the bias alone
    layer.bias.grad = None
    layer(x).sum().backward()
    assert layer.bias.grad.abs().sum() > 0


def test_the_cache_is_no_part_of_what_is_saved_or_copied(warm: tuple[Any, Tensor]) -> None:
    layer, x = warm
    assert set(layer.state_dict()) == {"A", "F", "bias"}
    twin = copy.deepcopy(layer)
    assert twin._cache is None
    with torch.no_grad():
        twin.F.zero_()
    assert right(twin, x)
    assert right(layer, x)


def test_threads_that_share_a_layer_all_get_the_right_answer(warm: tuple[Any, Tensor]) -> None:
    layer, x = warm
    layer.clear_cache()
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(right(layer, x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
