"""The group of interface.read_group: its number, and what keeps its members from the master's interface."""

import grp
import os
from collections.abc import Mapping
from pathlib import Path

from memunit.core.problems import Problem
from memunit.core.settings import DYNAMIC, Settings, label
from memunit.master.filenames import given_directory
from memunit.master.rights import in_map

KEY = "interface.read_group"
_GID_MAP = Path("/proc/self/gid_map")
_OVERFLOW = Path("/proc/sys/kernel")
_PRIVATE = "/run/private/"


class NoGroup(Exception):
    """A group that can't be used."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def number_of(name: str) -> int:
    """The number of a group, which is given by name or number. Raises NoGroup."""
    if name.isascii() and name.isdigit():
        number = int(name)
    else:
        try:
            number = grp.getgrnam(name).gr_gid
        except (KeyError, ValueError):
            text, remedy = f'there is no group "{name}" on this machine', f"addgroup --system {name}"
            raise NoGroup(text, f"{remedy}, or say one that getent group lists") from None
    if number == _overflow("gid"):
        text = f'"{name}" stands for every group that the kernel does not know'
        raise NoGroup(text, "make a group for this purpose: addgroup --system NAME")
    return number


def admitted(settings: Settings, source: str, unit: str | None) -> tuple[int | None, list[Problem]]:
    """The number of the group whose members this process can recognize, None for no group; and why there is none.

    `unit` is the unit that this process runs in. A group that does not exist is preflight's problem.
    """
    name = settings.interface.read_group
    if name is None:
        return None, []
    try:
        gid = number_of(name)
    except NoGroup:
        return None, []
    if os.path.realpath(given_directory() or "/").startswith(_PRIVATE):
        return None, [_unreachable(source)]
    if _has_number(gid) and os.geteuid() != _overflow("uid"):
        return gid, []
    if os.geteuid() == _overflow("uid"):
        # A stranger would pass for the service's user.
        text, remedy = "has no effect for a service of the user nobody", "run it as another user"
    else:
        text = f"has no effect: the user namespace of this process (PrivateUsers=) has no number for group {name}"
        static = settings.service.user not in (None, DYNAMIC)
        remedy = (
            f"systemctl daemon-reload and systemctl restart {unit}"
            if unit is not None and static
            else "say PrivateUsers=no where User= is said"
        )
    return None, [Problem(source, label(source, KEY), text, remedy)]


def unreachable(settings: Settings, source: str, said: Mapping[str, str]) -> list[Problem]:
    """What keeps members from the interface of a unit with these properties, once systemd knows these settings."""
    user = settings.service.user
    dynamic = user == DYNAMIC or (user is None and said.get("DynamicUser") == "yes")
    return [_unreachable(source)] if dynamic and settings.interface.read_group is not None else []


def _unreachable(source: str) -> Problem:
    text = "has no effect with a dynamic user: only root may look into /run/private, where systemd has the interface"
    return Problem(source, label(source, KEY), text, 'say user = "NAME" in [service]')


def _has_number(gid: int) -> bool:
    try:
        return in_map(_GID_MAP.read_text(), gid)
    except (OSError, ValueError):
        return True


def _overflow(what: str) -> int:
    """The number that the kernel shows for an unknown "gid" or "uid"."""
    try:
        return int((_OVERFLOW / f"overflow{what}").read_text())
    except (OSError, ValueError):
        return 65534
