"""Where a run measures: what ``bench run`` takes with --on and --profile, and the engine that follows from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import UsageError

if TYPE_CHECKING:
    from ..launch.local import Local
    from ..launch.profile import Profile
    from ..launch.slurm import Slurm
    from ..plan.sweep import Sweep
    from ..schedule.resume import Place
    from ..store.folder import Store

Tell = Callable[[str], None]


class On(StrEnum):
    """The engines."""

    LOCAL = "local"
    SLURM = "slurm"


class Where(Protocol):
    """Machines to measure on. name: of the run folder in that of its sweep, unless --out names one."""

    @property
    def name(self) -> str: ...

    @property
    def places(self) -> tuple[Place, ...]:
        """The kinds of machine, on each of which everything is measured."""

    def describe(self, store: Store) -> None:
        """Write down beside the results what the machine is, if that is known before a job runs on it."""

    def engine(self, folder: Path, lines: list[dict[str, object]], fresh: bool, tell: Tell) -> Local | Slurm:
        """What runs orders there. lines: what the store of the folder holds."""


def where(on: On, profile: Path | None, sweep: Sweep) -> Where:
    """The machines that a run is to use; a UsageError if they are none."""
    if on is On.LOCAL and profile:
        raise UsageError("--profile says what to ask of a cluster: add --on slurm, or leave --profile out")
    if on is On.LOCAL:
        return _Here(sweep.device)
    from ..launch import profile as profiles

    return _Cluster(profiles.load(profile) if profile else sweep.launch.slurm or profiles.Profile())


class _Here:
    """This machine."""

    def __init__(self, device: str) -> None:
        from ..machine import env
        from ..schedule.resume import Place

        env.check_device(device)  # before anything is written
        self.device, self.name = device, env.env_id(device)
        self.places = (Place(env_id=self.name),)

    def describe(self, store: Store) -> None:
        from ..machine import env, roofs
        from ..store.merge import keep_described

        keep_described(store.folder, self.name)
        store.write("env.json", json.dumps(env.describe(self.device), indent=2) + "\n")
        if measured := roofs.load(roofs.kept_at(self.name)):
            roofs.save(store.folder / roofs.FILE, measured)

    def engine(self, folder: Path, lines: list[dict[str, object]], fresh: bool, tell: Tell) -> Local:
        from ..launch.local import Local

        return Local(folder / "logs", self.device)


@dataclass(frozen=True)
class _Cluster:
    """The machines of a profile, each of which writes down itself what it is."""

    profile: Profile
    name: str = "slurm"

    @property
    def places(self) -> tuple[Place, ...]:
        from ..schedule.resume import Place

        return tuple(Place(hardware=kind) for kind in self.profile.kinds)

    def describe(self, store: Store) -> None:
        """Nothing: what submits does not measure."""

    def engine(self, folder: Path, lines: list[dict[str, object]], fresh: bool, tell: Tell) -> Slurm:
        from ..launch.slurm import Slurm

        return Slurm(folder, self.profile, lines, fresh, tell)
