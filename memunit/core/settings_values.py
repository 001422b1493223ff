"""One value of a document, as TOML or a command line gives it, to the value that Settings holds."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from memunit.core.address import Address, AddressError, parse_address
from memunit.core.quantity import QuantityError, format_time, parse_size, parse_time
from memunit.core.schema import MOST_WORKERS, RESERVED_VARIABLES, Key, Kind

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*(\(\))?")
_INTEGER_BOUND = 1 << 63
# MAX_ARG_STRLEN of execve(2), with pages of 4 KiB: one argument, or one NAME=VALUE, and the NUL that ends it.
_LONGEST_STRING = 128 << 10


class ValueProblem(Exception):
    """A value that can't be used; `faults` has each thing that is wrong with it, and the remedy."""

    def __init__(self, message: str, remedy: str = "", *more: tuple[str, str]) -> None:
        super().__init__(message)
        self.faults = tuple(dict.fromkeys(((message, remedy), *more)))


def convert(key: Key, value: Any) -> Any:
    """The value of `key` in bytes, seconds and tuples. Raises ValueProblem."""
    try:
        return _CONVERTERS[key.kind](key, value)
    except (QuantityError, AddressError) as error:
        raise ValueProblem(error.message, error.remedy) from None


def shown(value: Any) -> str:
    """A value in an error: one line, of a bounded length, in TOML's words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= _INTEGER_BOUND:
        return "a number of more than 64 bits"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that was most likely meant."""
    plain = word.lower().replace("-", "_").lstrip("_")
    found = get_close_matches(plain, known, n=1, cutoff=0.6)
    return found[0] if found else None


def _wrong_type(key: Key, value: Any) -> ValueProblem:
    return ValueProblem(f"{shown(value)} is not {key.kind.value}")


