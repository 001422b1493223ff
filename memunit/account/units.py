"""What is there now: the instances, what systemd says of their units, and what the kernel says of their workers.

The master is not asked for any of it: what it tells systemd (STATUS=), its workers' groups and /proc are there for all.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from memunit.account.entries import number, unit_instance
from memunit.account.lives import Life
from memunit.master import cgroup, control
from memunit.master.group import occupied
from memunit.records import dataclass, field

_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "StatusText",
    "MainPID",
    "NRestarts",
    "ExecMainCode",
    "ExecMainStatus",
    "ActiveEnterTimestampMonotonic",
    "StateChangeTimestampMonotonic",
    "ControlGroup",
)
_ACTIVE = ("active", "reloading")
# Of a question to systemd: while a machine boots, or is busy, it is answered late.
_SECONDS = 30.0
# A master answers within one pass of its loop. A stopped or hanging master does not answer.
_ANSWER_SECONDS = 5.0
_RUNTIME = "/run/memunit"
_COUNTED = re.compile(
    r"(\d{1,4})/(\d{1,4}) workers(?! of)|reloading, \d+/(\d{1,4}) workers .*, (\d{1,4}) serve"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """An instance's service as systemd has it; `known` is False where no systemd could be asked.

    `status` is the last STATUS= of the master. Times are seconds of CLOCK_REALTIME, 0 for never.
    """

    instance: str
    known: bool = False
    active: str = ""
    sub: str = ""
    result: str = ""
    status: str = ""
    pid: int = 0
    restarts: int = 0
    exit_code: int = 0
    exit_status: int = 0
    since: float = 0.0
    group: str = ""
    listening: bool = False

    @property
    def runs(self) -> bool:
        """Whether there is a master."""
        return self.pid > 0

    @property
    def counted(self) -> tuple[int, int] | None:
        """(serving, wanted), as the master has told; None where its status says neither."""
        found = _COUNTED.match(self.status)
        if found is None or not self.runs:
            return None
        if found[1]:
            return int(found[1]), int(found[2])
        return int(found[4]), int(found[3])

    @property
    def changed(self) -> dict[str, str]:
        """The settings that a person has changed until the next reload, as the master's status tells them."""
        said = self.status.partition("; ")[0].rpartition(", until the next reload ")[2]
        pairs = [each.partition(" = ") for each in said.split(", ")]
        return {path: value for path, equals, value in pairs if equals} if self.runs else {}

    @property
    def trouble(self) -> str:
        """What the master's status tells of what is wrong: all that stands after its first semicolon."""
        return self.status.partition("; ")[2] if self.runs else ""


@dataclass(slots=True)
class Worker:
    """A process that is there: its name, its first pid, and what it holds (bytes), if that can be known.

    `began` is when it was started, in seconds of CLOCK_REALTIME. `life` is None for one that is older than what was
    read of the journal.
    """

    slot: int
    generation: int
    pid: int
    memory: int | None = None
    life: Life | None = field(default=None, repr=False)
    began: float | None = None

    @property
    def phase(self) -> str:
        """Where it is in its life. Of one without entries there was none of a stop either, for as long as was read."""
        return self.life.phase if self.life else "running"

    @property
    def since(self) -> float | None:
        """When it was started."""
        return self.life.first if self.life else self.began


def loaded() -> list[str]:
    """The instances whose units systemd has in memory: those that run, ran, or failed."""
    said = _said(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "memunit@*.service"
    )
    return sorted({name for line in said.splitlines() if (name := unit_instance(line.split(" ", 1)[0]))})


def units(instances: Iterable[str]) -> dict[str, Unit]:
    """What systemd says of each, by one call of systemctl(1)."""
    names = list(instances)
    if not names:
        return {}
    asked = [f"memunit@{name}.{kind}" for name in names for kind in ("service", "socket")]
    said = _said("systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", *asked)
    now, blocks = time.time() - time.monotonic(), [_properties(block) for block in said.split("\n\n")]
    by_id = {block["Id"]: block for block in blocks if "Id" in block}
    return {
        name: _unit(name, by_id.get(f"memunit@{name}.service"), by_id.get(f"memunit@{name}.socket"), now)
        for name in names
    }


