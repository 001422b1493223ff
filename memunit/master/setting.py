"""What a master is given: where it runs, for good, and what it runs, one revision after the other."""

from collections.abc import Callable, Mapping

from memunit.core.model import Policy
from memunit.master.cgroup import Tree
from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.master.journal import Log
from memunit.master.notify import Systemd
from memunit.master.startlog import StartLog
from memunit.records import dataclass, field


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
    # Whether an import that leaves behind what a fork breaks is not preloaded after all.
    careful: bool = False
    # Whether a stop is told to all processes of a worker, and its end is that of the last of them: family.py.
    stops_all: bool = False
    # A Node program: what speaks for it in a worker can't open a Unix datagram socket, nor ask where a socket listens.
    node: bool = False
    # What samples or traces the allocations of a witness: "V8", "memray"; "" where memunit knows nothing that does.
    profiler: str = ""
    # Whether the workers accept connections by code of ours, which leaves some to the siblings.
    spread: bool = False
    # What workers watch that are not asked to give memory back: nothing (""), or /dev/null for somebody has said so.
    watch: str = ""
    # Whether each worker gets a page of its own, on which it writes what it does: worker/board.py.
    board: bool = False
    # Seconds and bytes that a worker's examination may take when it ends for its memory; 0 for none.
    examine_time: float = 0.0
    examine_memory: int = 0
    # Whether what the kernel tells of a worker is compared at its end with what it was at its start: footprint.py.
    accounts: bool = False
    # The program that is run against such a worker then, and the seconds that it may take; empty for none.
    examine_command: tuple[str, ...] = ()
    command_time: float = 0.0
    # Bytes for the flight recorder, 0 for none.
    recorder: int = 0
    # The number of the group whose members may read the interface; None for no group.
    read_group: int | None = None
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
    # Whether a process waits in the group of the first zygote already: ahead.py.
    ahead: bool = False
    parent_death_signal: int = 0
    # Where the socket of the interface is (docs/interface.md); None for none.
    interface_path: str | None = None
    # Where a successor finds what this master has left; None where there will be none.
    directory: str | None = None
    # Where what is found of leaks is kept; None where nothing is to be.
    state_directory: str | None = None
    # What the program needs to start in this process once more, beside its environment.
    place: Mapping[str, str] = field(default_factory=dict)
    # False where the process has children of its own, as a program that calls memunit.run may: those are not ours.
    sole: bool = True
