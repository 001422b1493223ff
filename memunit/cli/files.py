"""The file of an instance: its name, its path, and its text read into Settings."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from memunit.cli import few
from memunit.core.names import bad_instance, instance_of, is_instance
from memunit.core.problems import Problem, SettingsError
from memunit.core.settings import Parsed, examine

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY = "/etc/memunit"
_LARGEST_FILE = 1 << 20
_MANUAL = "see memunit.toml(5)"
_POSITION = re.compile(r"\(at (line ([0-9]+), column [0-9]+|end of document)\)")
# What tomllib says of a name that is there already, in one of its ways.
_TAKEN = re.compile(
    r"Cannot (overwrite a value|declare .* twice|mutate immutable namespace|redefine namespace)"
    r"|Duplicate inline table key '(?P<inline>.*)'"
)
_NAME = re.compile(r"\s*(?:\[+\s*(?P<table>[^\]]+?)\s*\]|(?P<key>[^=\[]+?)\s*=)")
_LONGEST_VALUE = 40


def instance_path(name: str, environment: Mapping[str, str] | None = None) -> Path:
    """The file of an instance: /etc/memunit/NAME.toml.

    Where systemd says $CONFIGURATION_DIRECTORY (ConfigurationDirectory=, systemd.exec(5)), it is that one.
    Raises SettingsError for a name that can't be an instance's.
    """
    if not is_instance(name):
        problem = Problem("", "", *bad_instance(name))
        raise SettingsError([problem])
    env = os.environ if environment is None else environment
    directory = env.get("CONFIGURATION_DIRECTORY", "").split(":")[0] or DIRECTORY
    return _path(directory) / f"{name}.toml"


def configured() -> list[str]:
    """The instances that have a file, in the order of their names."""
    try:
        found = [path.stem for path in instance_path("x").parent.iterdir() if path.suffix == ".toml"]
    except OSError:
        return []
    return sorted(name for name in found if is_instance(name))


def load_file(path: Path | str) -> Parsed:
    """Read one file; reads regular files alone.

    What is wrong with its keys is in `problems` of what it returns; raises SettingsError for one without any to look
    at.
    """
    source = str(path)
    return examine(load_document(source), source)


def load_document(path: Path | str) -> dict[str, Any]:
    """The tables of one file, not looked at yet. Raises SettingsError as load_file() does."""
    return _document(str(path), _read(str(path)))


def named_path(what: str) -> tuple[str | None, Path]:
    """The instance, if it is one, and the file that a person means by INSTANCE, the name of its unit, or FILE.

    A FILE has a slash in it, or ends in .toml. Raises SettingsError for a name that can't be an instance's.
    """
    if "/" in what or what.endswith(".toml"):
        return None, _path(what)
    instance = instance_of(what)
    return instance, instance_path(instance)


def _path(text: str) -> Path:
    from pathlib import Path  # noqa: PLC0415  memunit-generator(8) reads files too, and has no time to load it

    return Path(text)


def _read(source: str) -> bytes:
    try:
        # O_NONBLOCK, or a FIFO in its place would hold a reload for ever.
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise _refusal(source, "is a directory", "name the file in it")
        if not stat.S_ISREG(mode):
            raise _refusal(source, "is not a regular file", _MANUAL)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise _unreadable(source, error) from None
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST_FILE:
        raise _refusal(source, "has more than 1M", _MANUAL)
    return content


def _document(source: str, content: bytes) -> dict[str, Any]:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _refusal(source, f"line {line} is not UTF-8", "save it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise _refusal(source, "begins with a byte order mark", "save it as UTF-8 without one")
    import tomllib  # noqa: PLC0415  a command line has no file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        place = _POSITION.search(said)
        taken = _taken(text, said, int(place[2]) if place and place[2] else text.count("\n") + 1)
        if taken is not None:
            raise _refusal(source, *taken) from None
        message = _POSITION.sub("", said).strip()
        message = message[:1].lower() + message[1:]
        raise _refusal(
            source, f"{place[1]}: {message}" if place else message, f"is it TOML? {_MANUAL}"
        ) from None
    except RecursionError:
        raise _refusal(source, "is nested too deeply", _MANUAL) from None
    except ValueError as error:  # an integer of thousands of digits
        raise _refusal(source, str(error), _MANUAL) from None


def _taken(text: str, said: str, last: int) -> tuple[str, str] | None:
    """What is wrong and the remedy if a name stands there twice, for tomllib does not say which.

    `last` is the line in which what it refuses ends. That begins where all before it can be read.
    """
    why = _TAKEN.match(said)
    if why is None:
        return None
    lines = text.split("\n")
    for line in range(last, max(0, last - _LONGEST_VALUE), -1):
        if _is_toml("\n".join(lines[: line - 1])):
            break
    else:
        return None
    name = _NAME.match(lines[line - 1])
    if name is None:
        return None
    if name["table"]:
        table = f"[{name['table']}]"
        return f"line {line}: the file has the table {table} twice", f"keep one {table}, with all its keys"
    key = name["key"] if why["inline"] is None else f"{why['inline']} of {name['key']}"
    return f"line {line}: the file has the key {key} twice", "keep one of them"


def _is_toml(text: str) -> bool:
    try:
        import tomllib  # noqa: PLC0415  as above

        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _unreadable(source: str, error: OSError | ValueError) -> SettingsError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT:
        return _refusal(source, "there is no such file", f"create {source}, {_MANUAL}")
    if number in (errno.EACCES, errno.EPERM):
        return _refusal(source, "may not be read", f"let it be read: chmod a+r {source}")
    if number == errno.ENOTDIR:
        return _refusal(source, "a part of its path is not a directory", "correct the path")
    said = error.strerror if isinstance(error, OSError) else str(error)
    if few.is_want(error):
        return _refusal(source, f"can't be read: {said}", f"{few.REMEDY}, or ulimit -n")
    return _refusal(source, f"can't be read: {said}", "correct the path")


def _refusal(source: str, message: str, remedy: str) -> SettingsError:
    return SettingsError([Problem(source, "", message, remedy)])