def _unit(
    name: str, service: Mapping[str, str] | None, socket: Mapping[str, str] | None, boot: float
) -> Unit:
    if service is None or service.get("LoadState") != "loaded":
        return Unit(name)
    entered = number(service.get("ActiveEnterTimestampMonotonic", "")) or 0
    # A reload changes the state too; how long it has been active is not from then on.
    changed = entered if entered and service.get("ActiveState") in _ACTIVE else 0
    changed = changed or number(service.get("StateChangeTimestampMonotonic", "")) or 0
    return Unit(
        name,
        known=True,
        active=service.get("ActiveState", ""),
        sub=service.get("SubState", ""),
        result=service.get("Result", ""),
        status=service.get("StatusText", ""),
        pid=number(service.get("MainPID", "")) or 0,
        restarts=number(service.get("NRestarts", "")) or 0,
        exit_code=number(service.get("ExecMainCode", "")) or 0,
        exit_status=number(service.get("ExecMainStatus", "")) or 0,
        since=boot + changed / 1e6 if changed else 0.0,
        group=service.get("ControlGroup", ""),
        listening=(socket or {}).get("ActiveState") == "active",
    )


def answers(instance: str) -> str:
    """ "" if the master answers, or may not be asked by us; else what it does instead.

    A request that it does not know is answered too: the words of an error are an answer.
    """
    try:
        control.request(f"{_RUNTIME}/{instance}/control", "ping", _ANSWER_SECONDS)
    except TimeoutError:
        return f"does not answer (asked for {_ANSWER_SECONDS:g} s)"
    except OSError:
        # Not ours to ask, or its socket was removed: then it may be well.
        return ""
    return ""


def workers(unit: Unit, lives: Iterable[Life]) -> list[Worker]:
    """The workers that are there. The kernel's groups say so where there are groups; else the journal and /proc."""
    known = {(life.slot, life.generation): life for life in lives if life.phase != "dead"}
    found: dict[tuple[int, int], Worker] = {}
    groups = Path(f"{cgroup.MOUNT}{unit.group}/{cgroup.WORKERS}")
    with suppress(OSError):
        for each in groups.iterdir() if unit.group and unit.runs else ():
            slot, _, generation = each.name.partition(".")
            name = (number(slot), number(generation))
            if name[0] is None or name[1] is None:
                continue
            life = known.get((name[0], name[1]))
            pid = _first(each)
            if pid:
                memory = None
                with suppress(KeyError, ValueError):
                    memory = occupied(str(each))
                worker = Worker(name[0], name[1], life.pid if life else pid, memory, life, _began(pid))
                found[name[0], name[1]] = worker
    if not found:
        for (slot_, generation_), life in known.items():
            if unit.runs and _is_child(life.pid, unit.pid):
                found[slot_, generation_] = Worker(slot_, generation_, life.pid, _resident(life.pid), life)
    return [found[name] for name in sorted(found)]


def _first(group: Path) -> int:
    try:
        return int((group / "cgroup.procs").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def has_groups(unit: Unit) -> bool:
    """Whether the kernel's groups tell which workers there are."""
    return bool(unit.group) and Path(f"{cgroup.MOUNT}{unit.group}/{cgroup.WORKERS}").is_dir()


def _began(pid: int) -> float | None:
    """When a process was started: field 22 of /proc/PID/stat (proc(5)), in ticks since the boot."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (
            time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
        )
    except (OSError, ValueError, IndexError):
        return None


def _is_child(pid: int, parent: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return f"\nPPid:\t{parent}\n" in status


def _resident(pid: int) -> int | None:
    """An upper bound of what it holds alone, which costs nothing to read, and which everybody may read."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _properties(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _said(*command: str) -> str:
    try:
        asked = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode("utf-8", "replace")