def _text(key: Key, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong_type(key, value)
    _passable(value)
    if not value.strip():
        raise ValueProblem("is empty", f"say {key.kind.value}, or leave the key out")
    return value


def _each(items: Iterable[Any], convert_one: Callable[[Any], Any]) -> list[Any]:
    """Every item converted. Raises one ValueProblem with the faults of all."""
    found: list[Any] = []
    faults: list[tuple[str, str]] = []
    for item in items:
        try:
            found.append(convert_one(item))
        except ValueProblem as problem:
            faults += problem.faults
        except AddressError as error:
            faults.append((error.message, error.remedy))
    if faults:
        raise ValueProblem(*faults[0], *faults[1:])
    return found


def _target(key: Key, value: Any) -> str:
    text = _text(key, value).strip()
    if _TARGET.fullmatch(text):
        return text
    if "/" in text or text.endswith(".py"):
        module = text.removesuffix(".py").strip("./").replace("/", ".")
        raise ValueProblem(
            f"{shown(text)} is a file, not a module and an attribute",
            f'say "{module}:app" with `directory` as the folder that it is found from',
        )
    if ":" not in text:
        raise ValueProblem(
            f"{shown(text)} names no attribute", f'say which object of it is the app: "{text}:app"'
        )
    raise ValueProblem(f"{shown(text)} is not module:attribute", 'say it as in "shop.web:app"')


def _words(key: Key, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        words = ", ".join(f'"{word}"' for word in value.split()[:8])
        raise ValueProblem("is a text, and no shell is there to take it apart", f"say [{words}]")
    if not isinstance(value, list | tuple | str):
        raise _wrong_type(key, value)
    if not value or isinstance(value, str):
        raise _no_program()
    return tuple(_each(enumerate(value), _word))


def _word(place: tuple[int, Any]) -> str:
    i, word = place
    if not isinstance(word, str):
        raise ValueProblem(f"{shown(word)} in it is not a text", f'say "{word}"' if _plain(word) else "")
    _passable(word)
    if i == 0 and not word.strip():
        raise _no_program()
    return word


def _no_program() -> ValueProblem:
    return ValueProblem("names no program", 'say it as in ["node", "server.js"]')


def _passable(text: str, subject: str = "") -> None:
    """Whether a new program can be given it; ValueProblem if not."""
    if "\0" in text:
        raise ValueProblem(f"{subject}has a NUL character in it", "remove it")
    size = len(text.encode("utf-8", "surrogateescape"))
    if size >= _LONGEST_STRING:
        raise ValueProblem(
            f"{subject}has {size} bytes, and the kernel passes fewer than {_LONGEST_STRING} to a program",
            "put it in a file, and name that",
        )


def _plain(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _INTEGER_BOUND


def _path(key: Key, value: Any) -> str:
    text = _text(key, value)
    if text.startswith("~"):
        raise ValueProblem(f"{shown(text)}: nobody's home is known here", "write the whole path, from / on")
    if not text.startswith("/"):
        raise ValueProblem(f"{shown(text)} is not an absolute path", "write the whole path, from / on")
    return text


def _choice(key: Key, value: Any) -> str:
    if isinstance(value, str) and value in key.choices:
        return value
    words = " or ".join(f'"{choice}"' for choice in key.choices)
    guess = nearest(value, key.choices) if isinstance(value, str) else None
    raise ValueProblem(
        f"{shown(value)} is not {words}", f'did you mean "{guess}"?' if guess else "say one of these"
    )


def _mapping(key: Key, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _wrong_type(key, value)
    return dict(_each(value.items(), _variable))


def _variable(item: tuple[str, Any]) -> tuple[str, str]:
    name, text = item
    if not name or "=" in name or "\0" in name:
        raise ValueProblem(f"{shown(name)} is not a variable's name", "a name is without = in it")
    if name in RESERVED_VARIABLES:
        raise ValueProblem(f"{name} is what memunit itself tells each worker", "leave it out")
    if not isinstance(text, str):
        remedy = f'in quotes: {name} = "{shown(text)}"' if _plain(text) or isinstance(text, bool) else ""
        raise ValueProblem(f"{name}: {shown(text)} is not a text", remedy)
    _passable(f"{name}={text}", f"{name} ")
    return name, text


def _boolean(key: Key, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(key, value)
    return value


def _addresses(key: Key, value: Any) -> tuple[Address, ...]:
    if isinstance(value, str | int) and not isinstance(value, bool):
        raise _quoted("is one address and not a list", value, "in brackets", key)
    if not isinstance(value, list | tuple):
        raise _wrong_type(key, value)
    before: list[Address] = []

    def address(text: Any) -> Address:
        if not isinstance(text, str):
            raise _quoted(f"{shown(text)} in it is not a text", text, "in quotes", key)
        found = parse_address(text)
        if found in before and found.port != 0:
            raise ValueProblem(f"{found} stands there twice", "once is enough")
        before.append(found)
        return found

    return tuple(_each(value, address))


def _quoted(message: str, value: Any, how: str, key: Key) -> ValueProblem:
    """An address that is not written as one, and what is wrong with it even if it were."""
    if not isinstance(value, str) and not _plain(value):
        return ValueProblem(message)
    try:
        parse_address(str(value))
    except AddressError as error:
        return ValueProblem(message, f"say {key.kind.value}", (error.message, error.remedy))
    return ValueProblem(message, f'{how}: ["{value}"]')


def _count(key: Key, value: Any) -> int | None:
    if value == "auto":
        return None
    number = _whole(key, value)
    if number < 1:
        raise ValueProblem(
            f"{number} workers serve nobody", "say 1 or more; to serve nobody, stop the .socket unit"
        )
    return number


def _integer(key: Key, value: Any) -> int:
    return _whole(key, value)


def _whole(key: Key, value: Any) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 10:
        raise ValueProblem(f"{shown(value)} is a text", f"without quotes: {int(value)}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(key, value)
    if value < 0 or value > MOST_WORKERS:
        raise ValueProblem(f"{shown(value)} is not {key.kind.value}")
    return value


def _size(key: Key, value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _wrong_type(key, value)
    if isinstance(value, int) and abs(value) >= _INTEGER_BOUND:
        raise ValueProblem(shown(value), 'say "infinity" for no bound')
    size = parse_size(value)
    if size == 0:
        raise ValueProblem(
            "no process runs in 0 bytes", 'say a size such as "400M", or "infinity" for no bound'
        )
    return size


def _time(key: Key, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _wrong_type(key, value)
    if isinstance(value, int) and abs(value) >= _INTEGER_BOUND:
        raise ValueProblem(shown(value), f'say "{key.default}"')
    seconds = parse_time(value, endless=key.endless)
    if seconds == 0 and key.never:
        return math.inf
    if math.isinf(seconds) and not key.endless:
        raise ValueProblem(
            "this one has to end, so it can't be infinity", f'say a time such as "{key.default}"'
        )
    if seconds < key.least:
        raise ValueProblem(
            f"{format_time(seconds)} is too short",
            f'say "{format_time(key.least)}" at least; "{key.default}" is usual',
        )
    return seconds


_CONVERTERS: dict[Kind, Callable[[Key, Any], Any]] = {
    Kind.TARGET: _target,
    Kind.WORDS: _words,
    Kind.PATH: _path,
    Kind.CHOICE: _choice,
    Kind.MAPPING: _mapping,
    Kind.BOOLEAN: _boolean,
    Kind.ADDRESSES: _addresses,
    Kind.COUNT: _count,
    Kind.INTEGER: _integer,
    Kind.SIZE: _size,
    Kind.TIME: _time,
}
