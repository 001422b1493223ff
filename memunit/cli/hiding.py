"""Paths that ProtectHome= keeps from a unit (systemd.exec(5)): how to see it, and what to say."""

import os
from pathlib import Path

HOMES = ("/home", "/root", "/run/user")


def home_of(path: str) -> str | None:
    """The folder of those that ProtectHome= hides which `path`, or what its links lead to, lies in."""
    try:
        places = os.path.abspath(path), os.path.realpath(path)  # noqa: PTH100  pathlib keeps ".."
    except ValueError:
        # The encoding of this locale does not have all of its letters: there is no such path.
        return None
    for seen in places:
        for home in HOMES:
            if seen == home or seen.startswith(home + "/"):
                return home
    return None


def is_sealed(home: str) -> bool:
    """Whether ProtectHome=yes has put its own folder, mode 0000, over `home` (for sure: nobody else does)."""
    try:
        return Path(home).stat().st_mode & 0o777 == 0
    except OSError:
        return False


def message(path: str, home: str, unit: str | None) -> str:
    """What is wrong with a path that can't be seen from `unit`, None where its name is not known."""
    return f"{path} can't be seen from {unit or 'this unit'}: its ProtectHome= hides {home}"


def remedy(path: str, unit: str | None) -> str:
    """The drop-in to write, in a line."""
    name = unit or "UNIT"
    return (
        f'write a drop-in with "systemctl edit {name}" that says, under [Service], ProtectHome=read-only; or '
        f"to show no more than is needed, ProtectHome=tmpfs and BindReadOnlyPaths={path}; or move it to /srv"
    )
