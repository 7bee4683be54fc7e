"""Sound scenes made from a seed: events of six classes from random directions, in noise, perhaps in a room.

A clip is the first-order ambisonic recording of one microphone (channels W, Y, Z, X; AmbiX order, SN3D): a plane wave
of direction (x, y, z) weighs (1, y, z, x). Everything is drawn anew from (seed, part, number of the clip), so a clip
does not depend on how many there are, and no two parts share one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ._spectra import Grid

Wave = NDArray[np.float64]
Generator = np.random.Generator

GRID = Grid(rate=16_000, window=256, hop=200, steps=20)  # steps of 100 ms, as in L3DAS21
CLASSES = ("tone", "rise", "fall", "hiss", "clicks", "warble")
OVERLAPS = 2  # events of one class at once, at most
_EVENTS = (1, 5)  # in a clip: from 1 to 4
_SECONDS = (0.3, 1.0)  # an event's length
_LEVEL = (-12.0, 0.0)  # of an event, dB
_NOISE = (-30.0, -18.0)  # of the noise, dB: an event is 6 to 30 dB above it
_FADE = 0.01  # seconds
_REFLECTIONS = 6  # of the walls, one after the other, at most


@dataclass(frozen=True)
class Event:
    """One event: its class and the steps [start, end) in which it is labelled."""

    kind: int
    start: int
    end: int


def clip(seed: int, part: int, number: int, room: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The waves (4, samples) and the labels (steps, classes * overlaps) of one clip."""
    rng = np.random.default_rng([seed, part, number])
    waves = _noise(rng)
    labels = np.zeros((GRID.steps, len(CLASSES), OVERLAPS), np.float32)
    heard = _Room(rng) if room else None
    for _ in range(rng.integers(*_EVENTS)):
        first, wave = _event_samples(rng)
        kind = int(rng.integers(len(CLASSES)))
        sound = _SOUNDS[kind](rng, len(wave)) * wave * _decibels(rng, _LEVEL)
        event = Event(kind, *_steps(first, len(wave)))
        direction = _direction(rng)
        if labels[event.start : event.end, kind].sum(-1).max() == OVERLAPS:
            continue  # what was drawn stays drawn: the events after it are the same
        _label(labels, event)
        recorded = heard.recorded(sound, direction) if heard else _encoded(sound, direction)
        recorded = recorded[:, : GRID.samples - first]
        waves[:, first : first + recorded.shape[1]] += recorded
    return waves.astype(np.float32), labels.reshape(GRID.steps, -1)


def _event_samples(rng: Generator) -> tuple[int, Wave]:
    """Where an event starts and its envelope, which ends within the clip."""
    length = int(rng.uniform(*_SECONDS) * GRID.rate)
    first = int(rng.integers(GRID.samples - length))
    envelope = np.ones(length)
    fade = int(_FADE * GRID.rate)
    envelope[:fade], envelope[-fade:] = np.linspace(0, 1, fade), np.linspace(1, 0, fade)
    return first, envelope


def _steps(first: int, length: int) -> tuple[int, int]:
    samples = GRID.samples // GRID.steps
    start, end = round(first / samples), round((first + length) / samples)
    return start, max(end, start + 1)


def _label(labels: NDArray[np.float32], event: Event) -> None:
    """Note an event in the first free place of its class in each of its steps."""
    for step in range(event.start, event.end):
        labels[step, event.kind, int(labels[step, event.kind].sum())] = 1


def _decibels(rng: Generator, between: tuple[float, float]) -> float:
    return float(10 ** (rng.uniform(*between) / 20))


def _noise(rng: Generator) -> Wave:
    """Diffuse noise: no direction, so independent in all channels, the three dipoles at a third of W's power."""
    power = np.array([1, 1 / 3, 1 / 3, 1 / 3])[:, None]
    return np.sqrt(power) * _decibels(rng, _NOISE) * rng.standard_normal((4, GRID.samples), dtype=np.float32)


def _direction(rng: Generator) -> Wave:
    v = rng.standard_normal(3)  # uniform on the sphere
    return v / np.linalg.norm(v)


def _encoded(sound: Wave, direction: Wave) -> Wave:
    x, y, z = direction
    return np.outer([1, y, z, x], sound)


# ------------------------------------------------------------------------------------------------------- sounds


