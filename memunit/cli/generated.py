"""What the file of an instance says of its units, against what systemd knows: memunit-generator(8) stands between.

The file may be newer than the last daemon-reload, a drop-in that somebody has written wins, and what runs was started
with what was known then.
"""

import glob
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from memunit.cli.unitfacts import ask, words_of
from memunit.core import unitfile
from memunit.core.problems import Problem
from memunit.core.settings import DYNAMIC, Parsed, Settings
from memunit.core.unitnames import DROP_IN, KEPT, KINDS

_FOLDER = "/run/systemd/generator"
_GENERATOR = "memunit-generator"
# systemd.generator(7)
_GENERATORS = tuple(
    f"{place}/systemd/system-generators" for place in ("/run", "/etc", "/usr/local/lib", "/usr/lib")
)
_ASSIGNMENT = re.compile(r"^[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(.*?)[ \t]*$", re.M)
# To say one of these again adds to it, unless the list is emptied first.
_LISTS = {"ListenStream", "EnvironmentFile", "LoadCredential", "ReadWritePaths", "RestrictAddressFamilies"}
_LISTEN = re.compile(r"(.*) \(\w+\)")


class Generated:
    """One instance's units, with all that systemd tells about them."""

    def __init__(self, instance: str, parsed: Parsed, source: str) -> None:
        self._instance = instance
        self._source = source
        self._usable = not unitfile.unusable(parsed)
        self._made = unitfile.drop_ins(
            parsed,
            instance,
            len(os.sched_getaffinity(0)),
            ipv6=Path("/proc/net/if_inet6").exists(),
        )
        self._said = {kind: ask(self._unit(kind)) for kind in KINDS}
        self.known = all(said.get("LoadState") == ["loaded"] for said in self._said.values())

    def listen(self) -> list[str]:
        """Where the .socket unit listens, as systemd knows it; empty where it does not tell."""
        found = [_LISTEN.fullmatch(line) for line in self._said["socket"].get("Listen", ())]
        return [line[1] for line in found if line]

    def warnings(self) -> Iterator[Problem]:
        """Where the file is not what is in effect, with what puts it into effect."""
        if not self.known or not self._usable:
            return
        unknown = list(self._unknown())
        yield from unknown
        yield from self._overridden()
        if not unknown:
            yield from self._older()

    def _unit(self, kind: str) -> str:
        return f"memunit@{self._instance}.{kind}"

    def _unknown(self) -> Iterator[Problem]:
        for kind in KINDS:
            made = self._made.of(kind)
            path = Path(_FOLDER, f"{self._unit(kind)}.d", DROP_IN)
            there = unitfile.read(_text(path), self._source)
            for key in [*made, *(key for key in there if key not in made)]:
                if made.get(key) != there.get(key):
                    text = f"{self._unit(kind)} does not have the present settings of the file yet"
                    yield Problem(self._source, key, text, self._reload() + self._restart(kind))

    def _reload(self) -> str:
        if not any(Path(folder, _GENERATOR).exists() for folder in _GENERATORS):
            return f"install {_GENERATOR}(8), and systemctl daemon-reload"
        return "systemctl daemon-reload"

    def _restart(self, kind: str) -> str:
        """A socket that listens goes on as it was made; a service takes the most part of a change as it runs."""
        listens = kind == "socket" and self._said[kind].get("ActiveState") == ["active"]
        return f", then systemctl restart {self._unit(kind)}" if listens else ""

    def _overridden(self) -> Iterator[Problem]:
        """Drop-ins are read in the order of their names, and ours comes first."""
        for kind in KINDS:
            directives = {
                name.partition("=")[0]: key for key, lines in self._made.of(kind).items() for name in lines
            }
            paths = words_of(" ".join(self._said[kind].get("DropInPaths", ())))
            for path in paths:
                if Path(path).name == DROP_IN:
                    continue
                for key, names in _said_again(_text(Path(path)), directives).items():
                    text = f"{', '.join(f'{name}=' for name in names)} of {path} overrides this key"
                    yield Problem(self._source, key, text, "remove one of the two")

    def _older(self) -> Iterator[Problem]:
        """What runs, and was started before the file said so."""
        for kind in KINDS:
            said = self._said[kind]
            kept = Path(KEPT, f"{self._instance}.{kind}")
            state, since = said.get("ActiveState"), said.get("ActiveEnterTimestampMonotonic", ["0"])[0]
            if state != ["active"] or not since.isdigit() or not kept.exists():
                continue
            started = time.time() - time.monotonic() + int(since) / 1e6
            if kept.stat().st_mtime > started:
                text = f"{self._unit(kind)} was started with older settings than the file has now"
                after = "; connections attempted at that moment are refused" if kind == "socket" else ""
                yield Problem(self._source, "", text, f"systemctl restart {self._unit(kind)}{after}")


def _said_again(text: str, directives: Mapping[str, str]) -> dict[str, list[str]]:
    """The directives of each key that a drop-in takes away, by key."""
    found: dict[str, list[str]] = {}
    for name, value in _ASSIGNMENT.findall(text):
        key = directives.get(name)
        if key is not None and (name not in _LISTS or not value) and name not in found.get(key, ()):
            found.setdefault(key, []).append(name)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def missing(settings: Settings, source: str) -> Iterator[Problem]:
    """What the file names for systemd that this machine has not got: the service would not start."""
    service = settings.service
    accounts = {"user": (service.user, "passwd", 217), "group": (service.group, "group", 216)}
    for name, (account, database, status) in accounts.items():
        if account not in (None, DYNAMIC) and not _is_account(str(account), database):
            text = f'there is no {name} "{account}" on this machine{_ends(status)}'
            yield Problem(source, f"service.{name}", text, f"add{name} --system {account}")
    for path in service.environment_files:
        if not path.startswith("-") and not glob.glob(path):  # noqa: PTH207  as systemd reads it, the whole is a pattern
            text = f"{path} does not exist, and systemd does not start the service"
            yield Problem(source, "service.environment_files", text, f'create it, or say "-{path}"')
    for name, path in service.credentials.items():
        if _is_missing(path):
            text = f"{name}: {path} does not exist{_ends(243)}"
            yield Problem(source, "service.credentials", text, "create it")
    for path in service.writable:
        if not path.startswith("-") and _is_missing(path):
            text = f"{path} does not exist{_ends(226)}"
            yield Problem(source, "service.writable", text, f'create it, or say "-{path}"')


def without_again(problems: Sequence[Problem], told: Sequence[Problem]) -> list[Problem]:
    """The unit's problems without those that are told of the file, from which the unit has them."""
    return [each for each in problems if not any(each.message == other.message for other in told)]


def _ends(status: int) -> str:
    return f", and systemd ends the start with status {status}"


def _is_missing(path: str) -> bool:
    """For sure: not where a folder on the way may not be searched, nor where a service makes what it needs."""
    if path.startswith("/run/"):
        return False
    try:
        Path(path).lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _is_account(name: str, database: str) -> bool:
    import grp  # noqa: PLC0415  with pwd, it is not needed where nobody is named
    import pwd  # noqa: PLC0415

    try:
        if name.isdigit():
            return True
        return bool(pwd.getpwnam(name) if database == "passwd" else grp.getgrnam(name))
    except KeyError:
        return False
