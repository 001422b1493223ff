"""The messages of varlink (https://varlink.org/Protocol): a JSON object each, with a NUL byte behind it.

What comes in is from a client, which may be anything: its size and its depth are bounded, and it becomes a typed value
or one error.

`memunit status` imports this: neither dataclasses nor typing, which take longer to import than the answer to read.
"""

from __future__ import annotations

import json
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

# The bytes of one message from a client, without its NUL byte, and how deep its values are nested.
LARGEST = 64 << 10
DEEPEST = 16
SERVICE = "org.varlink.service"
DENIED = f"{SERVICE}.PermissionDenied"
_FLAGS = ("more", "oneway", "upgrade")
_LONGEST_NAME = 255


class Malformed(ValueError):
    """A message that is no call; the text says why. Nobody knows what such a client expects: it is hung up on."""


class Refused(Exception):
    """The answer to a call is this error; `parameters` are as its interface describes them."""

    def __init__(self, error: str, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.parameters = dict(parameters or {})


class Call:
    """A call. `more`: the client wants further replies; `oneway`: it wants none."""

    __slots__ = ("method", "more", "oneway", "parameters")

    def __init__(
        self, *, method: str, parameters: Mapping[str, Any], more: bool = False, oneway: bool = False
    ) -> None:
        self.method, self.parameters = method, parameters
        self.more, self.oneway = more, oneway

    def __eq__(self, other: object) -> bool:
        """Whether it is the same call."""
        return isinstance(other, Call) and all(
            getattr(self, name) == getattr(other, name) for name in Call.__slots__
        )

    __hash__ = None  # type: ignore[assignment]  # its parameters have none

    @property
    def interface(self) -> str:
        """The name up to the method's."""
        return self.method.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The method's own."""
        return self.method.rpartition(".")[2]


class Frames:
    """Takes a stream of bytes apart into messages."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def pending(self) -> bool:
        """Whether a whole message waits to be taken."""
        return b"\0" in self._rest

    def feed(self, block: bytes) -> None:
        """These bytes have come. Raises Malformed when they can't become a message any more."""
        self._rest += block
        if len(self._rest) > LARGEST and self._rest.find(b"\0", 0, LARGEST + 1) < 0:
            self._rest = b""
            raise Malformed(f"a message has {LARGEST} bytes at most")

    def take(self) -> bytes | None:
        """The next whole message, without its NUL byte. Raises Malformed, as `feed` does."""
        end = self._rest.find(b"\0", 0, LARGEST + 1)
        if end < 0:
            self.feed(b"")
            return None
        message, self._rest = self._rest[:end], self._rest[end + 1 :]
        return message


def parse(message: bytes) -> Call:
    """The call of a message. Raises Malformed, and nothing else."""
    try:
        text = message.decode("utf-8")
        if _depth(text) > DEEPEST:
            raise Malformed(f"values are nested {DEEPEST} deep at most")
        data = json.loads(text, parse_constant=_no_number, parse_float=_number)
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"it is no JSON: {str(error)[:100]}") from None
    if not isinstance(data, dict):
        raise Malformed("a call is an object")
    method, parameters = data.get("method"), data.get("parameters")
    if not isinstance(method, str) or not method or len(method) > _LONGEST_NAME or not method.isascii():
        raise Malformed("a call has a method")
    if parameters is not None and not isinstance(parameters, dict):
        raise Malformed("the parameters of a call are an object")
    flags = {name: data.get(name) for name in _FLAGS}
    if any(flag is not None and not isinstance(flag, bool) for flag in flags.values()):
        raise Malformed("more, oneway and upgrade are true or false")
    more, oneway = bool(flags["more"]), bool(flags["oneway"])
    if more and oneway:
        raise Malformed("who wants no reply can't want more of them")
    if flags["upgrade"]:
        raise Malformed("no method here turns the connection over to another protocol")
    return Call(method=method, parameters=parameters or {}, more=more, oneway=oneway)


def reply(parameters: Mapping[str, Any], *, continues: bool = False) -> bytes:
    """The message of a reply; after one that `continues` there are others."""
    data: dict[str, Any] = {"parameters": parameters}
    if continues:
        data["continues"] = True
    return _message(data)


def error(refused: Refused) -> bytes:
    """The message of an error."""
    return _message({"error": refused.error, "parameters": refused.parameters})


def call(
    method: str, parameters: Mapping[str, Any] | None = None, *, more: bool = False, oneway: bool = False
) -> bytes:
    """The message of a call."""
    data: dict[str, Any] = {"method": method, "parameters": dict(parameters or {})}
    if more:
        data["more"] = True
    if oneway:
        data["oneway"] = True
    return _message(data)


def answer(message: bytes) -> tuple[dict[str, Any], bool]:
    """The parameters of a reply, and whether others come. Raises Refused for an error, Malformed for anything else."""
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        raise Malformed("the reply is no JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("parameters", {}), dict | None):
        raise Malformed("the reply is no object with parameters")
    parameters = data.get("parameters") or {}
    if "error" in data:
        raise Refused(str(data["error"]), parameters)
    return parameters, data.get("continues") is True


def invalid(parameter: str) -> Refused:
    """The error for a parameter that has not the type, or not a value, that the interface describes."""
    return Refused(f"{SERVICE}.InvalidParameter", {"parameter": parameter})


def _message(data: Mapping[str, Any]) -> bytes:
    # In ASCII: a text that was no Unicode when it came, as a lone surrogate, goes out as it came.
    return json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode() + b"\0"


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _no_number(text[:40])
    return number


def _no_number(text: str) -> NoReturn:
    raise Malformed(f"{text} is no number of JSON")


def _depth(text: str) -> int:
    """How deep the values of a JSON text are nested, as far as it is one."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return 0
    deepest = depth = 0
    quoted = escaped = False
    for character in text:
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
