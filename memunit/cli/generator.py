"""memunit-generator: the files of all instances as drop-ins for their units (systemd.generator(7)).

systemd starts it at boot and at each daemon-reload, waits for it, and has emptied the directory that it writes to. So
it is quick: a file that is as it was costs a stat(2), for what was written for it is kept in /run/memunit-generator,
and the parser (generating.py) is loaded where a file has changed. It asks nobody, and does each instance by itself.
A file that can't be used harms its own instance alone. If it could be used before, what it said then holds: else an
apt-get upgrade, beside a file that somebody is editing, would close the sockets of a service that runs.
"""

import os
import sys
import time

from memunit import __version__
from memunit.core.exitcodes import EX_OSERR, EX_USAGE, OK
from memunit.core.unitnames import DROP_IN, KEPT, KINDS, RUNTIME, SUFFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_DIRECTORY = "/etc/memunit"
_INDEX = "index"
_KMSG = "/dev/kmsg"
# A file that is written twice within a tick of the file system's clock looks the same after the second time.
_SETTLED_NS = 2_000_000_000
_STATIC_USER = "\nDynamicUser=no\n"
# What asks the master for its metrics.
_ASKERS = ("memunit-metrics", "memunit-varlink-metrics")
_IDENTITY = ("User=", "DynamicUser=", "Group=", "RemoveIPC=")
_USAGE = (
    "usage: memunit-generator [--from DIRECTORY] [--runtime DIRECTORY] [--keep DIRECTORY] NORMAL [EARLY LATE]\n\n"
    "Write drop-ins for the units of all instances to NORMAL; started by systemd, see memunit-generator(8).\n"
)


def main(arguments: "Sequence[str]") -> int:
    """Run the command; returns the exit code: 71 if it could not read or write something, 64 for wrong arguments."""
    words = list(arguments)
    folders = {"--from": _DIRECTORY, "--runtime": RUNTIME, "--keep": KEPT}
    while len(words) > 1 and words[0] in folders:
        folders[words[0]] = words[1]
        del words[:2]
    if words[:1] == ["--help"]:
        sys.stdout.write(_USAGE)
        return OK
    if len(words) not in (1, 3) or words[0].startswith("-"):
        sys.stderr.write(_USAGE)
        return EX_USAGE
    os.umask(0o022)
    return Generator(folders["--from"], folders["--runtime"], folders["--keep"], words[0]).run()


