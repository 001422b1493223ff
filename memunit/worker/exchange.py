"""One WSGI request between the event loop, which talks to the client, and a thread, in which the app runs (call.py)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple
from urllib.parse import unquote

from memunit.worker.answer import HIGH_WATER, LeftOff, came_of
from memunit.worker.call import Call
from memunit.worker.httpanswer import Head
from memunit.worker.httphead import Line, Meaning
from memunit.worker.pep3333 import Body

if TYPE_CHECKING:
    from memunit.worker.connection import Connection
    from memunit.worker.wsgi import WsgiServer

_MOST_AHEAD = 64 * 1024  # a body of up to so many bytes is complete before it takes a thread


class Exchange(Call):
    """A request and its answer, as the loop sees them."""

    __slots__ = ("_client", "_held", "_streams", "_submitted")

    def __init__(
        self,
        server: WsgiServer,
        connection: Connection,
        line: Line,
        meaning: Meaning,
        environ: Dict[str, Any],
    ) -> None:
        super().__init__(
            server,
            connection,
            line,
            environ,
            more=meaning.length != 0,
            closes=meaning.closes,
            waits=meaning.waits,
            # A client that waits for "100 Continue" gets it when the app reads, and only then.
            ahead=0 < meaning.length <= _MOST_AHEAD and not meaning.waits,
        )
        self._client = connection.client
        self._submitted = False
        self._streams = False  # the body is read by the app as it comes
        self._held = False  # what was handed over waits for the client to take more

    @property
    def scope(self) -> Dict[str, Any]:
        method, target, minor, _ = self._line
        path, _, query = target.partition(b"?")
        return {
            "method": method.decode("ascii"),
            "path": unquote(path.decode("ascii")),
            "query_string": query,
            "http_version": "1." + minor.decode("ascii"),
            "client": self._client,
        }

    @property
    def asked(self) -> Tuple[str, bytes]:
        """The method, and the path without its query."""
        path = self._line[1].partition(b"?")[0]
        if path[0] != 47:  # "http://host/path", as to a proxy
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        return self._line[0].decode("ascii"), path

    def start(self) -> None:
        """Give it to a thread, or wait until its body has come."""
        if self.more:
            if self._ahead:
                return
            self._streams = True
            self._environ["wsgi.input"] = io.BufferedReader(Body(self.read_into), HIGH_WATER)
        else:
            self._environ["wsgi.input"] = io.BytesIO(b"".join(self._received))
        self._submitted = True
        self._server.submit(self.run)

    def feed(self, block: bytes) -> bool:
        with self._lock:
            self._received.append(block)
            self._unread += len(block)
            self._wake()
        return self.full

    def fed(self) -> None:
        with self._lock:
            self.more = False
            self._wake()
        if not self._submitted and self in self._server.cycles:
            self.start()

    def writable(self) -> None:
        if self._held:
            self._held = False
            self.deliver()

    def lose(self) -> None:
        self.gone = True
        self.abandon()
        self.writable()
        if not self._submitted:
            self._server.done(self)

    def leave_off(self) -> None:
        """An app that computes, and has sent nothing yet, goes on: nobody can tell it, and it may still answer."""
        self.leaving = True
        if not self._submitted:
            self._break_off()
            self._server.done(self)
        elif self.begun or self._streams:
            self.abandon()

    def refuse(self) -> None:
        """Answer for the app that there are too many."""
        self.begun = self.complete = self.closes = True
        self.connection.write_last(503, "Service Unavailable", self.scope["method"])
        self.connection.answered()

    def cancel(self) -> None:
        self.request = (
            None  # on the page it stays in work: its thread may be what keeps this worker from its end
        )
        self.abandon()
        self._break_off()
        self._server.done(self)

    def deliver(self) -> None:
        """Send what the thread has handed over."""
        if self.connection.unwritable is not None and not self.gone:
            self._held = True  # and the thread, which believes that it has told, tells nothing more
            return
        with self._lock:
            given, self._given = (self._given, None) if self._handed else (None, self._given)
            blocks, self._unsent = self._unsent, []
            taken, self._told = self._taken, False
        if not (self.gone or self.complete):
            try:
                self._send(given, blocks[0] if len(blocks) == 1 else b"".join(blocks), taken=taken)
            except Exception as error:
                self.abandon()
                self._failed(error)
        if taken:
            self._error = None
            self._server.done(self)
        elif blocks:
            with self._lock:
                self._size -= sum(map(len, blocks))
                self._wake()

    def _send(self, given: Optional[Head], body: bytes, *, taken: bool) -> None:
        method, _, minor, _ = self._line
        if given is not None:
            self._start(method.decode("ascii"), self._status, given, chunks=minor == b"1")
        if not taken:
            if body:
                self._body(body, True)
            return
        error, self._error = self._error, None
        if error is not None:
            if body:
                self._body(body, True)
            if not isinstance(error, Exception):
                exit_, error = error, RuntimeError(f"the app raised {type(error).__name__}")
                error.__cause__ = exit_
            self._failed(error)
        elif not self._abandoned:
            self._body(body, False)
        elif self.leaving:
            self._break_off()

    def _failed(self, error: BaseException) -> None:
        if not came_of(error, LeftOff):
            self.connection.server.logger.error("Exception in WSGI application\n", exc_info=error)
        self._break_off()

    def abandon(self) -> None:
        """Nobody waits for the app: what it reads or writes from now on raises."""
        with self._lock:
            self._abandoned = True
            self._wake()
