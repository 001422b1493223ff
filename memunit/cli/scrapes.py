"""As much of HTTP as a scrape needs: a GET, its Accept, and one answer."""

from collections.abc import Callable

from memunit.records import dataclass

# Bytes of a request.
MOST_HEAD = 8192
_PATHS = ("/metrics", "/")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scrape gets."""

    body: bytes
    kind: str = _TEXT
    status: int = 200


class Scrape:
    """A connection with one request (visits.Talk)."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        """`answer` is asked with what the request's Accept says."""
        self._answer = answer
        self._head = bytearray()
        self.over = False

    def feed(self, block: bytes) -> None:
        """Some of the request."""
        self._head += block

    def take(self) -> bytes | None:
        """The answer, when the request is whole or too long."""
        end = self._head.find(b"\r\n\r\n")
        if self.over or (end < 0 and len(self._head) <= MOST_HEAD):
            return None
        self.over = True
        if end < 0:
            return _reply(Answer(b"the request is too long\n", status=431))
        return self._answered(bytes(self._head[:end]))

    def _answered(self, head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _reply(Answer(b"this is no request of HTTP/1.1\n", status=400))
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _reply(Answer(b"only GET is answered\n", status=405))
        if target.partition("?")[0] not in _PATHS:
            return _reply(Answer(b"metrics are at /metrics\n", status=404))
        fields = [line.partition(":") for line in lines]
        accept = ",".join(value.strip() for name, _, value in fields if name.strip().lower() == "accept")
        return _reply(self._answer(accept), head=method == "HEAD")


def _reply(answer: Answer, *, head: bool = False) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(answer.body)}",
        *(("Allow: GET, HEAD",) if answer.status == 405 else ()),
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (b"" if head else answer.body)
