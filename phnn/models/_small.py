"""Small models of many kinds as the registry lists them: perceptron, U-Net, vision transformer, recurrent classifier.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable

from ..algebras import Algebra
from ..registry import Shape, Spec, register
from ..widths import misfit, scaled, transformer_widths
from ._options import fitting
from ._shapes import IMAGES, image_arguments, image_input, written_widths

_MLP_WIDTHS = (512, 512)
_UNET_WIDTHS = (64, 128, 256, 512, 1024)


def _widths_fit(default: tuple[int, ...]) -> Callable[[Algebra, Shape], str | None]:
    """The constraint of a model that takes any number of widths."""

    def fits(algebra: Algebra, shape: Shape) -> str | None:
        try:
            fitting(written_widths(shape["widths"]) or default, shape["width_scale"], algebra.n)
        except ValueError as error:
            return str(error)
        return None

    return fits


register(
    Spec(
        name="mlp",
        kind="model",
        ranked=True,
        target="phnn.models.mlp:mlp",
        keywords={"default_widths": _MLP_WIDTHS},
        shape=IMAGES,
        arguments=lambda shape: {**image_arguments(shape), "size": shape["size"]},
        input_shape=image_input,
        constraints=_widths_fit(_MLP_WIDTHS),
        info="perceptron with hidden layers of 512 and 512, on flattened images or (size=1) vectors",
        source="Rumelhart et al. 1986; Zhang et al. 2021 (PHM)",
    )
)


def _unet_fits(algebra: Algebra, shape: Shape) -> str | None:
    if reason := _widths_fit(_UNET_WIDTHS)(algebra, shape):
        return reason
    halvings = len(written_widths(shape["widths"]) or _UNET_WIDTHS) - 1
    if shape["size"] < 2**halvings:
        return f"size={shape['size']} cannot be halved {halvings} times: {2**halvings} is the least"
    return None


register(
    Spec(
        name="unet",
        kind="model",
        ranked=True,
        target="phnn.models.unet:unet",
        keywords={"default_widths": _UNET_WIDTHS},
        shape={**IMAGES, "batch": 4, "size": 64, "num_classes": 2},
        arguments=image_arguments,
        input_shape=image_input,
        constraints=_unet_fits,
        info="U-Net with transposed convolutions, widths 64 to 1024; class scores for each pixel",
        source="Ronneberger et al. 2015",
    )
)


def _vit_fits(algebra: Algebra, shape: Shape) -> str | None:
    if shape["size"] % shape["patch"]:
        return f"patch={shape['patch']} does not divide size={shape['size']}"
    try:
        transformer_widths(shape["dim"], shape["heads"], shape["mlp_ratio"], shape["width_scale"], algebra.n)
    except ValueError as error:
        return str(error)
    return None


_VIT = {"patch": 4, "dim": 192, "depth": 6, "heads": 3, "mlp_ratio": 4.0, "class_token": True}

register(
    Spec(
        name="vit_small",
        kind="model",
        target="phnn.models.vit:vit",
        shape={"batch": 32, "size": 32, "in_channels": 3, "num_classes": 10, **_VIT, "width_scale": 1.0},
        arguments=lambda shape: {key: shape[key] for key in shape if key != "batch"},
        input_shape=image_input,
        constraints=_vit_fits,
        info="vision transformer for small images: patches of 4×4, dim 192, 6 blocks, 3 heads",
        source="Dosovitskiy et al. 2021; Tay et al. 2019",
    )
)


def _gru_fits(algebra: Algebra, shape: Shape) -> str | None:
    (hidden,) = scaled((shape["hidden"],), shape["width_scale"], algebra.n)
    return misfit(algebra.n, hidden=hidden)


register(
    Spec(
        name="gru_classifier",
        kind="model",
        paths=("kron", "dense"),
        target="phnn.models.gru:gru_classifier",
        shape={
            "batch": 32,
            "length": 64,
            "in_channels": 64,
            "num_classes": 10,
            "hidden": 128,
            "num_layers": 2,
            "bidirectional": False,
            "width_scale": 1.0,
        },
        arguments=lambda shape: {key: shape[key] for key in shape if key not in ("batch", "length")},
        input_shape=lambda shape: (shape["batch"], shape["length"], shape["in_channels"]),
        constraints=_gru_fits,
        info="GRU of 2 layers of 128, and a linear classifier of its last state",
        source="Cho et al. 2014; Parcollet et al. 2019 (quaternion RNNs)",
    )
)
