"""What a master is given: where it runs, for good, and what it runs, one revision after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from memunit.core.model import Policy
from memunit.master.cgroup import Tree
from memunit.master.journal import Log
from memunit.master.notify import Systemd
from memunit.master.spawn import Child, Launch
from memunit.master.startlog import StartLog


class ConfigurationError(Exception):
    """A configuration that can't be used; the text names file, key and remedy, a line a problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One revision of what is to be run: policy's numbers, and what a worker's launch needs."""

    policy: Policy
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str | None
    metric: str
    interval: float
    preload: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a master runs: what is inherited or made once, and stays the same over reloads."""

    instance: str
    sockets: tuple[tuple[str, int], ...]
    notify_path: str
    control_path: str | None
    log: Log
    systemd: Systemd
    start_log: StartLog
    load: Callable[[], Configuration]
    start: Callable[[Launch], Child]
    # The delegated part of the cgroup tree; or why there is none, if that is worth telling.
    tree: Tree | None = None
    treeless: str = ""
    parent_death_signal: int = 0
    # False where the process has children of its own, as a program that calls memunit.run may: those are not ours.
    sole: bool = True
