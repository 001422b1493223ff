"""What the kernel tells of one worker and its descendants: memory by its kind, threads, descriptors, mapped files.

Nothing here takes long, whatever the worker is: no walk over page tables, none of the files that wait for a lock which
the worker may hold. The names of mapped files are of the second kind, so another process reads them, for a tenth of a
second at most.
"""

import contextlib
import json
import os
import select
import signal
from collections import Counter
from itertools import islice
from typing import Any

from memunit.master import group, proctree

_MOST_PROCESSES = 64
# Of all processes together: each costs a system call.
_MOST_DESCRIPTORS = 4096
_MOST_LINKS = 512
_PATIENCE_MS = 100
_MOST_FILES = 8


def read(pid: int, folder: str = "") -> dict[str, Any] | None:
    """Of the process `pid`, in the control group at `folder` if it has one; None if it is gone.

    As the fields of core's Footprint. What can't be read (another user's process) counts as nothing.
    """
    found = sorted(group.members(folder)) if folder else []
    pids = found or [pid, *proctree.descendants(pid)]
    totals: Counter[str] = Counter()
    processes: dict[int, int] = {}
    kinds: Counter[str] = Counter()
    descriptors, left = 0, _MOST_DESCRIPTORS
    for each in pids[:_MOST_PROCESSES]:
        status = _status(each)
        if not status:
            continue
        totals.update(status)
        processes[each] = status.get("RssAnon", 0) + status.get("VmSwap", 0)
        many, some = _descriptors(each, left)
        descriptors += many
        left = max(0, left - many)
        kinds.update(some)
    if not processes:
        return None
    memory = _of_group(folder) if folder else None
    if memory is None:
        memory = {
            "anon": totals["RssAnon"],
            "shmem": totals["RssShmem"],
            "kernel": totals["VmPTE"],
            "swap": totals["VmSwap"],
        }
    return {
        **memory,
        # Of a group, that is page cache: whoever has mapped it first is charged for it.
        "file": totals["RssFile"],
        "threads": totals["Threads"],
        "descriptors": descriptors,
        "kinds": dict(kinds),
        "processes": processes,
    }


def mapped(pid: int) -> dict[str, int]:
    """The resident bytes of the files that a process maps most of, by their paths; none where that takes too long."""
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        child = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        return {}
    if child == 0:
        try:
            os.write(writer, json.dumps(_mapped(pid)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        text = os.read(reader, 65536) if poll.poll(_PATIENCE_MS) else b""
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            # In the walk over a large mapping it hears no signal. It is reaped as a stray then.
            os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ValueError):
        found: dict[str, int] = json.loads(text)
        return found
    return {}


def _mapped(pid: int) -> dict[str, int]:
    resident: Counter[str] = Counter()
    path = ""
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split(None, 5)
            if not words[0].endswith(":"):
                path = words[5].rstrip("\n") if len(words) > 5 and words[5].startswith("/") else ""
            elif words[0] == "Rss:" and path:
                resident[path.removesuffix(" (deleted)")] += int(words[1]) * 1024
    return {path[:1024]: size for path, size in resident.most_common(_MOST_FILES)}


def _of_group(folder: str) -> dict[str, int] | None:
    try:
        stat = group.table(group.read(f"{folder}/memory.stat"))
    except OSError:
        return None
    kernel = stat.get("kernel", stat.get("kernel_stack", 0) + stat.get("slab", 0) + stat.get("pagetables", 0))
    return {
        "anon": stat.get("anon", 0),
        "shmem": stat.get("shmem", 0),
        "kernel": max(0, kernel - stat.get("slab_reclaimable", 0)),
        "swap": group.number(f"{folder}/memory.swap.current") or 0,
    }


def _status(pid: int) -> dict[str, int]:
    """The sizes in bytes and the number of threads in proc_pid_status(5); empty when it is gone."""
    try:
        text = group.read(f"/proc/{pid}/status")
    except OSError:
        return {}
    found = {}
    # In bytes: a process may have named itself "\xb2 kB", which str.isdigit() takes, or with what splitlines() splits.
    for line in text.split(b"\n"):
        label, _, value = line.partition(b":")
        name, words = label.decode("ascii", "replace"), value.split()
        if words and words[0].isdigit() and (name == "Threads" or words[-1] == b"kB"):
            found[name] = int(words[0]) * (1 if name == "Threads" else 1024)
    return found


def _descriptors(pid: int, most: int) -> tuple[int, dict[str, int]]:
    """How many descriptors a process has, and how many of which kind, by a sample of the first `most`."""
    folder = f"/proc/{pid}/fd"
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, most)]
        # Linux 6.2 and later tell the number in the size.
        many = max(len(names), os.stat(folder).st_size)
    except OSError:
        return 0, {}
    step = len(names) // _MOST_LINKS + 1
    kinds: Counter[str] = Counter()
    for name in names[::step]:
        with contextlib.suppress(OSError):
            kinds[_kind(os.readlink(f"{folder}/{name}"))] += step
    return many, dict(kinds)


def _kind(link: str) -> str:
    if link.startswith("/"):
        return "file"
    name = link.partition(":")[0]
    return name if name in ("socket", "pipe") else "other descriptor"
