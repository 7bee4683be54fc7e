"""What a path keeps from call to call follows every change of its layer, and is nowhere but in that layer."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from along_paths import assert_right, make
from torch import Tensor, nn
from torch.nn.utils import prune

from phnn.tolerances import tolerance

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(params=["factored", "bilinear", "rank"])
def warm(request) -> tuple[Any, Tensor]:
    """A layer that has kept what its path derives."""
    options = {"n": 4, "rank": 5, "path": "bilinear"} if request.param == "rank" else {"path": request.param}
    layer, x = make("conv2d", "ph" if request.param == "rank" else "quaternion", **options)
    with torch.no_grad():
        layer(x)
    return layer, x


def fresh(layer: Any, x: Tensor) -> Tensor:
    twin = copy.deepcopy(layer)
    twin.path = "dense"
    with torch.no_grad():
        return twin(x)


def assert_current(layer: Any, x: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(layer(x), fresh(layer, x), rtol=1e-4, atol=1e-5)


def test_what_is_kept_follows_an_optimizer_step(warm):
    layer, x = warm
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(x).square().mean().backward()
    optimizer.step()
    assert_current(layer, x)


def test_what_is_kept_follows_load_state_dict_and_edits_in_place(warm):
    layer, x = warm
    layer.load_state_dict({k: torch.randn_like(v) for k, v in layer.state_dict().items()})
    assert_current(layer, x)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)
            assert_current(layer, x)


def test_what_is_kept_follows_to(warm):
    layer, x = warm
    layer.double()
    assert_current(layer, x.double())
    assert layer(x.double()).dtype == torch.float64


def test_what_is_kept_is_right_in_inference_mode_and_after_it(warm):
    layer, x = warm
    layer.clear_cache()
    with torch.inference_mode():
        layer(x)
    assert_right(layer, x, tolerance("float32", path="bilinear"))


def test_unseen_writes_need_clear_cache(warm):
    layer, x = warm
    layer.F.data.mul_(2)
    layer.clear_cache()
    assert_current(layer, x)


WRAPPERS = {
    "weight norm": lambda layer: torch.nn.utils.parametrizations.weight_norm(layer, "F"),
    "old weight norm": lambda layer: torch.nn.utils.weight_norm(layer, "F"),
    "pruned": lambda layer: prune.random_unstructured(layer, "F", 0.25),
}


@pytest.mark.parametrize("path", ["dense", "factored", "bilinear"])
@pytest.mark.parametrize("options", [{"algebra": "quaternion"}, {"n": 4, "rank": 5}, {"n": 4}])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
def test_filters_that_are_computed_from_others_learn_and_are_followed(wrap, options, path):
    layer, x = make("linear", path=path, **options)
    wrap(layer)
    for _ in range(2):
        layer.zero_grad()
        layer(x).square().sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        with torch.no_grad():
            before = layer(x)
            for parameter in layer.parameters():
                parameter.mul_(1.5)
            after = layer(x)
            W = layer.weight
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, nn.functional.linear(x, W, layer.bias), rtol=1e-4, atol=1e-5)


def test_nothing_batched_is_kept():
    layer, x = make("linear", "quaternion", path="dense")
    several = {name: torch.stack([p.detach(), p.detach() + 1]) for name, p in layer.named_parameters()}
    with torch.no_grad():
        torch.vmap(lambda parameters: torch.func.functional_call(layer, parameters, (x,)))(several)
    assert not layer._cache


def test_nothing_kept_is_saved_or_copied(warm):
    layer, x = warm
    twin = pickle.loads(pickle.dumps(layer))
    assert twin._cache is None
    assert set(twin.state_dict()) == {name for name, _ in layer.named_parameters()}
    assert_current(twin, x)


def test_threads_that_share_a_layer_all_get_the_right_answer(warm):
    layer, x = warm
    layer.clear_cache()
    expected = fresh(layer, x)
    results: list[Tensor] = []

    def run() -> None:
        with torch.no_grad():
            results.extend(layer(x) for _ in range(5))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    for y in results:
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
