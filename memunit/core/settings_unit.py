"""Values that become lines of a unit: what systemd would ignore or misread is refused here, where a person hears of it.

What systemd takes is in systemd.syntax(7), systemd.exec(5) and its config parsers: a path has no ".." in it, no line
break, no blank at its end, where it would be cut off, and no backslash: at the end of a line it continues the line, in
LoadCredential= it is a character, and in ReadWritePaths= it takes the meaning from the next one.
"""

import re
from collections.abc import Mapping
from typing import Any

from memunit.core.schema import Key
from memunit.core.settings_texts import ValueProblem, each, plain, shown, text_of, wrong_type

_LONGEST_PATH = 4095  # PATH_MAX less the NUL
_LONGEST_PART = 255  # NAME_MAX
_CREDENTIAL = re.compile(r"[A-Za-z0-9_.-]{1,255}")
# 0xffffffff and 0xffff are no user's (user_namespaces(7), and the 16 bits of old).
_NOBODYS = (0xFFFF, 0xFFFFFFFF)


def paths(key: Key, value: Any) -> tuple[str, ...]:
    """Absolute paths; one that need not exist begins with "-", as in a unit."""
    if isinstance(value, str):
        raise ValueProblem("is one path and not a list", f'in brackets: ["{value}"]' if value else "")
    if not isinstance(value, list | tuple):
        raise wrong_type(key, value)

    def one(text: Any) -> str:
        if not isinstance(text, str):
            raise ValueProblem(f"{shown(text)} in the list is not a text", f"say {key.kind.value}")
        return ("-" if text.startswith("-") else "") + unit_path(text.removeprefix("-"))

    found = each(value, one)
    again = next((text for i, text in enumerate(found) if text in found[:i]), None)
    if again is not None:
        raise ValueProblem(f"{shown(again)} is listed twice", "remove one")
    return tuple(found)


def credentials(key: Key, value: Any) -> dict[str, str]:
    """Name and path of each."""
    if not isinstance(value, Mapping):
        raise wrong_type(key, value)
    return dict(each(value.items(), _credential))


def _credential(item: tuple[str, Any]) -> tuple[str, str]:
    name, path = item
    if not _CREDENTIAL.fullmatch(name) or name in (".", ".."):
        raise ValueProblem(
            f"{shown(name)} can't be the name of a credential", "use only letters, digits and _ . -"
        )
    if not isinstance(path, str):
        raise ValueProblem(
            f"{name}: {shown(path)} is not a text", "say the path of the file that holds the secret"
        )
    try:
        return name, unit_path(path)
    except ValueProblem as problem:
        raise ValueProblem(*((f"{name}: {problem.faults[0][0]}", problem.faults[0][1]))) from None


def unit_path(text: str) -> str:
    """A path as systemd takes it. Raises ValueProblem."""
    if text.startswith("~"):
        raise ValueProblem(f"{shown(text)}: ~ is not expanded here", "write the whole path, from / on")
    if not text.startswith("/"):
        raise ValueProblem(f"{shown(text)} is not an absolute path", "write the whole path, from / on")
    if not text.isprintable():
        raise ValueProblem(f"{shown(text)} has unprintable characters", "say a path that can be typed")
    parts = text.split("/")
    if "." in parts or ".." in parts:
        raise ValueProblem(
            f"{shown(text)} has . or .. in it, which systemd does not take", "write the path without"
        )
    if "\\" in text:
        raise ValueProblem(
            f"{shown(text)} has a backslash in it, which some settings of a unit read as an escape",
            "rename it",
        )
    if text.endswith(" "):
        raise ValueProblem(f"{shown(text)} ends with a space, which a unit file can't express", "rename it")
    longest = max(len(part.encode()) for part in parts)
    if len(text.encode()) > _LONGEST_PATH or longest > _LONGEST_PART:
        raise ValueProblem(f"{shown(text)} is longer than a path can be", "say a shorter one")
    return text


def mask(key: Key, value: Any) -> int:
    """The bits that files are made without."""
    if plain(value):
        raise ValueProblem(f"{shown(value)} is a number", 'in quotes, as "0027"')
    text = text_of(key, value).strip()
    if not re.fullmatch("0?[0-7]{1,3}", text):
        raise ValueProblem(f"{shown(text)} is not {key.kind.value}", "say one from 0000 to 0077")
    bits = int(text, 8)
    if bits & 0o700:
        raise ValueProblem(
            f"{shown(text)} would take the app's own rights to its files",
            'say "0027" to let a group read what it writes',
        )
    return bits


def account(key: Key, value: Any) -> str:
    """A name or a number that systemd takes for User= and the like."""
    if plain(value):
        raise ValueProblem(f"{shown(value)} is a number", f'in quotes: "{shown(value)}"')
    text = text_of(key, value)
    if not text.isprintable() or any(character in ":/ \\" for character in text) or text in (".", ".."):
        raise ValueProblem(f"{shown(text)} is not {key.kind.value}", "say it as getent(1) lists it")
    if text.startswith("-"):
        raise ValueProblem(f'{shown(text)} begins with "-"', "say it as getent(1) lists it")
    if text.isdigit() and not _may_be_account(text):
        raise ValueProblem(
            f"{shown(text)} is a number that no account can have", "say it as getent(1) lists it"
        )
    return text


def _may_be_account(digits: str) -> bool:
    """uid_t has 32 bits: a number of thousands of digits, which int() refuses, is not read at all."""
    if not digits.isascii() or len(digits) > len(str(_NOBODYS[1])):
        return False
    number = int(digits)
    return str(number) == digits and number <= _NOBODYS[1] and number not in _NOBODYS
