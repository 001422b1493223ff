"""The environment of an instance's service, as systemd has read it last.

systemd reads EnvironmentFile= as root, and anew for each process that it starts (systemd.exec(5)): so the process of
ExecReload= has in its environment what a restart would give to the service. It leaves that to the master, in a file of
the runtime directory, which is the service's own. The master could not read the files: they may have mode 0600.
"""

import contextlib
import os
from collections.abc import Mapping

from memunit.core.reserved import RESERVED_VARIABLES

_FILE = "environment"
# What systemd says to each process by itself, or to the unit for as long as it runs.
_OF_THE_PROCESS = RESERVED_VARIABLES | {
    *(
        "CONFIGURATION_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LOGS_DIRECTORY",
    ),
    *(
        "CACHE_DIRECTORY",
        "EXIT_CODE",
        "EXIT_STATUS",
        "RUNTIME_DIRECTORY",
        "SERVICE_RESULT",
        "STATE_DIRECTORY",
    ),
}


def leave(directory: str) -> None:
    """From the process of ExecReload=: leave our environment to the master, before it is asked. Raises OSError."""
    words = [b"%b=%b" % item for item in os.environb.items()]
    path = os.path.join(directory, _FILE)  # noqa: PTH118  bytes follow, and reload loads no pathlib
    descriptor = os.open(
        f"{path}~", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"\0".join(words))
    os.replace(f"{path}~", path)  # noqa: PTH105  as above


def left(directory: str | None, own: Mapping[str, str]) -> dict[str, str]:
    """For the master: its `own` environment, with the variables of the last reload in place of those of its start.

    Its own alone if there was no reload since: what was left to another run of the service is of no use.
    """
    found: dict[str, str] = {}
    if directory is not None:
        with contextlib.suppress(OSError), open(os.path.join(directory, _FILE), "rb") as file:  # noqa: PTH118, PTH123
            words = os.fsdecode(file.read()).split("\0")
            found = dict(word.split("=", 1) for word in words if "=" in word)
    if "INVOCATION_ID" not in found or found["INVOCATION_ID"] != own.get("INVOCATION_ID"):
        return dict(own)
    for name in _OF_THE_PROCESS:
        found.pop(name, None)
        if name in own:
            found[name] = own[name]
    return found
