"""One case trained and tested: what a worker runs, on one device or on several together.

A job crosses to the processes of a DDP training, and its finding comes back from the first of them: plain values.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

from phnn import plugins
from phnn.conversion import convert

from ...plan.case import Case
from ...task import execution
from ...task.subject import Subject, build_module, count_params
from .. import tasks
from ..recipe import Recipe
from ..task import Splits
from . import tracking
from .checkpoint import Progress
from .evaluate import evaluate
from .loop import CHECKPOINT_EVERY, Setting, fit
from .search import at_the_edge, best, search

_PRECISION: dict[str, Any] = {"none": "32-true", "tf32": "32-true", "amp_bf16": "bf16-mixed", "amp_fp16": "16-mixed"}
_MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Job:
    """A case to be trained; controlled: the case whose slim control it is.

    folder: for the checkpoints of this job alone, kept while it is under way, every ``every`` seconds at most;
    track: a tracker (see tracking), and tracks: the folder for what it writes.
    """

    case: Case
    controlled: Case | None = None
    device: str = "cpu"
    threads: int = 1
    data_root: str | None = None
    plugins: tuple[str, ...] = ()
    folder: str | None = None
    every: float = CHECKPOINT_EVERY
    track: str | None = None
    tracks: str = "tracks"

    @property
    def recipe(self) -> Recipe:
        return Recipe(**dict(self.case.recipe))

    def checkpoint(self, stage: str) -> Path | None:
        return Path(self.folder) / f"{stage}.pt" if self.folder else None


@dataclass
class Finding:
    """values: metric → value, on the test part; failure: why there are none, for what no other lr would mend."""

    values: dict[str, float | int] = field(default_factory=dict)
    path_built: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


def run(job: Job) -> Finding:
    """Train and test the job's case. Raises FloatingPointError for a training that diverges."""
    fabric = Fabric(
        accelerator=job.device,
        devices=job.recipe.devices,
        strategy="ddp_spawn" if job.recipe.devices > 1 else "auto",
        precision=_PRECISION[job.case.precision],
        plugins=[LightningEnvironment()],  # within a SLURM job, too, the processes are those that are started here
    )
    try:
        found: Finding = fabric.launch(partial(_rank, job=job))  # not as an argument: fabric looks into those
    except ProcessRaisedException as error:  # its message is a traceback that ends with what was raised
        raise _raised(str(error).strip().splitlines()[-1]) from None
    if found.failure:
        raise FloatingPointError(found.failure)
    return found


def _raised(line: str) -> Exception:
    """What a process of several raised, from the last line of its traceback."""
    kind, _, message = line.partition(": ")
    if kind.rpartition(".")[2] == "OutOfMemoryError":
        return torch.OutOfMemoryError(message)
    return RuntimeError(line)


def _rank(fabric: Fabric, job: Job) -> Finding:
    """What each process of a training does. A divergence, which all see alike, is told as a value."""
    for name in job.plugins:  # a process that fabric starts knows none yet
        plugins.load_named(name)
    torch.set_num_threads(job.threads)
    execution.set_tf32(job.case.precision == "tf32")
    try:
        return _Study(fabric, job).find()
    except FloatingPointError as error:
        return Finding(failure=str(error))


