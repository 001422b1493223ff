"""Journal files with entries of our choice, written by systemd's own systemd-journal-remote(8)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from memunit.core.messages import END_BY_CAUSE, Message
from memunit.core.model import Cause

_PROGRAMS = ("/usr/lib/systemd/systemd-journal-remote", "/lib/systemd/systemd-journal-remote")
BOOT = "0123456789abcdef0123456789abcdef"


def program() -> str | None:
    """Where it is, if it is here."""
    return next((each for each in _PROGRAMS if shutil.which(each)), None)


def entry(at: float, kind: str, message: str, *, instance: str = "shop", **fields: object) -> dict[str, str]:
    """One of memunit's, as journald stores it. `kind` is a name of messages.py, or a MESSAGE_ID."""
    return {
        "__REALTIME_TIMESTAMP": str(int(at * 1e6)),
        "__MONOTONIC_TIMESTAMP": str(int((at % 1e6) * 1e6)),
        "_BOOT_ID": BOOT,
        "MESSAGE_ID": Message[kind].id if kind in Message.__members__ else kind,
        "MESSAGE": message,
        "_SYSTEMD_UNIT": f"memunit@{instance}.service",
        "MEMUNIT_INSTANCE": instance,
        "PRIORITY": "6",
        **{name: str(value) for name, value in fields.items()},
    }


def line(at: float, text: str, pid: int, *, instance: str = "shop") -> dict[str, str]:
    """What a worker prints."""
    return {
        "__REALTIME_TIMESTAMP": str(int(at * 1e6)),
        "__MONOTONIC_TIMESTAMP": str(int((at % 1e6) * 1e6)),
        "_BOOT_ID": BOOT,
        "MESSAGE": text,
        "_SYSTEMD_UNIT": f"memunit@{instance}.service",
        "_PID": str(pid),
        "_TRANSPORT": "stdout",
    }


def life(
    end: float, cause: str, *, slot: int = 0, generation: int = 1, pid: int = 100, lived: float = 60.0,
    instance: str = "shop", message: str = "", **fields: Any
) -> list[dict[str, str]]:  # fmt: skip
    """The entries of a worker from its start to its end."""
    who = {"MEMUNIT_SLOT": slot, "MEMUNIT_GENERATION": generation, "MEMUNIT_WORKER_PID": pid}
    name = f"Worker {slot}.{generation} (pid {pid})"
    kind = END_BY_CAUSE[Cause(cause)].name
    said = message or f"{name} ended: {cause}; exited with status 0 after {lived:.0f} s"
    usec = {"MEMUNIT_CAUSE": cause, "MEMUNIT_UPTIME_USEC": int(lived * 1e6)}
    return [
        entry(end - lived, "WORKER_STARTING", f"{name} started", instance=instance, **who),
        entry(end - lived + 0.3, "WORKER_READY", f"{name} is ready", instance=instance, **who),
        entry(end, kind, said, instance=instance, **who, **usec, **fields),
    ]


def write(path: Path, entries: Iterable[Mapping[str, str]]) -> Path:
    """A journal file with these entries, in the order of their times. Its name ends in .journal."""
    found = program()
    assert found is not None, "apt install systemd-journal-remote"
    told = sorted(entries, key=lambda each: int(each["__REALTIME_TIMESTAMP"]))
    blocks = b"".join(b"".join(_field(*item) for item in each.items()) + b"\n" for each in told)
    done = subprocess.run(
        [found, f"--output={path}", "-"],
        input=blocks,
        check=False,
        capture_output=True,
        timeout=120,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    return path


def _field(name: str, value: str) -> bytes:
    """In the journal's export format; a value with a line break, or what is no text, by its length."""
    data = value.encode("utf-8", "surrogateescape")
    if b"\n" not in data and all(each >= 32 for each in data):
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
