"""The files of prometheus_client for an app of several processes: by them an ended process would count as living.

Each process has files of its own in the folder that PROMETHEUS_MULTIPROC_DIR names: counter_PID.db and so on. Gauges
whose mode begins with "live" are of living processes alone, and the library leaves it to the server to remove their
files (prometheus_client.multiprocess.mark_process_dead). All others stay: a counter is never to fall.
"""

import contextlib
import os
from collections.abc import Mapping

_VARIABLES = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
# By name, and not by a look through the folder: what stays in it grows with each worker that has ended.
_MODES = ("liveall", "livemax", "livemin", "livemostrecent", "livesum")


def folder(environment: Mapping[str, str], directory: str | None) -> str | None:
    """Where an app with this environment, started in `directory`, keeps such files; None for nowhere."""
    named = next((environment[name] for name in _VARIABLES if name in environment), "")
    return os.path.join(directory or "", named) if named else None


def remove(folder: str, pid: int) -> None:
    """Have an ended process count no more. Never raises: what can't be removed, the app could not write either."""
    for mode in _MODES:
        with contextlib.suppress(OSError, ValueError):
            os.unlink(os.path.join(folder, f"gauge_{mode}_{pid}.db"))