class _Study:
    """The stages of a job: search, training, conversion, fine-tuning, test."""

    def __init__(self, fabric: Fabric, job: Job) -> None:
        case = job.case
        self.fabric, self.job, self.recipe = fabric, job, job.recipe
        self.task = tasks.create(case.data, case.axes)
        self.splits = self.task.splits(case.seed, Path(job.data_root) if job.data_root else None)
        self.tracker = tracking.NONE
        if job.track and fabric.is_global_zero:
            self.tracker = tracking.find(job.track, case, Path(job.tracks))
        self.setting = Setting(fabric, self.task, self.splits, case.seed, checkpoint_every=job.every)
        self.details: dict[str, Any] = {
            "counts": _counts(self.splits),
            "resampled": self.splits.resampled,
            "threads": job.threads,
        }

    def find(self) -> Finding:
        converts = self.recipe.start == "project"
        trained = replace(self.job.case.real_twin, control="none") if converts else self.job.case
        build = partial(_net, trained, self.job.controlled)
        recipe = self.tuned(build)
        net = build()
        progress = fit(self.told("train"), net, recipe, self.job.checkpoint("train"))
        values: dict[str, float | int] = {}
        if converts:
            net, progress, values = self.converted(net, progress)
        tested = self.tested(net)
        if not math.isfinite(tested["loss"]):
            raise FloatingPointError(f"the loss on the test part is {tested['loss']}: lower the recipe's lr")
        last = self.curves(progress)[-1][-1]
        values |= {
            **{name: value for name, value in tested.items() if name != "loss"},
            "test_loss": tested["loss"],
            "params": count_params(net),
            "train_loss": last["train_loss"],
            "train_time": sum(curve[-1]["seconds"] for curve in self.curves(progress)),
        }
        self.details |= {
            "curve": progress.curve,
            "best_epoch": progress.best_epoch,
            "weights": weights_digest(net),
        }
        self.tracker.end(values)
        return Finding(values, Subject(self.job.case, net, (), lambda: None).path_built, self.details)

    def curves(self, progress: Progress) -> list[list[dict[str, float]]]:
        """Those of all stages of the training."""
        return [curve for curve in (self.details.get("curve_before", []), progress.curve) if curve]

    def tuned(self, build: Any) -> Recipe:
        """The recipe at the learning rate that suits the net best, where it asks for a search."""
        if not self.recipe.lr_search:
            return self.recipe
        tried = search(self.setting, build, self.recipe, Path(self.job.folder) if self.job.folder else None)
        chosen = best(tried, self.task.higher)
        self.details |= {
            "lr": chosen.lr,
            "lr_search": [{name: _number(value) for name, value in asdict(t).items()} for t in tried],
            "lr_at_edge": at_the_edge(chosen, tried),
        }
        return self.recipe.at(chosen.lr)

    def converted(self, net: nn.Module, before: Progress) -> tuple[nn.Module, Progress, dict[str, float | int]]:
        """The net over the case's algebra with the nearest weights, trained on; what it was worth on the way."""
        case, monitor = self.job.case, self.task.monitor
        score = self.tested(net)[monitor]
        path = "auto" if case.path == "none" else case.path
        torch.manual_seed(case.seed)
        near = convert(net, case.algebra, case.n if case.algebra == "ph" else None, init="project", path=path)
        params = count_params(net)
        values: dict[str, float | int] = {
            f"{monitor}_before": score,
            f"{monitor}_projected": self.tested(near)[monitor],
        }
        self.details |= {
            "curve_before": before.curve,
            "params_before": params,
            "params_removed": 1 - count_params(near) / params,
            "projection_error": {layer.name: layer.error for layer in near.conversion.converted},
        }
        progress = Progress(curve=[])
        if self.recipe.finetune_epochs:
            setting = replace(self.told("finetune"), seed=case.seed + 1)  # not the same order of examples again
            progress = fit(setting, near, self.recipe.finetuning, self.job.checkpoint("finetune"))
        return near, progress, values

    def told(self, stage: str) -> Setting:
        return replace(self.setting, each=lambda row: self.tracker.epoch(stage, row))

    def tested(self, net: nn.Module) -> dict[str, float]:
        return evaluate(self.fabric, net, self.task, self.splits.test, self.recipe.batch_size)


def _net(case: Case, controlled: Case | None) -> nn.Module:
    """The net of a case from the seed of the case; on the CPU, so that every device starts with the same weights."""
    torch.manual_seed(case.seed)
    return build_module(case, "cpu", controlled).to(memory_format=_MEMORY_FORMATS[case.memory_format])


def _counts(splits: Splits) -> dict[str, int]:
    return {part: len(getattr(splits, part)) for part in ("train", "val", "test")}


def weights_digest(net: nn.Module) -> str:
    """Twelve hex digits of all weights and buffers: two trainings that share them ended bit for bit alike."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        hasher.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()[:12]


def _number(value: float) -> float | None:
    """NaN is no JSON."""
    return value if value == value else None