class Generator:
    """One run: files of `source`, what is `kept` of the last one, and drop-ins in `normal`.

    `runtime` is where the services have their runtime directories.
    """

    def __init__(self, source: str, runtime: str, kept: str, normal: str) -> None:
        self.source = source
        self.processors = len(os.sched_getaffinity(0))
        self.ipv6 = os.path.exists("/proc/net/if_inet6")
        self._runtime = runtime
        self._kept = kept
        self._normal = normal
        self._code = OK

    def run(self) -> int:
        """All instances; returns the exit code."""
        try:
            names = sorted(os.listdir(self.source))
        except FileNotFoundError:
            names = []
        except OSError as error:
            self.tell(f"{self.source}: can't be read: {error.strerror}")
            return EX_OSERR
        found = {name[: -len(SUFFIX)]: self._stamp(name) for name in names if name.endswith(SUFFIX)}
        before = self._index()
        changed = [name for name, stamp in found.items() if not stamp or before.get(name) != stamp]
        for instance in found.keys() - changed:
            if not self.guarded(instance, self._again):
                changed.append(instance)
        good = found.keys() - changed
        if changed:
            from memunit.cli.generating import Generating  # noqa: PLC0415  takes longer than all the rest

            good |= Generating(self).run(sorted(changed))
        self._settle(found, good, before)
        return self._code

    def guarded(self, instance: str, write: "Callable[[str], bool]") -> bool:
        """What `write` returns for it; what can't be written is told."""
        try:
            return write(instance)
        except OSError as error:
            # A failed write(2) has no file name.
            place = error.filename or self._normal
            self.tell(f"memunit@{instance}: {place}: can't be written: {error.strerror}")
            self._code = EX_OSERR
            return True

    def write(self, instance: str, kind: str, text: str) -> None:
        """One drop-in; none where there is nothing to say. Raises OSError."""
        if not text:
            return
        folder = f"{self._normal}/memunit@{instance}.{kind}.d"
        os.makedirs(folder, exist_ok=True)
        _store(f"{folder}/{DROP_IN}", text)
        who = _user(text) if kind == "service" else ""
        if who:
            # The master answers its own user alone.
            for asker in _ASKERS:
                folder = f"{self._normal}/{asker}@{instance}.service.d"
                os.makedirs(folder, exist_ok=True)
                _store(f"{folder}/{DROP_IN}", f"# As memunit@{instance}.service has it.\n[Service]\n{who}")

    def keep(self, instance: str, kind: str, text: str) -> None:
        """For the next time. A text that is there already stays: its time says since when it has been so."""
        if self.recall(instance, kind) == text:
            return
        os.makedirs(self._kept, exist_ok=True)
        path = f"{self._kept}/{instance}.{kind}"
        _store(f"{path}~", text)
        os.replace(f"{path}~", path)

    def recall(self, instance: str, kind: str) -> "str | None":
        """What was kept for it last, None for nothing."""
        return _load(f"{self._kept}/{instance}.{kind}")

    def unlink_left_over(self, instance: str, service: str) -> None:
        """A dynamic user's runtime directory is a link, which systemd leaves behind when the service stops; with a user
        of the machine it would then fail to make a directory there (233/RUNTIME_DIRECTORY).
        """
        link = f"{self._runtime}/{instance}"
        if _STATIC_USER in service and os.path.islink(link) and not os.path.exists(link):
            _remove(link)

    def tell(self, text: str) -> None:
        """To the kernel's log: at boot there is no journal yet. journald shows it as memunit-generator's.

        Somebody who tries it with files of his own reads it on stderr.
        """
        line = "".join(character if character.isprintable() else "?" for character in text)[:800]
        descriptor = -1
        try:
            if self.source == _DIRECTORY:
                descriptor = os.open(_KMSG, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            pass
        try:
            os.write(descriptor, f"<3>memunit-generator[{os.getpid()}]: {line}\n".encode())
        except OSError:
            sys.stderr.write(f"memunit-generator: {line}\n")
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _again(self, instance: str) -> bool:
        """Write what was kept; False if that is gone."""
        texts = {kind: self.recall(instance, kind) for kind in KINDS}
        for kind, text in texts.items():
            if text is None:
                return False
            self.write(instance, kind, text)
        self.unlink_left_over(instance, texts["service"] or "")
        return True

    def _stamp(self, name: str) -> str:
        """What changes when the file does; "" where it may be about to."""
        try:
            found = os.stat(f"{self.source}/{name}")
        except OSError:
            return ""
        if abs(time.time_ns() - found.st_ctime_ns) < _SETTLED_NS:
            return ""
        return f"{found.st_mtime_ns}.{found.st_ctime_ns}.{found.st_size}.{found.st_dev}.{found.st_ino}"

    def _settled_by(self) -> str:
        """What else the texts depend on: this program, and what it knows of the machine."""
        return f"{__version__} {os.stat(__file__).st_mtime_ns} {self.source} {self.processors} {self.ipv6}"

    def _index(self) -> "dict[str, str]":
        """The stamp of each file that could be used the last time."""
        head, *lines = (_load(f"{self._kept}/{_INDEX}") or "").split("\n")
        if head != self._settled_by():
            return {}
        return {instance: stamp for stamp, _, instance in (line.partition(" ") for line in lines) if instance}

    def _settle(self, found: "dict[str, str]", good: "Iterable[str]", before: "dict[str, str]") -> None:
        """An instance whose file is gone is none any more."""
        stamps = {name: found[name] for name in sorted(good) if found[name]}
        if stamps != before:
            lines = [self._settled_by(), *(f"{stamp} {name}" for name, stamp in stamps.items())]
            try:
                os.makedirs(self._kept, exist_ok=True)
                _store(f"{self._kept}/{_INDEX}~", "\n".join(lines))
                os.replace(f"{self._kept}/{_INDEX}~", f"{self._kept}/{_INDEX}")
            except OSError:
                pass  # The next run takes longer.
        try:
            kept = os.listdir(self._kept)
        except OSError:
            return
        for name in kept:
            if name != _INDEX and name.rpartition(".")[0] not in found:
                _remove(f"{self._kept}/{name}")


def _user(service: str) -> str:
    """The lines of a drop-in that say as whom the unit runs."""
    return "".join(f"{line}\n" for line in service.split("\n") if line.startswith(_IDENTITY))


def _load(path: str) -> "str | None":
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def _store(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
