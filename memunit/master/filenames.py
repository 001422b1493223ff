"""The runtime directory of an instance: where it is, its files that more than one part knows, and how to open them."""

import os

NOTIFY = "notify"
STARTS = "starts.json"
WORKERS = "workers.json"


def given_directory() -> str:
    """The runtime directory that systemd gives to the processes of a unit; "" in another process."""
    return os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]


def directory_of(instance: str) -> str:
    """Where the master of this instance has its sockets and files."""
    return given_directory() or f"/run/memunit/{instance}"


def opened(path: str, flags: int) -> int:
    """For open(), as its `opener`: workers have our user and may have put anything there. No link is followed, and a
    FIFO is not waited for.
    """
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
