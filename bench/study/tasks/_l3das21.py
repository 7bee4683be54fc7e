"""L3DAS21 Task 2 as its authors publish it: a folder of recordings and of label files, found, checked and read.

ROOT/L3DAS_Task2_train and ROOT/L3DAS_Task2_dev each hold data/splitX_ovY_Z_A.wav, _B.wav of the second microphone (4
channels at 32 kHz, 60 s), and labels/label_splitX_ovY_Z.csv (File, Start, End, Class, X, Y, Z). ovY: at most Y sounds
at once. Source: Guizzo et al., *L3DAS21 challenge: machine learning for 3D audio signal processing*, 2021.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ._spectra import Grid

GRID = Grid(rate=32_000, window=512, hop=400, steps=600)
CHANNELS = 4  # of each microphone
OVERLAPS = 3
CLASSES = (
    "Chink_and_clink", "Computer_keyboard", "Cupboard_open_or_close", "Drawer_open_or_close",
    "Female_speech_and_woman_speaking", "Finger_snapping", "Keys_jangling", "Knock", "Laughter",
    "Male_speech_and_man_speaking", "Printer", "Scissors", "Telephone", "Writing",
)  # fmt: skip
_FOLDERS = {"train": "L3DAS_Task2_train", "test": "L3DAS_Task2_dev"}


@dataclass(frozen=True)
class Recording:
    """waves: the file of each microphone; labels: the events; overlap: how many may sound at once (ov1 to ov3)."""

    waves: tuple[Path, ...]
    labels: Path
    overlap: str


def recordings(root: Path, part: str, microphones: int) -> list[Recording]:
    """All recordings of a part, by name, with their label files; a UsageError names the first file that lacks."""
    folder = root / _FOLDERS[part]
    first = sorted((folder / "data").glob("*_A.wav"))
    if not first:
        raise UsageError(
            f"data 'l3das21': no recording *_A.wav in {folder / 'data'}: --data-root names the folder that holds "
            f"{' and '.join(_FOLDERS.values())} (zenodo 4642005)"
        )
    return [_recording(file, folder / "labels", microphones) for file in first]


def _recording(file: Path, labels: Path, microphones: int) -> Recording:
    name = file.stem.removesuffix("_A")
    fields = name.split("_")
    if len(fields) < 3:
        raise UsageError(f"data 'l3das21': {file} is not named splitX_ovY_Z_A.wav")
    waves = tuple(file.with_name(f"{name}_{microphone}.wav") for microphone in "AB"[:microphones])
    found = Recording(waves, labels / f"label_{name}.csv", fields[-2])
    for needed in (*found.waves, found.labels):
        if not needed.is_file():
            raise UsageError(f"data 'l3das21' is not whole: {needed} lacks; unpack the published archives again")
    return found


def read_waves(files: Sequence[Path]) -> Tensor:
    """The channels of all microphones, (4 * microphones, samples), full scale at 1; cut or padded to 60 s."""
    from scipy.io import wavfile

    channels = []
    for file in files:
        try:
            rate, samples = wavfile.read(file)
        except (ValueError, OSError) as error:
            raise UsageError(f"data 'l3das21': {file} cannot be read: {error}") from None
        if rate != GRID.rate or samples.ndim != 2 or samples.shape[1] != CHANNELS:
            shape = f"{samples.shape[1] if samples.ndim == 2 else 1} channels at {rate} Hz"
            raise UsageError(f"data 'l3das21': {file} has {shape}, not {CHANNELS} at {GRID.rate} Hz")
        full = np.iinfo(samples.dtype).max + 1 if samples.dtype.kind == "i" else 1
        whole = np.zeros((CHANNELS, GRID.samples), np.float32)
        kept = samples[: GRID.samples].T
        whole[:, : kept.shape[1]] = kept.astype(np.float32) / full
        channels.append(whole)
    return torch.from_numpy(np.concatenate(channels))


def read_labels(file: Path) -> Tensor:
    """(steps, classes * overlaps), 1 where a class sounds once, twice, three times at once.

    An event is labelled in all steps from its start to its end, both included; times are rounded to 100 ms, and 0 to
    60 s go to steps 0 to 599, as in the published preprocessing. Raises UsageError for what the format does not
    allow.
    """
    labels = torch.zeros(GRID.steps, len(CLASSES), OVERLAPS)
    try:
        with file.open(newline="", encoding="utf-8") as text:
            events = [(float(row["Start"]), float(row["End"]), row["Class"]) for row in csv.DictReader(text)]
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"data 'l3das21': {file} needs the columns Start, End and Class: {error}") from None
    for start, end, name in events:
        if name not in CLASSES:
            raise UsageError(f"data 'l3das21': {file} labels a class {name!r}, which Task 2 has not")
        kind = CLASSES.index(name)
        steps = slice(_step(start), _step(end) + 1)
        taken = labels[steps, kind].sum(-1).long()
        if len(taken) and int(taken.max()) == OVERLAPS:
            raise UsageError(f"data 'l3das21': {file} has more than {OVERLAPS} {name} at once, near {start:g} s")
        labels[torch.arange(GRID.steps)[steps], kind, taken] = 1
    return labels.flatten(1)


def _step(seconds: float) -> int:
    rounded = round(seconds / GRID.step) * GRID.step
    return int(np.interp(rounded, (0, GRID.steps * GRID.step), (0, GRID.steps - 1)))
