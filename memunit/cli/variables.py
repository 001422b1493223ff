"""Whether a reload that a person asks for has the variables of the environment files as they are now.

Only systemd may read them (environ.py): a reload by another way goes on with those that it has read last.
"""

import glob
import os
import subprocess
import time
from collections.abc import Iterator

# Of a question to systemd, in seconds: while a machine boots, or is busy, it is answered late.
_TIMEOUT = 30.0
_PROPERTIES = "EnvironmentFiles,ExecMainStartTimestampMonotonic"
_OPTIONS = (" (ignore_errors=yes)", " (ignore_errors=no)")


def not_read(instance: str, directory: str) -> str:
    """One line about the files that have changed since, with the remedy; "" if there are none, or it can't be known."""
    command = ["systemctl", "show", f"--property={_PROPERTIES}", "--", f"memunit@{instance}.service"]
    try:
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    said = [line.partition("=") for line in asked.stdout.decode("utf-8", "replace").splitlines()]
    started = next((value for name, _, value in said if name == "ExecMainStartTimestampMonotonic"), "")
    if not started.isdigit() or started == "0":
        return ""
    read = time.time() - time.monotonic() + int(started) / 1e6
    read = max(read, _changed(os.path.join(directory, "environment")))  # noqa: PTH118  without pathlib, as all here
    newer = [path for path in _paths(said) if _changed(path) > read]
    if not newer:
        return ""
    return (
        f"{', '.join(newer)}: changed, but not read again, because only systemd may read it; "
        f"systemctl reload memunit@{instance} applies the change"
    )


def _paths(said: list[tuple[str, str, str]]) -> Iterator[str]:
    for name, _, value in said:
        if name == "EnvironmentFiles":
            path = value
            for option in _OPTIONS:
                path = path.removesuffix(option)
            yield from sorted(glob.glob(path))  # noqa: PTH207  as above


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116  as above
    except OSError:
        return 0.0
