"""One value of a document, as TOML or a command line gives it, to the value that Settings holds."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from memunit.core import settings_unit, targets
from memunit.core.address import Address, AddressError, parse_address
from memunit.core.quantity import QuantityError, format_size, format_time, parse_size, parse_time
from memunit.core.reserved import RESERVED_VARIABLES
from memunit.core.schema import MOST_WORKERS, Key, Kind
from memunit.core.settings_texts import (
    INTEGER_BOUND,
    ValueProblem,
    each,
    nearest,
    passable,
    plain,
    shown,
    text_of,
    wrong_type,
)
from memunit.core.stopsignal import signal_name


def convert(key: Key, value: Any) -> Any:
    """The value of `key` in bytes, seconds and tuples. Raises ValueProblem."""
    try:
        return _CONVERTERS[key.kind](key, value)
    except (QuantityError, AddressError) as error:
        raise ValueProblem(error.message, error.remedy) from None


def _target(key: Key, value: Any) -> str:
    text = text_of(key, value).strip()
    wrong = targets.fault(text, "app" if key.name == "run" else key.name)
    if wrong is not None:
        raise ValueProblem(*wrong)
    return text


def _script(key: Key, value: Any) -> str:
    text = text_of(key, value).strip()
    wrong = targets.no_script(text)
    if wrong is not None:
        raise ValueProblem(*wrong)
    return text


def _words(key: Key, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.strip():
        words = ", ".join(f'"{word}"' for word in value.split()[:8])
        raise ValueProblem("is one text, and no shell splits it into words", f"say [{words}]")
    if not isinstance(value, list | tuple | str):
        raise wrong_type(key, value)
    if not value or isinstance(value, str):
        raise _no_program()
    return tuple(each(enumerate(value), _word))


def _word(place: tuple[int, Any]) -> str:
    i, word = place
    if not isinstance(word, str):
        raise ValueProblem(f"{shown(word)} in the list is not a text", f'say "{word}"' if plain(word) else "")
    passable(word)
    if i == 0 and not word.strip():
        raise _no_program()
    return word


def _no_program() -> ValueProblem:
    return ValueProblem("names no program", 'say it as in ["node", "server.js"]')


def _path(key: Key, value: Any) -> str:
    text = text_of(key, value)
    if text.startswith("~"):
        raise ValueProblem(f"{shown(text)}: ~ is not expanded here", "write the whole path, from / on")
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


def _signal(key: Key, value: Any) -> str:
    name = signal_name(text_of(key, value))
    if name is None:
        remedy = f"say one of {', '.join(key.choices)}"
        raise ValueProblem(f"{shown(value)} is not a signal that programs end at", remedy)
    return name


def _mapping(key: Key, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise wrong_type(key, value)
    return dict(each(value.items(), _variable))


def _variable(item: tuple[str, Any]) -> tuple[str, str]:
    name, text = item
    if not name or "=" in name or "\0" in name:
        raise ValueProblem(f"{shown(name)} is not a variable's name", "write a name without =")
    if name in RESERVED_VARIABLES:
        raise ValueProblem(f"memunit itself sets {name} for each worker", "leave it out")
    if not isinstance(text, str):
        remedy = f'in quotes: {name} = "{shown(text)}"' if plain(text) or isinstance(text, bool) else ""
        raise ValueProblem(f"{name}: {shown(text)} is not a text", remedy)
    passable(f"{name}={text}", f"{name} ")
    return name, text


def _switch(key: Key, value: Any) -> bool | str:
    if isinstance(value, bool):
        return value
    if value == "auto":
        return "auto"
    if isinstance(value, str) and value in ("true", "false"):
        raise ValueProblem(f"{shown(value)} is a text", f"without quotes: {value}")
    raise wrong_type(key, value)


def _boolean(key: Key, value: Any) -> bool:
    if value == "auto":
        raise wrong_type(key, value)
    return bool(_switch(key, value))


def _addresses(key: Key, value: Any) -> tuple[Address, ...]:
    if isinstance(value, str | int) and not isinstance(value, bool):
        raise _quoted("is one address and not a list", value, "in brackets", key)
    if not isinstance(value, list | tuple):
        raise wrong_type(key, value)
    before: list[Address] = []

    def address(text: Any) -> Address:
        if not isinstance(text, str):
            raise _quoted(f"{shown(text)} in the list is not a text", text, "in quotes", key)
        found = parse_address(text)
        if found.port != 0 or found.kind == "unix":
            again = next((place for place in found.places if place in before), None)
            if again is not None:
                raise ValueProblem(f"{again} is listed twice", "remove one")
            both = next(((one, other) for one in found.places for other in before if one.meets(other)), None)
            if both is not None:
                raise ValueProblem(
                    f"{both[0]} and {both[1]} are the same port of one address", "keep one of them"
                )
        before.extend(found.places)
        return found

    return tuple(each(value, address))


def _quoted(message: str, value: Any, how: str, key: Key) -> ValueProblem:
    """An address that is not written as one, and what is wrong with it even if it were."""
    if not isinstance(value, str) and not plain(value):
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


def _whole(key: Key, value: Any) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 10:
        raise ValueProblem(f"{shown(value)} is a text", f"without quotes: {int(value)}")
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(key, value)
    if value < 0 or value > MOST_WORKERS:
        raise ValueProblem(f"{shown(value)} is not {key.kind.value}")
    return value


def _size(key: Key, value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong_type(key, value)
    if isinstance(value, int) and abs(value) >= INTEGER_BOUND:
        raise ValueProblem(shown(value), 'say "infinity" for no bound')
    size = parse_size(value)
    if size == 0 and key.never:
        return 0
    if key.least and size is None and not key.endless:
        raise ValueProblem("this size can't be infinity", f'say a size such as "{key.default}"')
    if key.least and size is not None and size < key.least:
        raise ValueProblem(
            f"{format_size(size)} is too small",
            f'say "{format_size(int(key.least))}" at least; "{key.default}" is usual',
        )
    if size == 0:
        raise ValueProblem(
            "no process runs in 0 bytes", 'say a size such as "400M", or "infinity" for no bound'
        )
    return size


def _total(key: Key, value: Any) -> int | float | None:
    """None for "auto", infinite for "infinity"."""
    if value == "auto":
        return None
    size = _size(key, value)
    return math.inf if size is None else size


def _time(key: Key, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong_type(key, value)
    if isinstance(value, int) and abs(value) >= INTEGER_BOUND:
        raise ValueProblem(shown(value), f'say "{key.default}"')
    seconds = parse_time(value, endless=key.endless)
    if seconds == 0 and key.never:
        return math.inf
    if math.isinf(seconds) and not key.endless:
        raise ValueProblem("this time can't be infinity", f'say a time such as "{key.default}"')
    if seconds < key.least:
        raise ValueProblem(
            f"{format_time(seconds)} is too short",
            f'say "{format_time(key.least)}" at least; "{key.default}" is usual',
        )
    return seconds


def _mode(key: Key, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueProblem(f"{shown(value)} is a number", 'in quotes, as "0660"')
    text = text_of(key, value).strip()
    if not re.fullmatch("0?[0-7]{1,3}", text):
        raise ValueProblem(f"{shown(text)} is not {key.kind.value}", "say one from 0002 to 0777")
    mode = int(text, 8)
    if not mode & 0o222:
        raise ValueProblem(
            f"{shown(text)} lets only root connect: a client needs the right to write (unix(7))",
            'say "0660" for the owner and a group, "0666" for everybody',
        )
    return mode


_CONVERTERS: dict[Kind, Callable[[Key, Any], Any]] = {
    Kind.TARGET: _target,
    Kind.SCRIPT: _script,
    Kind.WORDS: _words,
    Kind.PATH: _path,
    Kind.CHOICE: _choice,
    Kind.MAPPING: _mapping,
    Kind.SWITCH: _switch,
    Kind.BOOLEAN: _boolean,
    Kind.ADDRESSES: _addresses,
    Kind.COUNT: _count,
    Kind.INTEGER: _whole,
    Kind.SIZE: _size,
    Kind.TIME: _time,
    Kind.MODE: _mode,
    Kind.ACCOUNT: settings_unit.account,
    Kind.SIGNAL: _signal,
    Kind.TOTAL: _total,
    Kind.PATHS: settings_unit.paths,
    Kind.CREDENTIALS: settings_unit.credentials,
    Kind.MASK: settings_unit.mask,
}
