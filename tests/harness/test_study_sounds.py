"""Sound events: their scores on hand-counted cases, the published preprocessing, L3DAS21's files, the made clips."""

import csv

import numpy as np
import pytest
import scipy.signal
import torch
from scipy.io import wavfile

from bench.errors import UsageError
from bench.study import tasks
from bench.study.tasks import _l3das21, _made_sounds, sound_events
from bench.study.tasks._event_scores import EventScores
from bench.study.tasks._spectra import Grid, Scale, spectrogram

# ------------------------------------------------------------------------------------------------------- scores


def steps(*rows):
    """One clip of two classes with two places each; a row is the class counts of a step, such as "a", "ab" or "aa"."""
    out = torch.zeros(1, len(rows), 4)
    for step, row in enumerate(rows):
        for name, first in (("a", 0), ("b", 2)):
            out[0, step, first : first + row.count(name)] = 1
    return out


def scores(predicted, true):
    metric = EventScores(overlaps=2)
    metric.update(predicted * 0.9, true)
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize(
    ("predicted", "true", "TP", "FP", "FN", "errors"),
    [
        (["a", "b"], ["a", "b"], 2, 0, 0, 0),
        (["b"], ["a"], 0, 1, 1, 1),  # one substitution, no deletion, no insertion
        (["ab"], ["a"], 1, 1, 0, 1),  # an insertion
        (["a"], ["ab"], 1, 0, 1, 1),  # a deletion
        (["b", ""], ["a", "b"], 0, 1, 2, 2),  # a substitution in the first step, a deletion in the second
        (["ab", "b"], ["", "a"], 0, 3, 1, 3),  # two insertions where nothing sounds, counted once; a substitution
        (["a"], ["aa"], 1, 0, 1, 1),  # one prediction answers for one event of its class
        (["aa"], ["a"], 1, 1, 0, 1),
        (["aab"], ["abb"], 2, 1, 1, 1),
    ],
)
def test_the_scores_of_hand_counted_cases(predicted, true, TP, FP, FN, errors):
    got = scores(steps(*predicted), steps(*true))
    assert got["error_rate"] == pytest.approx(errors / (TP + FN))
    assert got["precision"] == pytest.approx(TP / (TP + FP) if TP + FP else 0)
    assert got["recall"] == pytest.approx(TP / (TP + FN))
    f = 2 * TP / (2 * TP + FP + FN)
    assert got["f_score"] == pytest.approx(f)
    assert got["sed_score"] == pytest.approx((errors / (TP + FN) + 1 - f) / 2)


def test_an_error_in_one_step_does_not_make_up_for_one_in_another():
    """An insertion here and a deletion there are two errors; in one step they would be one substitution."""
    assert scores(steps("a", ""), steps("", "a"))["error_rate"] == 2
    assert scores(steps("b"), steps("a"))["error_rate"] == 1


def test_the_place_of_an_event_within_its_class_does_not_matter():
    predicted = torch.tensor([[[0.1, 0.8, 0.0, 0.0]]])
    assert scores(predicted, steps("a"))["f_score"] == 1


def test_silence_that_is_heard_as_silence_has_no_errors():
    assert scores(steps("", ""), steps("", "")) == {
        "sed_score": 0.5, "error_rate": 0, "f_score": 0, "precision": 0, "recall": 0
    }  # fmt: skip


def test_a_probability_of_a_half_is_no_detection():
    assert scores(steps("a") * 0.5 / 0.9, steps("a"))["recall"] == 0


# ------------------------------------------------------------------------------------------------ preprocessing


