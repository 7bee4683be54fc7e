"""The data sets by name, with what a sweep must know of them before any is loaded. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataInfo:
    """Shape of one image data set; bundled: comes with an installed package, nothing to download."""

    channels: int
    size: int
    classes: int
    bundled: bool
    info: str

    @property
    def shape(self) -> dict[str, int]:
        """The shape axes that the data decide."""
        return {"in_channels": self.channels, "size": self.size, "num_classes": self.classes}


DATA = {
    "digits": DataInfo(1, 8, 10, True, "scikit-learn's handwritten digits: 1,797 images of 8×8"),
    "cifar10": DataInfo(3, 32, 10, False, "CIFAR-10: 60,000 colour images of 32×32"),
    "cifar100": DataInfo(3, 32, 100, False, "CIFAR-100: the same size, 100 classes"),
    "svhn": DataInfo(3, 32, 10, False, "Street View House Numbers: 99,289 colour images of 32×32"),
}
