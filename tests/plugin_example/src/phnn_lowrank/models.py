"""A net of one hidden layer over any algebra, with a classifier of low rank."""

from torch import Tensor, nn

import phnn

from .layers import LowRankLinear


class TinyNet(nn.Module):
    """Linear layer over the algebra, ReLU, classifier of rank ``inner``."""

    def __init__(self, channels: int, num_classes: int, inner: int, *, device=None, dtype=None, **algebra) -> None:
        super().__init__()
        self.hidden = phnn.PHLinear(channels, channels, device=device, dtype=dtype, **algebra)
        self.classifier = LowRankLinear(channels, num_classes, inner, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(nn.functional.relu(self.hidden(x)))