def _phase(frequency: Wave) -> Wave:
    """The angle of an oscillation whose frequency changes, Hz at each sample."""
    return 2 * np.pi * np.cumsum(frequency) / GRID.rate


def _tone(rng: Generator, length: int) -> Wave:
    """Four harmonics of a steady pitch."""
    pitch = _phase(np.full(length, rng.uniform(200, 800)))
    return sum((np.sin(k * pitch) / k for k in range(1, 5)), np.zeros(length))


def _glide(rng: Generator, length: int, up: bool) -> Wave:
    low = rng.uniform(300, 900)
    ends = (low, low * rng.uniform(3, 5))
    return np.sin(_phase(np.geomspace(*(ends if up else ends[::-1]), length)))


def _hiss(rng: Generator, length: int) -> Wave:
    """White noise in a band of two octaves."""
    from scipy.signal import butter, sosfilt

    low = rng.uniform(1000, 1800)
    band = butter(4, (low, 4 * low), "bandpass", fs=GRID.rate, output="sos")
    return np.asarray(sosfilt(band, rng.standard_normal(length))) * 1.5


def _clicks(rng: Generator, length: int) -> Wave:
    """Short noisy strokes in even time."""
    since = np.arange(length) % int(GRID.rate / rng.uniform(8, 20))
    return 2 * rng.standard_normal(length) * np.exp(-since / (0.004 * GRID.rate))


def _warble(rng: Generator, length: int) -> Wave:
    """A tone that swings by a quarter of its pitch."""
    time = np.arange(length) / GRID.rate
    pitch = rng.uniform(1200, 2500) * (1 + 0.25 * np.sin(2 * np.pi * rng.uniform(6, 12) * time))
    return np.sin(_phase(pitch))


# how each of CLASSES sounds: (generator, length) → wave
_SOUNDS: tuple[Callable[[Generator, int], Wave], ...] = (
    _tone,
    functools.partial(_glide, up=True),
    functools.partial(_glide, up=False),
    _hiss,
    _clicks,
    _warble,
)


# --------------------------------------------------------------------------------------------------------- room


class _Room:
    """A shoebox with the microphone in it, drawn once a clip; reflections by image sources (pyroomacoustics)."""

    def __init__(self, rng: Generator) -> None:
        self.size = np.array([rng.uniform(4, 8), rng.uniform(4, 7), rng.uniform(2.5, 3.5)])
        self.microphone = self.size * rng.uniform(0.35, 0.65, 3)
        self.absorption = rng.uniform(0.3, 0.7)

    def recorded(self, sound: Wave, direction: Wave) -> Wave:
        """What the four channels hear of a sound in a direction."""
        from scipy.signal import fftconvolve

        # nine tenths of the way to the wall behind it, 2 m at most: nearer than that the walls hardly matter
        way = np.where(direction > 0, self.size - self.microphone, self.microphone) / np.abs(direction).clip(1e-9)
        responses = self._responses(self.microphone + direction * min(2.0, 0.9 * way.min()))
        return np.stack([fftconvolve(sound, response) for response in responses])

    def _responses(self, source: Wave) -> list[Wave]:
        """Impulse responses of W, Y, Z and X: an omnidirectional microphone and three figures of eight in a point."""
        acoustics = room_acoustics()
        ways = acoustics.directivities
        axes = ((90, 90), (0, 0), (0, 90))  # azimuth and colatitude of Y, Z and X
        dipoles = [ways.FigureEight(ways.DirectionVector(azimuth=a, colatitude=c, degrees=True)) for a, c in axes]
        room = acoustics.ShoeBox(
            self.size, fs=GRID.rate, materials=acoustics.Material(self.absorption), max_order=_REFLECTIONS
        )
        points = np.repeat(self.microphone[:, None], 4, axis=1)
        microphones = acoustics.MicrophoneArray(points, GRID.rate, directivity=[ways.Omnidirectional(), *dipoles])
        room.add_microphone_array(microphones)
        room.add_source(source)
        room.compute_rir()
        return [np.asarray(response[0]) for response in room.rir]


def room_acoustics() -> Any:
    """pyroomacoustics; a UsageError where it is not installed."""
    try:
        import pyroomacoustics
    except ImportError:
        raise UsageError("sounds in rooms need pyroomacoustics: pip install 'phnn-bench[audio]'") from None
    return pyroomacoustics
