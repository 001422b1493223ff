"""The verdict on a request's head (RFC 9112), before any parser library has seen it.

What two readers could read in two ways is refused: whatever stands in front of this worker may be the other reader, and
the difference between the two is a second request that nobody has checked. The rules are a grammar and a few fields, so
they are the same for every version of every parser library.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Set, Tuple, Union

Headers = List[Tuple[bytes, bytes]]

Line = Tuple[bytes, bytes, bytes, int]
"""A request line that is right: method, target, minor version (b"0" or b"1"), and where the header fields begin.

No class: each request makes one, and a plain tuple is made in a third of the time.
"""

CHUNKED = -1
"""The length of a body that comes in chunks."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])\r\n"
# No blank before the colon, no line that begins with a blank, no control character, and no CR or LF but in CRLF.
FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n"
_HEAD = re.compile(_LINE + rb"(?:" + FIELD + rb")*\r\n")
_FIRST_LINE = re.compile(_LINE)
_OTHER_VERSION = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/[0-9]\.[0-9]\r\n")
_STRAY = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
# A host name, an IP address or one in brackets, and a port (RFC 3986, 3.2.2 and 3.2.3), or nothing at all.
_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+;=%]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]*)?")
_hosts: Set[bytes] = set()  # that are right
_KEPT_HOSTS = 64
_LONG_HOST = 256
MOST_DIGITS = 18
_ONCE = (b"host", b"content-length", b"transfer-encoding")


class Refused(Exception):
    """This request is refused with `status`, and the connection ends; `str()` is the reason, for client and log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Meaning(NamedTuple):
    """What the header fields say about the message."""

    length: int
    """Bytes of the body, or CHUNKED."""
    closes: bool
    """Whether the client wants the connection to end after the answer."""
    waits: bool
    """Whether the client waits for `100 Continue` before it sends the body."""
    upgrade: Optional[bytes]
    """The protocol that the client would rather speak, in lower case."""


_NO_BODY = Meaning(0, False, False, None)
_NO_BODY_1_0 = Meaning(0, True, False, None)


def judge(head: bytes) -> Line:
    """The request line of a whole head, which ends with an empty line. Raises Refused."""
    match = _HEAD.fullmatch(head)
    if match is None:
        raise _reason(head)
    method, target, minor = match.groups()
    if target[0] != 47 or b"#" in target or method == b"CONNECT":  # 47 is a slash
        _judge_target(method, target)
    return method, target, minor, match.end(3) + 2


def judge_part(part: Union[bytes, bytearray], start: int, stop: int) -> None:
    """Raise Refused if no head can begin with part[:stop], of which all before `start` has been looked at before.

    The verdict is the one that the whole head would get, whatever the pieces in which it comes.
    """
    end = part.find(b"\n", max(0, start - 1), stop)
    if end >= 0 and part.rfind(b"\n", 0, end) < 0:
        match = _FIRST_LINE.match(part)
        if match is None:
            raise _reason(bytes(part))
        _judge_target(match[1], match[2])
    elif part[:1] in (b" ", b"\t"):
        raise Refused(400, "the request line is malformed")
    stray = _STRAY.search(part, max(0, start - 1), stop)
    if stray is not None:
        raise Refused(400, "there is a control character, or a line that does not end with CR LF")


def judge_fields(line: Line, headers: Headers) -> Meaning:
    """What `headers` (names in lower case) say; raises Refused."""
    known = dict(headers)
    if len(known) != len(headers):
        _judge_repeated(headers)
        known = _joined(headers)
    _, _, minor, _ = line
    host = known.get(b"host")
    if host is None:
        if minor == b"1":
            raise Refused(400, "there is no Host")
    elif host not in _hosts:
        if _HOST.fullmatch(host) is None:
            raise Refused(400, "Host is malformed")
        if len(_hosts) < _KEPT_HOSTS and len(host) < _LONG_HOST:
            _hosts.add(host)
    length = 0
    if b"content-length" in known or b"transfer-encoding" in known:
        length = _length(minor, known)
    connection = known.get(b"connection")
    if length == 0 and (connection is None or connection == b"keep-alive"):
        return _NO_BODY if minor == b"1" else _NO_BODY_1_0
    tokens = [token.strip(b" \t").lower() for token in connection.split(b",")] if connection else []
    return Meaning(
        length,
        minor == b"0" or b"close" in tokens,
        length != 0 and minor == b"1" and known.get(b"expect", b"").lower() == b"100-continue",
        known.get(b"upgrade", b"").lower() or None if b"upgrade" in tokens and minor == b"1" else None,
    )


def origin_form(target: bytes, headers: Headers) -> Tuple[bytes, Headers]:
    """Path and query of a target that begins with no slash, and `headers` with the host that it names.

    RFC 9112, 3.2.2: a server ignores Host then, and so does a proxy in front of it.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return target, headers
    host, rest = match.groups()
    return (
        rest if rest.startswith(b"/") else b"/" + rest,
        [(name, host if name == b"host" else value) for name, value in headers],
    )


def _reason(head: bytes) -> Refused:
    """Why _HEAD does not match. Raises Refused for what is wrong earlier."""
    match = _FIRST_LINE.match(head)
    if match is None:
        if head.startswith(b"PRI * HTTP/2.0\r\n"):
            return Refused(505, "this server speaks HTTP/1.1, and no HTTP/2")
        if _OTHER_VERSION.match(head) is not None:
            return Refused(505, "this server speaks HTTP/1.1 and HTTP/1.0")
        return Refused(400, "the request line is malformed")
    _judge_target(match[1], match[2])
    return Refused(400, "a header line is malformed")


def _judge_target(method: bytes, target: bytes) -> None:
    """The forms of RFC 9112, 3.2."""
    if method == b"CONNECT":
        # What follows is no HTTP but the tunnel's: nothing of it may be taken for a request.
        raise Refused(501, "this server is no proxy: it knows no CONNECT")
    if b"#" in target:
        raise Refused(400, "the request's target has a fragment in it")
    if target[0] == 47:
        return
    if target == b"*":
        if method != b"OPTIONS":
            raise Refused(400, "the target * belongs to OPTIONS")
        return
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match[1] or _HOST.fullmatch(match[1]) is None:
        raise Refused(400, "the request's target is malformed")


def _judge_repeated(headers: Headers) -> None:
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise Refused(400, f"{name.decode().title()} is there more than once")


def _joined(headers: Headers) -> Dict[bytes, bytes]:
    """As RFC 9110, 5.3, has it: one list out of what comes in several lines."""
    known: Dict[bytes, bytes] = {}
    for name, value in headers:
        known[name] = known[name] + b"," + value if name in known else value
    return known


def _length(minor: bytes, known: Dict[bytes, bytes]) -> int:
    coding, length = known.get(b"transfer-encoding"), known.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise Refused(400, "Transfer-Encoding and Content-Length exclude each other")
        if minor == b"0":
            raise Refused(400, "HTTP/1.0 knows no Transfer-Encoding")
        if coding.lower() != b"chunked":
            raise Refused(400, "Transfer-Encoding is not chunked")
        return CHUNKED
    assert length is not None
    if not length.isdigit():
        raise Refused(400, "Content-Length is no number")
    if len(length) > MOST_DIGITS:
        raise Refused(400, "Content-Length is too large")
    return int(length)
