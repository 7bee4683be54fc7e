"""What the entry points name. Loads no torch, so that listing stays quick."""

from phnn.registry import Spec
from phnn.widths import misfit

LAYERS = [
    Spec(
        name="lowrank_linear",
        kind="layer",
        target="phnn_lowrank.layers:LowRankLinear",
        twin="linear",
        algebras=(),
        shape={"batch": 32, "channels": 256, "out_channels": None, "inner": 16},
        arguments=lambda shape: {
            "in_features": shape["channels"],
            "out_features": shape["out_channels"] or shape["channels"],
            "inner": shape["inner"],
        },
        input_shape=lambda shape: (shape["batch"], shape["channels"]),
        constraints=lambda algebra, shape: (
            None if shape["inner"] <= shape["channels"] else f"inner={shape['inner']} is more than channels"
        ),
        info="torch.nn.Linear with a weight of rank inner",
    )
]


def models():
    return Spec(
        name="tiny_net",
        kind="model",
        target="phnn_lowrank.models:TinyNet",
        shape={"batch": 32, "channels": 64, "num_classes": 10, "inner": 4},
        arguments=lambda shape: {key: shape[key] for key in ("channels", "num_classes", "inner")},
        input_shape=lambda shape: (shape["batch"], shape["channels"]),
        constraints=lambda algebra, shape: misfit(algebra.n, channels=shape["channels"]),
        info="a hidden layer over the algebra, a classifier of low rank",
    )
