"""From waveforms to what SELDnet takes: the preprocessing published with L3DAS21 and used by the PH papers.

Windows of Hamming, magnitudes over the window's sum and length, without the bin of frequency 0 and the last frame;
with phases, if wanted, as angles over pi in channels of their own. Then mean 0 and deviation 1, magnitudes and phases
apart, over all channels, bins and frames of the training part. The published scripts take each part's own mean and
deviation; here the training part's serve all, since what is tested must not shape its own inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

FRAMES_A_STEP = 8  # frames of a spectrogram for each step of the labels: what SELDnet pools to one


@dataclass(frozen=True)
class Grid:
    """rate: samples a second; window, hop: of the transform, in samples; steps: of the labels in a clip."""

    rate: int
    window: int
    hop: int
    steps: int

    @property
    def samples(self) -> int:
        """The length of a clip."""
        return self.steps * FRAMES_A_STEP * self.hop

    @property
    def step(self) -> float:
        """Seconds from one label to the next."""
        return FRAMES_A_STEP * self.hop / self.rate


def spectrogram(waves: Tensor, grid: Grid, phase: bool) -> Tensor:
    """(channels, samples) → (channels, bins, frames), magnitudes; with ``phase`` as many angles after them.

    The transform is that of scipy.signal.stft, whose ends are padded with zeros.
    """
    window = torch.hamming_window(grid.window, dtype=waves.dtype)
    transform = (
        torch.stft(
            waves, grid.window, grid.hop, window=window, center=True, pad_mode="constant", return_complex=True
        )[:, 1:, :-1]
        / window.sum()
    )
    magnitude = transform.abs() / grid.window
    return torch.cat([magnitude, transform.angle() / math.pi]) if phase else magnitude


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of magnitudes, and of phases where there are any: one number a channel, (channels, 1, 1)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def fitted(cls, spectrograms: Iterable[Tensor], phase: bool) -> Scale:
        """From the spectrograms of (a sample of) the training part, one at a time."""
        count, total, squares = 0, torch.zeros(0), torch.zeros(0)
        channels = 0
        for x in spectrograms:
            channels = len(x)
            kinds = x.double().reshape(2 if phase else 1, -1)
            total = total + kinds.sum(1) if count else kinds.sum(1)
            squares = squares + kinds.square().sum(1) if count else kinds.square().sum(1)
            count += kinds.shape[1]
        mean = total / count
        std = (squares / count - mean.square()).sqrt()
        repeat = channels // len(mean)
        return cls(*(t.float().repeat_interleave(repeat).reshape(-1, 1, 1) for t in (mean, std)))

    def __call__(self, spectrogram: Tensor) -> Tensor:
        return (spectrogram - self.mean) / self.std
