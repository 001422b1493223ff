"""What can be known of a Node program before it is started. Executes Node itself, for its version; never the app."""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memunit.cli.inspection import Account
from memunit.core.problems import Problem
from memunit.core.quantity import format_size
from memunit.core.settings import Settings, label

# The first with server.closeIdleConnections(), which worker/node/preload.cjs needs.
OLDEST = (18, 2)
_SUFFIXES = ("", ".js", ".json", ".node")
_ENTRIES = ("package.json", "index.js")
_HEAP = re.compile(r"--max[-_]old[-_]space[-_]size[= ](\d+)")
_PATIENCE = 20.0
# What V8 takes at most where nobody has said --max-old-space-size, on a machine of 4 GiB and more.
_DEFAULT_HEAP = 2 << 30


def script_fault(name: str) -> tuple[str, str] | None:
    """Why Node can't start the file `name`, and the remedy; None if it can, or if nothing is at that path."""
    found = [name + suffix for suffix in _SUFFIXES if _mode(name + suffix, stat.S_ISREG)]
    if found:
        if os.access(found[0], os.R_OK):
            return None
        remedy = f"chmod o+r {found[0]}, or run as a user who may (user in [service])"
        return f"{found[0]} may not be read by uid {os.geteuid()}", remedy
    if not _mode(name, stat.S_ISDIR):
        return (f"{name} is no file", "say the file of the program") if _mode(name, lambda _: True) else None
    if any(_mode(str(Path(name, each)), stat.S_ISREG) for each in _ENTRIES):
        return None
    return f"{name} is a directory that has no index.js", "say the file of the program"


def is_missing(name: str) -> bool:
    """Whether nothing that Node would take is at this path."""
    return not any(_mode(name + suffix, lambda _: True) for suffix in _SUFFIXES)


def problems(
    settings: Settings, source: str, environment: Mapping[str, str], account: Account | None = None
) -> list[Problem]:
    """A Node that is too old, as it says itself; nothing if it can't be asked (preflight tells why).

    It is asked as `account`, which is root's to choose.
    """
    program = settings.app.node or shutil.which("node", path=environment.get("PATH", os.defpath))
    said = _version(program, account) if program else None
    if program is None or said is None or said >= OLDEST:
        return []
    text = (
        f"{program} is Node {'.'.join(map(str, said))}, and {'.'.join(map(str, OLDEST))} or newer is needed"
    )
    return [Problem(source, label(source, "app.node"), text, "install a newer one, and say where it is")]


def warnings(settings: Settings, source: str, environment: Mapping[str, str]) -> list[Problem]:
    """A heap of V8 that does not fit memory.limit: at its own bound V8 ends the process, and requests are lost."""
    limit, ceiling = settings.memory.limit, settings.memory.ceiling
    said = _HEAP.search(environment.get("NODE_OPTIONS", ""))
    heap = int(said[1]) << 20 if said else _DEFAULT_HEAP
    remedy = "in `environment`, set NODE_OPTIONS=--max-old-space-size=N with N MiB between limit and ceiling"
    if limit is not None and heap <= limit:
        what = f"the heap of {format_size(heap)} that NODE_OPTIONS allows"
        text = f"{what if said else f'{format_size(heap)}, at which V8 may end by itself,'} is not above it"
        return [Problem(source, label(source, "memory.limit"), f"{text}: V8 aborts before a recycle", remedy)]
    if said and ceiling is not None and heap > ceiling:
        text = f"NODE_OPTIONS allows a heap of {format_size(heap)}, and the kernel kills at {format_size(ceiling)}"
        return [Problem(source, label(source, "memory.ceiling"), text, remedy)]
    return []


def _version(program: str, account: Account | None) -> tuple[int, ...] | None:
    become: dict[str, Any] = {}
    if account is not None and os.geteuid() == 0:
        become = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
    try:
        done = subprocess.run(
            [program, "--version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd="/",
            **become,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    return None if found is None else tuple(map(int, found.groups()))


def _mode(name: str, wanted: object) -> bool:
    assert callable(wanted)
    try:
        return bool(wanted(os.stat(name).st_mode))  # noqa: PTH116  also for text that pathlib would change
    except (OSError, ValueError):
        return False
