"""A net to convert, and what becomes of the layers of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import phnn


class Net(nn.Module):
    """A stem that n=4 does not divide, a grouped and a depthwise convolution, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding="same", padding_mode="circular", bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, groups=2, dilation=2),
            nn.Conv2d(16, 16, 3, groups=16, padding=1),
            nn.ConvTranspose2d(16, 8, 2, stride=2, output_padding=1),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(8, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.pool(self.body(self.stem(x))).flatten(1))))


def becomes(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, str]:
    """The layers by name: the class that each became, or the reason why it stays."""
    layers = phnn.convert(model, *args, **kwargs).conversion.layers
    return {layer.name: layer.became or layer.reason for layer in layers}


def reason_of(layer: nn.Module, **kwargs: Any) -> str:
    """Why a layer in front of another stays real; empty if it changes."""
    report = phnn.convert(nn.ModuleList([layer, nn.Linear(8, 8)]), **kwargs).conversion
    return report.layers[0].reason or ""
