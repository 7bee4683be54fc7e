"""Sound events: what sounds when in first-order ambisonic recordings; made ones by default, or L3DAS21 Task 2.

Both go through the same published preprocessing. The made clips are short: 2 s, 128 bins × 160 frames, 20 steps of
100 ms; they are drawn anew for every seed. Of L3DAS21 the folder of development is the test part, and a fifth of the
training folder, drawn by the seed from each number of overlapping sounds, the validation part.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.utils.data import Dataset, TensorDataset

from ...errors import UsageError
from ..catalog import DATA
from ..task import Splits, StudyTask
from . import _l3das21, _made_sounds
from ._classes import stratified
from ._event_scores import EventScores
from ._spectra import Scale, spectrogram

_MADE = {"train": 512, "val": 128, "test": 256}  # clips
_VAL = 0.2  # of L3DAS21's training folder
_SAMPLE = 64  # recordings of L3DAS21 whose mean and deviation stand for all


def create(name: str, axes: Mapping[str, Any]) -> StudyTask:
    return SoundEvents(name)


def check(name: str, root: Path | None, download: bool) -> None:
    if name == "sounds-room":
        _made_sounds.room_acoustics()
    if not DATA[name].bundled:
        assert root is not None
        if download:
            raise UsageError(f"data {name!r} is not to be had with --download: {DATA[name].remedy}")
        for part in ("train", "test"):
            _l3das21.recordings(root, part, _microphones(name))


class SoundEvents:
    """Spectrograms (in_channels, bins, frames) in, (steps, num_classes * overlaps) of 0 and 1 as targets."""

    monitor = "sed_score"
    higher = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.shape = DATA[name].shape

    def splits(self, seed: int, root: Path | None) -> Splits:
        if DATA[self.name].bundled:
            return _made(seed, _has_phase(self.name), room=self.name == "sounds-room")
        if root is None:
            raise UsageError(f"data {self.name!r} is not bundled: {DATA[self.name].remedy}")
        return self._recorded(seed, root)

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy of probabilities, which autocast would refuse to take in half precision."""
        with torch.autocast(outputs.device.type, enabled=False):
            return nnf.binary_cross_entropy(outputs.float(), targets)

    def metrics(self) -> torchmetrics.MetricCollection:
        return torchmetrics.MetricCollection({"events": EventScores(self.shape["overlaps"])})

    def module_metrics(self, module: nn.Module) -> dict[str, float]:
        return {}

    def _recorded(self, seed: int, root: Path) -> Splits:
        microphones, phase = _microphones(self.name), _has_phase(self.name)
        found = _l3das21.recordings(root, "train", microphones)
        train, val = stratified(np.array([r.overlap for r in found]), _VAL, seed, self.name)
        sample = np.random.default_rng(seed).permutation(train)[:_SAMPLE]
        scale = Scale.fitted((_spectrogram(found[i], phase) for i in sample), phase)
        test = _l3das21.recordings(root, "test", microphones)
        return Splits(
            *(Recorded(part, phase, scale) for part in ([found[i] for i in train], [found[i] for i in val], test))
        )


class Recorded(Dataset[tuple[Tensor, Tensor]]):
    """Recordings on disk, read and transformed as they are taken."""

    def __init__(self, recordings: list[_l3das21.Recording], phase: bool, scale: Scale) -> None:
        self.recordings, self.phase, self.scale = recordings, phase, scale

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        if isinstance(index, Tensor) and index.dim():
            inputs, targets = zip(*(self[int(i)] for i in index), strict=True)
            return torch.stack(inputs), torch.stack(targets)
        recording = self.recordings[int(index)]
        return self.scale(_spectrogram(recording, self.phase)), _l3das21.read_labels(recording.labels)


def _spectrogram(recording: _l3das21.Recording, phase: bool) -> Tensor:
    return spectrogram(_l3das21.read_waves(recording.waves), _l3das21.GRID, phase)


def _made(seed: int, phase: bool, room: bool) -> Splits:
    parts = []
    for part, count in enumerate(_MADE.values()):
        clips = [_made_sounds.clip(seed, part, number, room) for number in range(count)]
        inputs = torch.stack([spectrogram(torch.from_numpy(waves), _made_sounds.GRID, phase) for waves, _ in clips])
        parts.append((inputs, torch.stack([torch.from_numpy(labels) for _, labels in clips])))
    scale = Scale.fitted(parts[0][0], phase)
    return Splits(*(TensorDataset(scale(inputs), targets) for inputs, targets in parts))


def _has_phase(name: str) -> bool:
    return name.endswith("-phase")


def _microphones(name: str) -> int:
    return 2 if "-2mics" in name else 1