@pytest.mark.parametrize("grid", [_l3das21.GRID, _made_sounds.GRID], ids=["l3das21", "made"])
def test_the_spectrogram_is_scipys_as_published(grid):
    grid = Grid(grid.rate, grid.window, grid.hop, 3)
    waves = torch.randn(4, grid.samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    overlap = grid.window - grid.hop
    _, _, Z = scipy.signal.stft(waves.numpy(), window="hamming", nperseg=grid.window, noverlap=overlap)
    Z = Z[:, 1:, :-1]
    got = spectrogram(waves, grid, phase=True).numpy()
    assert got.shape == (8, grid.window // 2, 8 * grid.steps)
    assert np.allclose(got[:4], np.abs(Z) / grid.window, rtol=1e-9, atol=1e-16)
    assert np.allclose(np.exp(1j * np.pi * got[4:]), Z / np.abs(Z), atol=1e-6)


def test_the_grids_are_100_ms_a_step_and_fit_seldnet():
    for grid in (_l3das21.GRID, _made_sounds.GRID):
        assert grid.step == pytest.approx(0.1)
    assert _l3das21.GRID.samples == 60 * 32_000
    for name, grid in (("l3das21", _l3das21.GRID), ("sounds", _made_sounds.GRID)):
        shape = tasks.create(name).shape
        assert (shape["bins"], shape["frames"]) == (grid.window // 2, 8 * grid.steps)


def test_magnitudes_and_phases_are_scaled_apart():
    x = torch.cat([3 + 2 * torch.randn(4, 8, 50), 0.1 * torch.randn(4, 8, 50)])
    scaled = Scale.fitted([x], phase=True)(x)
    for kind in (scaled[:4], scaled[4:]):
        assert kind.mean().abs() < 1e-5
        assert kind.std() == pytest.approx(1, abs=1e-2)


# -------------------------------------------------------------------------------------------------- made sounds


def test_a_clip_depends_on_its_seed_part_and_number_alone():
    again = _made_sounds.clip(3, 1, 5, room=False)
    for other in ((3, 1, 6), (3, 0, 5), (4, 1, 5)):
        assert not np.array_equal(_made_sounds.clip(*other, room=False)[0], again[0])
    assert all(np.array_equal(a, b) for a, b in zip(_made_sounds.clip(3, 1, 5, room=False), again, strict=True))


def test_every_class_sounds_and_labels_fill_the_first_place_first():
    labels = np.stack([_made_sounds.clip(0, 0, i, room=False)[1] for i in range(60)])
    places = labels.reshape(60, 20, 6, 2)
    assert (places[..., 1] <= places[..., 0]).all()
    assert places[..., 0].any((0, 1)).all(), "a class never sounds"
    assert places[..., 1].any(), "no class ever sounds twice at once"
    assert 0.02 < labels.mean() < 0.3


def test_a_plane_wave_weighs_on_the_channels_as_its_direction(monkeypatch):
    """Of an event from (x, y, z) the channels W, Y, Z, X hear 1, y, z, x times the same wave."""
    monkeypatch.setattr(_made_sounds, "_EVENTS", (1, 2))
    monkeypatch.setattr(_made_sounds, "_NOISE", (-300, -299))
    for number in range(3):
        waves, _ = _made_sounds.clip(0, 0, number, room=False)
        W = waves[0].astype(float)
        weights = waves[1:] @ W / (W @ W)
        assert np.linalg.norm(weights) == pytest.approx(1, abs=1e-4)
        assert np.allclose(waves[1:], np.outer(weights, W), atol=1e-5)


def test_labels_tell_where_the_sound_is(monkeypatch):
    monkeypatch.setattr(_made_sounds, "_EVENTS", (1, 2))
    monkeypatch.setattr(_made_sounds, "_NOISE", (-300, -299))
    for number in range(10):
        waves, labels = _made_sounds.clip(1, 0, number, room=False)
        loud = np.square(waves[0]).reshape(20, -1).mean(1) > 1e-4
        labelled = labels.any(1)
        assert (loud & labelled).sum() >= labelled.sum() - 2, "but for the two ends"
        assert (loud & ~labelled).sum() <= 2


def test_a_room_adds_reflections_after_the_direct_sound():
    pytest.importorskip("pyroomacoustics", reason="an extra: pip install 'phnn-bench[audio]'")
    dry, _ = _made_sounds.clip(0, 0, 1, room=False)
    wet, labels = _made_sounds.clip(0, 0, 1, room=True)
    assert wet.shape == dry.shape
    assert np.isfinite(wet).all()
    assert labels.any()
    rng = np.random.default_rng(0)
    click = np.zeros(800)
    click[0] = 1
    for direction in np.eye(3):
        heard = _made_sounds._Room(rng).recorded(click, direction)
        W, Y, Z, X = heard[:, np.abs(heard[0]).argmax()]
        assert np.allclose(np.array([X, Y, Z]) / W, direction, atol=0.1), "the first arrival has its direction"
        later = np.square(heard[0][np.abs(heard[0]).argmax() + 40 :]).sum()
        assert later > 1e-3 * W**2, "nothing is reflected"


def test_a_room_without_pyroomacoustics_is_a_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyroomacoustics", None)
    with pytest.raises(UsageError, match=r"pip install 'phnn-bench\[audio\]'"):
        tasks.check("sounds-room", None, download=False)


# ------------------------------------------------------------------------------------- L3DAS21, as it is published


def write_recording(root, part, name, events, rate=32_000, seconds=60, dtype=np.int16):
    folder = root / {"train": "L3DAS_Task2_train", "test": "L3DAS_Task2_dev"}[part]
    for sub in ("data", "labels"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name))
    for microphone in "AB":
        samples = rng.integers(-3000, 3000, (int(seconds * rate), 4)).astype(dtype)
        wavfile.write(folder / "data" / f"{name}_{microphone}.wav", rate, samples)
    with (folder / "labels" / f"label_{name}.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["File", "Start", "End", "Class", "X", "Y", "Z"])
        rows.writerows([f"{kind}_1.wav", start, end, kind, 0.5, -1.0, 0.3] for start, end, kind in events)
    return folder


EVENTS = [(0.02, 0.98, "Knock"), (0.5, 1.5, "Knock"), (30.0, 60.0, "Chink_and_clink")]


@pytest.fixture
def folder(tmp_path):
    """Recordings of half a second, so that they are written in no time; what is read is padded to 60 s."""
    for i in range(10):
        write_recording(tmp_path, "train", f"split1_ov{1 + i % 2}_{i}", EVENTS, seconds=0.5)
    for i in range(2):
        write_recording(tmp_path, "test", f"split5_ov1_{i}", EVENTS, seconds=0.5)
    return tmp_path


def test_labels_mark_every_step_of_an_event_in_the_first_free_place(tmp_path):
    folder = write_recording(tmp_path, "train", "split1_ov2_1", EVENTS, seconds=0.01)
    labels = _l3das21.read_labels(folder / "labels" / "label_split1_ov2_1.csv")
    assert labels.shape == (600, 42)
    knock = labels.reshape(600, 14, 3)[:, _l3das21.CLASSES.index("Knock")]
    assert knock[:, 0].nonzero().flatten().tolist() == list(range(15))  # 0.0 to 1.5 s
    assert knock[:, 1].nonzero().flatten().tolist() == list(range(4, 10))  # both, 0.5 to 1.0 s
    clink = labels.reshape(600, 14, 3)[:, 0, 0].nonzero().flatten().tolist()
    assert clink == list(range(299, 600))
    assert labels.sum() == len(clink) + 15 + 6


def test_a_folder_is_read_with_its_test_part_apart(folder, monkeypatch):
    monkeypatch.setattr(sound_events, "_SAMPLE", 2)  # transforms of 60 s take their time
    tasks.check("l3das21", folder, download=False)
    task = tasks.create("l3das21")
    splits = task.splits(0, folder)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [8, 2, 2]
    assert sorted(r.overlap for r in splits.val.recordings) == ["ov1", "ov2"]
    assert {r.labels for r in splits.train.recordings}.isdisjoint(r.labels for r in splits.val.recordings)
    x, y = splits.train[0]
    assert (x.shape, y.shape) == ((4, 256, 4800), (600, 42))
    assert x.dtype == y.dtype == torch.float32


def test_two_microphones_and_phases_are_channels_of_their_own(folder):
    one, both = (_l3das21.recordings(folder, "test", microphones)[0] for microphones in (1, 2))
    x = sound_events._spectrogram(both, phase=True)
    assert x.shape == (16, 256, 4800)
    assert torch.equal(x[:4], sound_events._spectrogram(one, phase=False))
    assert not torch.equal(x[4:8], x[:4])
    assert x[8:].abs().max() <= 1
    for name, channels in (("l3das21-phase", 8), ("l3das21-2mics", 8), ("l3das21-2mics-phase", 16)):
        assert tasks.create(name).shape["in_channels"] == channels


def test_whole_numbers_and_floats_are_one_scale(tmp_path):
    for name, dtype, factor in (("split1_ov1_1", np.int16, 1), ("split1_ov1_2", np.float32, 1 / 32768)):
        folder = write_recording(tmp_path, "train", name, [], seconds=0.05)
        file = folder / "data" / f"{name}_A.wav"
        rate, samples = wavfile.read(folder / "data" / "split1_ov1_1_A.wav")
        wavfile.write(file, rate, (samples * factor).astype(dtype))
    a, b = (_l3das21.read_waves([folder / "data" / f"split1_ov1_{i}_A.wav"]) for i in (1, 2))
    assert torch.equal(a, b)
    assert a.shape == (4, 1_920_000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "labels" / "label_split1_ov1_2.csv").unlink(), "label_split1_ov1_2.csv lacks"),
        (lambda f: (f / "data" / "split1_ov2_1_B.wav").unlink(), "split1_ov2_1_B.wav lacks"),
        (lambda f: (f / "data" / "split1_ov2_1_A.wav").rename(f / "data" / "x_A.wav"), "x_A.wav is not named"),
        (lambda f: [file.unlink() for file in (f / "data").iterdir()], r"no recording \*_A.wav"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_with_the_file(folder, damage, message):
    damage(folder / "L3DAS_Task2_train")
    with pytest.raises(UsageError, match=message):
        tasks.check("l3das21-2mics", folder, download=False)


def test_a_file_of_another_form_is_refused_with_what_it_has(tmp_path):
    folder = write_recording(tmp_path, "train", "split1_ov1_1", [(1, 2, "Trumpet")], rate=16_000, seconds=0.1)
    with pytest.raises(UsageError, match="4 channels at 16000 Hz, not 4 at 32000 Hz"):
        _l3das21.read_waves([folder / "data" / "split1_ov1_1_A.wav"])
    labels = folder / "labels" / "label_split1_ov1_1.csv"
    with pytest.raises(UsageError, match="labels a class 'Trumpet'"):
        _l3das21.read_labels(labels)
    labels.write_text("Begin,End\n1,2\n")
    with pytest.raises(UsageError, match="needs the columns Start, End and Class"):
        _l3das21.read_labels(labels)
    (folder / "data" / "split1_ov1_1_A.wav").write_bytes(b"RIFFnothing")
    with pytest.raises(UsageError, match="cannot be read"):
        _l3das21.read_waves([folder / "data" / "split1_ov1_1_A.wav"])


def test_a_fourth_event_of_one_class_at_once_is_refused(tmp_path):
    folder = write_recording(tmp_path, "train", "split1_ov1_1", [(1, 3, "Knock")] * 4, seconds=0.01)
    with pytest.raises(UsageError, match="more than 3 Knock at once, near 1 s"):
        _l3das21.read_labels(folder / "labels" / "label_split1_ov1_1.csv")


def test_l3das21_is_not_downloaded(folder):
    with pytest.raises(UsageError, match="not to be had with --download"):
        tasks.check("l3das21", folder, download=True)
