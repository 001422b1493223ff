"""What every kind of value has in common: how it is refused, how an error shows it, and which texts can be used."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from memunit.core.address import AddressError
from memunit.core.schema import Key

INTEGER_BOUND = 1 << 63
# MAX_ARG_STRLEN of execve(2), with pages of 4 KiB: one argument, or one NAME=VALUE, and the NUL that ends it.
_LONGEST_STRING = 128 << 10


class ValueProblem(Exception):
    """A value that can't be used; `faults` has each thing that is wrong with it, and the remedy."""

    def __init__(self, message: str, remedy: str = "", *more: tuple[str, str]) -> None:
        super().__init__(message)
        self.faults = tuple(dict.fromkeys(((message, remedy), *more)))


def shown(value: Any) -> str:
    """A value in an error: one line, of a bounded length, in TOML's words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= INTEGER_BOUND:
        return "a number of more than 64 bits"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that was most likely meant."""
    import difflib  # noqa: PLC0415  only an error needs it

    plain_word = word.lower().replace("-", "_").lstrip("_")
    found = difflib.get_close_matches(plain_word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def wrong_type(key: Key, value: Any) -> ValueProblem:
    """The problem of a value that is not what the key wants."""
    return ValueProblem(f"{shown(value)} is not {key.kind.value}")


def text_of(key: Key, value: Any) -> str:
    """The value, which has to be a text with something in it. Raises ValueProblem."""
    if not isinstance(value, str):
        raise wrong_type(key, value)
    passable(value)
    if not value.strip():
        raise ValueProblem("is empty", f"say {key.kind.value}, or leave the key out")
    return value


def each(items: Iterable[Any], convert_one: Callable[[Any], Any]) -> list[Any]:
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


def passable(text: str, subject: str = "") -> None:
    """Whether a new program can be given it; ValueProblem if not."""
    if "\0" in text:
        raise ValueProblem(f"{subject}has a NUL character in it", "remove it")
    size = len(text.encode("utf-8", "surrogateescape"))
    if size >= _LONGEST_STRING:
        raise ValueProblem(
            f"{subject}has {size} bytes, and the kernel passes fewer than {_LONGEST_STRING} to a program",
            "put it in a file, and name that",
        )


def plain(value: Any) -> bool:
    """Whether it is a number that can be shown in quotes."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < INTEGER_BOUND
