"""The head of an answer, out of what an app gives: everything that can't be sent is found before a byte is."""

from __future__ import annotations

import http
import re
from typing import Any, Dict, Iterable, List, Optional, Tuple

from memunit.worker.httphead import MOST_DIGITS

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_CONTENT_LENGTH, _CONNECTION, _DROPPED, _TRANSFER_ENCODING, _DATE, _SERVER = range(1, 7)
_SPECIAL = {
    b"content-length": _CONTENT_LENGTH,
    b"connection": _CONNECTION,
    b"transfer-encoding": _TRANSFER_ENCODING,
    b"keep-alive": _DROPPED,  # RFC 9110, 7.6.1: of the connection, which is this server's
    b"proxy-connection": _DROPPED,
    b"date": _DATE,
    b"server": _SERVER,
}
_HOP_BY_HOP = (b"te: ", b"trailer: ", b"upgrade: ")  # with RFC 9110, 7.6.1, these too are no WSGI app's
_KEPT_NAMES = 512
_BODYLESS = (204, 304)


class Unsendable(RuntimeError):
    """The app's answer has a head that can't be sent; `str()` names the header."""


Head = Tuple[List[bytes], Optional[int], bool, bytes, int]
"""What can be sent: status line and header lines of the app, without what the connection adds; the Content-Length, if
there is one; whether the app wants the connection to end; what else it says of the connection; and 1 if it has a Date
of its own, 2 if it has a Server, 3 if both.
"""


def _status_line(code: int) -> bytes:
    try:
        phrase = http.HTTPStatus(code).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {code} {phrase}\r\n".encode("ascii")


_status_lines = {status.value: _status_line(status.value) for status in http.HTTPStatus}
# Names that have been looked at: (the name with its colon, what is special about it).
_names: Dict[bytes, "tuple[bytes, int]"] = {}
_text_names: Dict[str, "tuple[bytes, int]"] = {}


def head(status: Any, headers: Iterable[Any]) -> Head:
    """Raises Unsendable."""
    line = _status_lines.get(status) or _other_status(status)
    if status < 200:
        raise Unsendable(f"{status} is not the status of an answer")
    lines = [line]
    length: Optional[int] = None
    closes = False
    connection = b""
    own = 0
    for name, given in headers:
        try:
            prefix, special = _names[name]
        except (KeyError, TypeError):
            prefix, special = _name(name)
        value = (given if type(given) is bytes else _bytes(name, given)).strip(b" \t")
        if _VALUE.fullmatch(value) is None:
            raise Unsendable(
                f"the header {_shown(name)} has a line break or a control character in its value"
            )
        if special:
            if special == _CONTENT_LENGTH:
                length = _length(value, length)
                continue
            if special == _DROPPED:
                continue
            if special == _TRANSFER_ENCODING:
                if value.lower() != b"chunked":
                    raise Unsendable(f"the header {_shown(name)} has a value other than chunked")
                continue
            if special == _CONNECTION:
                closes = closes or b"close" in [token.strip(b" \t") for token in value.lower().split(b",")]
                connection = value
                continue
            own |= special - _DATE + 1
        lines += (prefix, value, b"\r\n")
    if length is not None and status == 204:
        length = None  # RFC 9110, 8.6
    return lines, length, closes, connection, own


def head_of_text(status: int, headers: Iterable[Any]) -> Head:
    """As head(), of names and values that are str (PEP 3333). Raises Unsendable, and ValueError.

    What is the server's by PEP 3333 is dropped, all of Connection but its "close" with it.
    """
    lines = [_status_lines.get(status) or _other_status(status)]
    length: Optional[int] = None
    closes = False
    own = 0
    for name, given in headers:
        try:
            prefix, special = _text_names[name]
        except KeyError:
            prefix, special = _text_name(name)
        try:
            value = given.encode("latin-1").strip(b" \t")
        except (AttributeError, UnicodeEncodeError) as error:
            raise _no_text(name, given) from error
        if _VALUE.fullmatch(value) is None:
            what = "line break" if "\n" in given or "\r" in given else "control character"
            raise ValueError(f"the header {name!r} has a {what} in it")
        if special:
            if special == _CONTENT_LENGTH:
                length = _length(value, length)
            elif special == _CONNECTION:
                closes = closes or b"close" in value.lower()
            elif special in (_DATE, _SERVER):
                own |= special - _DATE + 1
                lines += (prefix, value, b"\r\n")
            continue
        lines += (prefix, value, b"\r\n")
    if status in _BODYLESS:
        length = None  # of a 304 it would be the length of what GET had (RFC 9110, 8.6), and frameworks say 0
    return lines, length, closes, b"", own


def has_body(status: int, method: str) -> bool:
    """Whether a body follows the head of such an answer (RFC 9112, 6.3)."""
    return method != "HEAD" and status not in _BODYLESS


def whole(status: int, text: str, fields: bytes, method: str = "GET") -> bytes:
    """A short answer of this server's own, with which the connection ends. `fields` are complete header lines."""
    body = text.encode("latin-1", "backslashreplace")
    return (
        b"%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        % (
            _status_lines.get(status) or _other_status(status),
            fields,
            len(body),
            body if method != "HEAD" else b"",
        )
    )


def _other_status(status: Any) -> bytes:
    if type(status) is not int and isinstance(status, int):
        return _status_lines.get(int(status)) or _other_status(int(status))
    if not isinstance(status, int) or not 100 <= status <= 999:
        raise Unsendable(f"{status!r} is not the status of an answer")
    return _status_line(status)


def _name(name: Any) -> "tuple[bytes, int]":
    if type(name) is not bytes:
        name = _bytes(name, name)
    if _NAME.fullmatch(name) is None:
        raise Unsendable(f"the header {_shown(name)} has a name that is empty or has a forbidden character")
    lower = name.lower()
    found = (lower + b": ", _SPECIAL.get(lower, 0))
    if len(_names) < _KEPT_NAMES:
        _names[name] = found
    return found


def _text_name(name: str) -> "tuple[bytes, int]":
    try:
        prefix, special = found = _name(name.encode("latin-1"))
    except (AttributeError, UnicodeEncodeError) as error:
        raise _no_text(name, name) from error
    if special == _TRANSFER_ENCODING or prefix in _HOP_BY_HOP:
        found = prefix, _DROPPED
    if len(_text_names) < _KEPT_NAMES:
        _text_names[name] = found
    return found


def _no_text(name: Any, value: Any) -> Unsendable:
    what = "not of Latin-1" if isinstance(value, str) else "not a str"
    return Unsendable(f"the header {name!r} has {value!r} in it, which is {what}")


def _bytes(name: Any, value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise Unsendable(f"the header {_shown(name)} has {value!r} in it, which is not bytes")
    return bytes(value)


def _length(value: bytes, before: Optional[int]) -> int:
    # int() refuses thousands of digits in its own words, from Python 3.11 on.
    if not value.isdigit() or len(value) > MOST_DIGITS:
        raise Unsendable(f"the header content-length is {value[:40]!r}, which is no length")
    length = int(value)
    if before is not None and before != length:
        raise Unsendable("the header content-length is there twice, with different lengths")
    return length


def _shown(name: Any) -> str:
    return repr(bytes(name))[1:] if isinstance(name, (bytes, bytearray, memoryview)) else repr(name)
