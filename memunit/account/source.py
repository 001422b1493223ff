"""Reading the journal: by systemd's own library where Python has it, else by journalctl(1)."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memunit.account.entries import KINDS, MANAGER_KINDS, Entry, parse
from memunit.core.exitcodes import EX_NOPERM, EX_UNAVAILABLE

FOLDERS = (Path("/var/log/journal"), Path("/run/log/journal"))
_SECONDS = 60.0
# Of an app's own lines; of a stack that is megabytes long, nobody reads all.
MOST_LINES = 400
Match = tuple[Sequence[str], ...]


class Unreadable(Exception):
    """The journal can't be read: one line, with the remedy, and the exit code."""

    def __init__(self, text: str, code: int) -> None:
        self.code = code
        super().__init__(text)


class Journal:
    """The machine's journal, or with `place` the files of another: a folder, or one file."""

    def __init__(self, place: str | None = None, *, library: bool | None = None) -> None:
        """`library` is for tests: whether to read by systemd's library. Raises Unreadable."""
        self._place = None if place is None else Path(place)
        _examine(self._place)
        self._library = _has_library() if library is None else library

    def entries(self, instance: str | None, since: float) -> Iterator[Entry]:
        """The entries of one instance, or of all, from `since` on (CLOCK_REALTIME, seconds): the oldest first."""
        ours = [f"MESSAGE_ID={each}" for each in KINDS]
        managers = ["_PID=1", *(f"MESSAGE_ID={each}" for each in MANAGER_KINDS)]
        if instance is not None:
            ours.append(f"_SYSTEMD_UNIT=memunit@{instance}.service")
            managers.append(f"UNIT=memunit@{instance}.service")
        for fields in self._read((ours, managers), since, None):
            entry = parse(fields)
            if entry is not None and instance in (None, entry.instance):
                yield entry

    def printed(self, instance: str, pid: int | None, since: float, until: float) -> list[str]:
        """What a process of an instance, or any, has printed between two times; the last MOST_LINES lines."""
        match = [f"_SYSTEMD_UNIT=memunit@{instance}.service", "_TRANSPORT=stdout"]
        match += [f"_PID={pid}"] if pid is not None else []
        said: list[str] = []
        for fields in self._read((match,), since, until):
            # What memunit says of it is written by its master.
            said += fields.get("MESSAGE", "").split("\n")
            del said[:-MOST_LINES]
        return said

    def _read(self, match: Match, since: float, until: float | None) -> Iterator[Mapping[str, str]]:
        try:
            if self._library:
                yield from _by_library(self._place, match, since, until)
            else:
                yield from _by_program(self._place, match, since, until)
        except OSError as error:
            where = self._place or "the journal"
            said = error.strerror or error
            raise Unreadable(
                f"{where} can't be read: {said}; journalctl --verify finds damaged files", EX_UNAVAILABLE
            ) from None


def _has_library() -> bool:
    try:
        from systemd import journal  # noqa: F401, PLC0415  a heavy one, and not everywhere
    except ImportError:
        return False
    return True


def _by_library(
    place: Path | None, match: Match, since: float, until: float | None
) -> Iterator[Mapping[str, str]]:
    from systemd import journal  # noqa: PLC0415  as above

    if place is None:
        reader = journal.Reader()
    elif place.is_dir():
        reader = journal.Reader(path=str(place))
    else:
        reader = journal.Reader(files=[str(place)])
    with reader:
        # As text all of it: the library's own converters make local times of times, and errors of odd numbers.
        reader.converters = dict.fromkeys(("__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "__CURSOR"), str)
        for number, each in enumerate(match):
            if number:
                reader.add_disjunction()
            for word in each:
                reader.add_match(word)
        reader.seek_realtime(max(0, int(since * 1e6)))
        while fields := reader.get_next():
            texts = {name: _text(value) for name, value in fields.items()}
            if until is not None and int(texts["__REALTIME_TIMESTAMP"]) > until * 1e6:
                return
            yield texts


def _by_program(
    place: Path | None, match: Match, since: float, until: float | None
) -> Iterator[Mapping[str, str]]:
    words = ["journalctl", "--quiet", "--no-pager", "--output=json", "--all", f"--since=@{since:.6f}"]
    if until is not None:
        words.append(f"--until=@{until:.6f}")
    if place is not None:
        words += ["--directory", str(place)] if place.is_dir() else ["--file", str(place)]
    for number, each in enumerate(match):
        words += ["+", *each] if number else each
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        raise Unreadable(
            "there is no journalctl; apt install systemd, or run this where journalctl is", EX_UNAVAILABLE
        ) from None
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for line in process.stdout:
                fields = json.loads(line)
                yield {name: _text(value) for name, value in fields.items()}
            said = process.stderr.read().decode("utf-8", "replace").strip()
        except ValueError:
            said = "it printed something that is not JSON"
        finally:
            # The caller may stop reading before journalctl ends.
            process.kill()
        if process.wait(_SECONDS) not in (0, -9) or said:
            raise Unreadable(
                f"journalctl failed: {said.splitlines()[-1] if said else 'no word'}", EX_UNAVAILABLE
            )


def _text(value: Any) -> str:
    """One field. The same name twice is a list, and what is not UTF-8 is bytes, in JSON a list of their numbers."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list) and value:
        if all(isinstance(each, int) and 0 <= each < 256 for each in value):
            return bytes(value).decode("utf-8", "replace")
        return _text(value[0])
    return "" if value is None or isinstance(value, list) else str(value)


def _examine(place: Path | None) -> None:
    """Raises Unreadable unless there is a journal of the system, and we may read it.

    To whom it is closed, sd_journal_open(3) gives that user's own files, and not an error: an empty account would read
    as "nothing has happened".
    """
    if place is not None:
        if not place.exists():
            raise Unreadable(f"{place}: there is no such journal; name a folder or a file", EX_UNAVAILABLE)
        if not os.access(place, os.R_OK | os.X_OK if place.is_dir() else os.R_OK):
            raise Unreadable(f"{place} may not be read by this user; put sudo before the command", EX_NOPERM)
        return
    files = list(_system_files())
    if not files:
        text = (
            "there is no journal on this machine; systemd-journald keeps one (for a container, on the host)"
        )
        raise Unreadable(text, EX_UNAVAILABLE)
    if not any(may for _, may in files):
        text = (
            "the journal may not be read by this user; put sudo before the command, or join the group "
            "systemd-journal (usermod -aG systemd-journal USER, then log in again)"
        )
        raise Unreadable(text, EX_NOPERM)


def _system_files(folders: Iterable[Path] = FOLDERS) -> Iterator[tuple[Path, bool]]:
    """Each file of the system's journal, or each folder that hides them, and whether we may read it."""
    for folder in folders:
        try:
            inner = [each for each in folder.iterdir() if each.is_dir()]
        except PermissionError:
            yield folder, False
            continue
        except OSError:
            continue
        for each in inner:
            try:
                names = sorted(each.glob("system*.journal"))
            except OSError:
                yield each, False
                continue
            if not os.access(each, os.R_OK | os.X_OK):
                yield each, False
            for file in names:
                yield file, os.access(file, os.R_OK)
