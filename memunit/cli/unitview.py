"""What the unit of an instance does to its app: as whom it runs, which paths it hides, and what keeps it from starting.

From the properties that systemctl(1) shows, with the drop-ins and all (systemd.exec(5)). What they leave open is not
said.
"""

import grp
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from memunit.cli import hiding
from memunit.cli.inspection import Account
from memunit.cli.unitfacts import words_of
from memunit.core.problems import Problem
from memunit.core.settings import Settings

_NOBODY = 65534
_ENVIRONMENT_FILE = re.compile(r"(/.*?) \(ignore_errors=(yes|no)\)")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  those that PrivateTmp= covers


class UnitView:
    """One unit, by the properties that systemd has told of it."""

    def __init__(self, unit: str, said: Mapping[str, str]) -> None:
        self._unit = unit
        self._said = said

    @property
    def knows_paths(self) -> bool:
        """Whether the unit sees the file system of this machine, and not another."""
        return "ProtectHome" in self._said and not (
            self._said.get("RootDirectory") or self._said.get("RootImage")
        )

    def account(self) -> Account | None:
        """As whom it runs; None for root, or where that is not known. A dynamic user is anybody: nobody."""
        if "User" not in self._said:
            return None
        name = self._said["User"]
        named = map(_gid, self._said.get("SupplementaryGroups", "").split())
        groups = [each for each in named if each is not None]
        found = _passwd(name) if name else None
        if found is None:
            if not self._is("DynamicUser"):
                return None
            return Account(_NOBODY, _NOBODY, tuple(groups), "/", "DynamicUser=yes", of_unit=True)
        if not found.pw_uid:
            return None
        group = _gid(self._said.get("Group", "")) if self._said.get("Group") else found.pw_gid
        if group is None:
            return None
        own = os.getgrouplist(found.pw_name, group)
        return Account(found.pw_uid, group, (*own, *groups), found.pw_dir, found.pw_name, of_unit=True)

    def problems(self) -> Iterator[Problem]:
        """What keeps systemd from starting the service at all, with the exit status that it would have."""
        dynamic = self._is("DynamicUser")
        user, group = self._said.get("User", ""), self._said.get("Group", "")
        if user and not dynamic and _passwd(user) is None:
            yield self._problem(
                "User", f'there is no user "{user}" on this machine', f"adduser --system {user}", 217
            )
        if group and not dynamic and _gid(group) is None:
            yield self._problem(
                "Group", f'there is no group "{group}" on this machine', f"addgroup --system {group}", 216
            )
        for name in self._said.get("SupplementaryGroups", "").split():
            if _gid(name) is None:
                text = f'there is no group "{name}" on this machine'
                yield self._problem("SupplementaryGroups", text, f"addgroup --system {name}", 216)
        if not self.knows_paths:
            return
        for directive in (
            "ReadWritePaths",
            "ReadOnlyPaths",
            "InaccessiblePaths",
            "BindPaths",
            "BindReadOnlyPaths",
        ):
            for path in self._paths(directive, optional=False):
                if _is_missing(path):
                    remedy = f"create it, or say {directive}=-{path}"
                    yield self._problem(directive, f"{path} does not exist", remedy, 226)
        folder = self._said.get("WorkingDirectory", "")
        if folder.startswith("/") and _is_missing(folder):
            yield self._problem("WorkingDirectory", f"{folder} does not exist", "create it", 200)
        for path, optional in _environment_files(self._said.get("EnvironmentFiles", "")):
            if not optional and _is_missing(path):
                yield self._problem(
                    "EnvironmentFile", f"{path} does not exist", f"create it, or say EnvironmentFile=-{path}"
                )

    def hidden(self, settings: Settings, source: str) -> Iterator[Problem]:
        """The paths of the app that the unit does not see."""
        app = settings.app
        if not self.knows_paths:
            return
        needed = {"directory": (app.directory, None), "command": ((app.command or ("",))[0], 0)}
        if app.run is not None:
            needed["python"] = (app.python, 1)
            needed["node"] = (app.node, 1)
            if app.server == "node":
                needed["run"] = (app.run, 0)
        for key, (path, depth) in needed.items():
            why = self._why_hidden(path) if path and path.startswith("/") else None
            if path is None or why is None:
                continue
            directive, seen, reason = why
            leads = "" if seen == os.path.normpath(path) else f", which leads to {seen},"
            text = f"{path}{leads} can't be seen from {self._unit}: its {reason}"
            shown = seen if depth is None else str(Path(seen).parents[depth])
            yield Problem(source, f"app.{key}", text, self._remedy(directive, shown))

    def _why_hidden(self, path: str) -> tuple[str, str, str] | None:
        """(directive, hidden path, what the directive does) of a path, or of what its links lead to."""
        for seen in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):  # noqa: PTH100  pathlib keeps ".."
            shown = any(
                _within(seen, each) for d in ("BindPaths", "BindReadOnlyPaths") for each in self._bound(d)
            )
            home = next((each for each in hiding.HOMES if _within(seen, each)), None)
            protects = self._said["ProtectHome"]
            if home and (protects == "yes" or (protects == "tmpfs" and not shown)):
                return "ProtectHome", seen, f"ProtectHome={protects} hides {home}"
            for place in self._paths("InaccessiblePaths"):
                if _within(seen, place):
                    return "InaccessiblePaths", seen, f"InaccessiblePaths= hides {place}"
            if shown:
                continue
            for place in self._paths("TemporaryFileSystem"):
                if _within(seen, place):
                    return "TemporaryFileSystem", seen, f"TemporaryFileSystem= covers {place}"
            if self._said.get("PrivateTmp", "no") != "no":
                for place in _TEMPORARY:
                    if _within(seen, place):
                        return "PrivateTmp", seen, f"PrivateTmp= has a {place} of its own"
        return None

    def _remedy(self, directive: str, path: str) -> str:
        if directive == "ProtectHome":
            return hiding.remedy(path, self._unit)
        if directive == "InaccessiblePaths":
            return "take it out of InaccessiblePaths=, or move the app to /srv"
        return f"move it to /srv, or say BindReadOnlyPaths={path} in a drop-in"

    def _paths(self, directive: str, *, optional: bool = True) -> list[str]:
        words = [
            word for word in words_of(self._said.get(directive, "")) if optional or not word.startswith("-")
        ]
        return [word.lstrip("-+").partition(":")[0] for word in words]

    def _bound(self, directive: str) -> list[str]:
        """Where the bind mounts of a directive appear."""
        words = [word.lstrip("-+").split(":") for word in words_of(self._said.get(directive, ""))]
        return [word[1] if len(word) > 1 else word[0] for word in words]

    def _is(self, name: str) -> bool:
        return self._said.get(name) == "yes"

    def _problem(self, directive: str, text: str, remedy: str, status: int | None = None) -> Problem:
        end = (
            f", and systemd ends the start with status {status}"
            if status
            else ", and systemd does not start it"
        )
        return Problem(self._unit, f"{directive}=", text + end, remedy)


def _passwd(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except (KeyError, ValueError, OverflowError):
        return None


def _gid(name: str) -> int | None:
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is_missing(path: str) -> bool:
    """For sure: not where a folder on the way may not be searched. systemd's own directories come with the service."""
    if _within(path, "/run") or "/memunit/" in f"{path}/":
        return False
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _environment_files(text: str) -> Iterator[tuple[str, bool]]:
    """ "PATH (ignore_errors=yes)", one after the other."""
    for path, ignored in _ENVIRONMENT_FILE.findall(text):
        yield path, ignored == "yes"
