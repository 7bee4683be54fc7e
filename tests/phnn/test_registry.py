import importlib
import subprocess
import sys

import pytest
import torch

import phnn
from phnn import registry


def test_listing_and_planning_load_no_torch():
    code = (
        "import sys, phnn; phnn.list_layers(); phnn.list_models(); phnn.list_algebras();"
        "from phnn import timing, cost, tolerances; assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_match_shell_patterns():
    assert "resnet20" in phnn.list_models("resnet2*")
    assert "resnet18" not in phnn.list_models("resnet2*")
    assert {"linear", "conv2d"} <= set(phnn.list_layers())


def test_an_unknown_name_gets_near_matches():
    with pytest.raises(ValueError, match="unknown model 'resnet21'.*resnet20"):
        phnn.create_model("resnet21", algebra="real")
    with pytest.raises(ValueError, match="unknown layer 'linaer'.*linear"):
        phnn.create_layer("linaer", 4, 4)


def test_a_name_cannot_be_taken_twice():
    spec = registry.find("linear")
    with pytest.raises(ValueError, match="'linear' is registered already"):
        registry.register(spec)


@pytest.mark.parametrize("name", phnn.list_layers())
def test_a_layer_builds_from_its_own_shape_and_takes_its_own_inputs(name):
    spec = registry.find(name)
    layer = spec.build(spec.shape, algebra="quaternion", device="meta")
    inputs = spec.example_inputs(spec.shape, device="meta")
    output = layer(*inputs)
    output = output[0] if isinstance(output, tuple) else output
    assert isinstance(output, torch.Tensor)
    assert output.shape[0] in (inputs[0].shape[0], spec.shape["batch"])


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_the_constraint_refuses_what_building_refuses(spec):
    """n = 7 divides none of the default widths: the registry says so before, the constructor when asked anyway."""
    algebra = phnn.algebra("ph", 7)
    assert "n=7 does not divide" in spec.constraints(algebra, spec.shape)
    with pytest.raises(ValueError, match="n=7 does not divide"):
        spec.build(spec.shape, algebra="ph", n=7)


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda spec: spec.name)
def test_the_constraint_admits_what_can_be_built(spec):
    for algebra in (phnn.algebra("real"), phnn.algebra("quaternion"), phnn.algebra("ph", 2)):
        if spec.algebras is None or algebra.name in spec.algebras:
            assert spec.constraints(algebra, spec.shape) is None


def test_layers_without_paths_take_the_keywords_that_create_layer_promises():
    for name in phnn.list_layers():
        spec = registry.find(name)
        phnn.create_layer(name, **spec.arguments(spec.shape), algebra="quaternion", n=4)
    assert {"dropout1d", "dropout2d", "dropout3d"} <= set(phnn.list_layers())


def test_every_layer_of_the_package_is_registered():
    targets = {spec.target.partition(":")[2] for spec in registry.specs("layer")}
    assert targets == {name for name in phnn.__all__ if name.startswith(("PH", "Quaternion"))}


def test_every_layer_says_where_it_was_published():
    for spec in registry.specs("layer"):
        module, _, attribute = spec.target.partition(":")
        assert "Source:" in getattr(importlib.import_module(module), attribute).__doc__, spec.name
