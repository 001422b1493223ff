"""Reading the header fields of a head that httphead.judge() has let pass, with the app's own parser library.

One reader serves all connections of a worker: it gets whole heads and nothing else, so that it is in the middle of none
when the next one comes. A connection has no parser of its own, which is most of what an idle one would cost.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, List, Tuple, Union

from memunit.worker.httphead import Headers, Line, Meaning, Refused
from memunit.worker.problem import Unusable
from memunit.worker.target import describe

_LENGTH = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE)
_ANY = b"GET / HTTP/1.1\r\n"  # the request line has been read: which methods httptools knows depends on its version


class HttptoolsReader:
    """httptools.HttpRequestParser."""

    name = "httptools"
    # httptools looks for all of these in each parser that is made, and with an old one (0.1) an AttributeError costs
    # more than a microsecond: a tenth of what a connection cost that its client ends.
    on_message_begin = on_url = on_status = on_headers_complete = None
    on_body = on_message_complete = on_chunk_header = on_chunk_complete = None

    def __init__(self) -> None:
        httptools = importlib.import_module("httptools")
        self._make = httptools.HttpRequestParser
        self._upgrade = httptools.HttpParserUpgrade
        self._error = httptools.HttpParserError
        self._headers: Headers = []
        self._parser: Any = self._make(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        self._headers.append((name.lower(), value))

    def read(self, head: bytes, line: Line) -> Headers:
        """The header fields of `head`, names in lower case, values without blanks around them. Raises Refused."""
        end = line[3]
        fields = _ANY + head[end:]
        try:
            headers = self._feed(fields)
            if not headers and len(head) > end + 2:
                # The head before has closed the parser, as Proxy-Connection does: httptools up to 0.6.1 keeps silent.
                self.reset()
                headers = self._feed(fields)
        except self._error:
            self.reset()
            # It may have been left in a bad state by the head before; or it has taken one name for another, as
            # http-parser 2.9 (httptools 0.1) takes Transfer-Encoding-X for Transfer-Encoding.
            return H11Reader().read(head, line)
        if b" \r\n" in head or b"\t\r\n" in head:
            return [(name, value.rstrip(b" \t")) for name, value in headers]
        return headers

    def _feed(self, fields: bytes) -> Headers:
        headers: Headers = []
        self._headers = headers
        try:  # noqa: SIM105  suppress() costs as much as the parser
            self._parser.feed_data(fields)
        except self._upgrade:
            pass
        return headers

    def next(self, meaning: Meaning) -> None:
        """Be ready for the next head, after one that means `meaning`."""
        if meaning.length or meaning.closes or meaning.upgrade:
            self.reset()

    def reset(self) -> None:
        """Be ready for the next head, whatever the last one was."""
        self._parser = self._make(self)


class H11Reader:
    """h11.Connection."""

    name = "h11"

    def __init__(self) -> None:
        self._h11: Any = importlib.import_module("h11")

    def read(self, head: bytes, line: Line) -> Headers:
        """The header fields of `head`, names in lower case, values without blanks around them. Raises Refused."""
        lengths = _LENGTH.findall(head, line[3] - 2)
        if len(lengths) > 1 or (lengths and b"," in lengths[0]):
            raise Refused(
                400, "Content-Length is there more than once"
            )  # h11 makes one of them if they agree
        connection = self._h11.Connection(self._h11.SERVER, max_incomplete_event_size=len(head) + 1)
        connection.receive_data(head)
        try:
            headers: List[Tuple[bytes, bytes]] = list(connection.next_event().headers)
        except self._h11.RemoteProtocolError as error:
            raise Refused(400, f"h11: {error}") from None
        return headers

    def next(self, meaning: Meaning) -> None:
        """Be ready for the next head: each has an h11.Connection of its own."""

    def reset(self) -> None:
        """Be ready for the next head."""


Reader = Union[HttptoolsReader, H11Reader]


def reader(wanted: str) -> Reader:
    """What UVICORN_HTTP asks for: "httptools", "h11", or the first of them that is there. Raises Unusable."""
    if wanted not in ("", "auto", "httptools", "h11"):
        raise Unusable(
            f"UVICORN_HTTP={wanted}: auto, httptools or h11 is needed. memunit speaks HTTP itself, with one of these"
            " two to read header fields"
        )
    try:
        if wanted != "h11":
            return HttptoolsReader()
    except ImportError as error:
        if wanted == "httptools":
            raise Unusable(f"cannot import httptools: {describe(error)}", cause=error) from None
    try:
        return H11Reader()
    except ImportError as error:
        raise Unusable(f"cannot import h11: {describe(error)}", cause=error) from None
