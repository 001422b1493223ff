"""What all HTTP connections of a worker have in common: the app, the bounds, the clock and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Set
from urllib.parse import quote, unquote

from memunit.worker import addresses, frameworks
from memunit.worker.answer import Answer
from memunit.worker.bounds import Bounds
from memunit.worker.cycle import Cycle
from memunit.worker.httphead import Headers, Line, Meaning, Refused, origin_form
from memunit.worker.work import Request, Work

if TYPE_CHECKING:
    from memunit.worker.connection import Connection

App = Callable[..., Any]

_TICK = 0.5  # seconds between two looks at the bounds, while there are connections
_LINGER = 2.0  # seconds for a client's last bytes after an answer that ends the connection early
_AT_A_STOP = 5.0  # seconds that a head or a body may take, at most, while the worker stops
_LEAST_IDLE = 1.0  # seconds that an idle connection has at a stop, however short the keep-alive time


class Connections(Set[Any]):
    """The server's set of open connections, that says when one has left it, and when it has become empty."""

    on_loss: Optional[Callable[[], None]] = None
    on_empty: Optional[Callable[[], None]] = None

    def discard(self, element: Any) -> None:
        super().discard(element)
        self._look()

    def remove(self, element: Any) -> None:
        super().remove(element)
        self._look()

    def _look(self) -> None:
        if self.on_loss is not None:
            self.on_loss()
        if not self and self.on_empty is not None:
            self.on_empty()


class HttpServer:
    """Made once for a worker, and perhaps before there is a loop. `reader` is one of httpparse."""

    _loop: asyncio.AbstractEventLoop
    """That of the connections."""

    # Of what note() is given, if it is called.
    work: Optional[Work] = None
    begin: Optional[Callable[[str, bytes], Request]] = None
    end: Optional[Callable[[Request], bool]] = None

    def __init__(
        self,
        app: App,
        reader: Any,
        bounds: Bounds,
        *,
        connections: Connections,
        keep_alive: float = 5.0,
        fields: bytes = b"",
        date: bool = True,
        root_path: str = "",
        path_prefix: str = "",
        limit_concurrency: Optional[int] = None,
        asgi_version: str = "3.0",
        state: Optional[Dict[str, Any]] = None,
        websocket: Optional[Callable[[], Any]] = None,
    ) -> None:
        self.app = app
        self.reader = reader
        self.connections = connections
        self.cycles: Set[Answer] = set()
        """Requests that the app has not done with; some of them are answered already."""
        self.websocket = websocket
        self.state = state
        self.asgi_version = asgi_version
        self.root_path = root_path
        self.path_prefix = path_prefix
        self.raw_prefix = path_prefix.encode("utf-8")
        self.logger = logging.getLogger("uvicorn.error")
        self.access_log = False
        self.draining = False
        self.changed: Callable[[], None] = lambda: None
        """Called during a drain when the last connection, or the last request, has ended."""
        self.each_second: Callable[[], None] = lambda: None
        """Called once a second while there are connections."""
        self.after_request: Optional[Callable[[], None]] = None
        """Called when the app has done with a request."""
        self.made = 0
        """How many connections there ever were."""
        self.ticking = False
        self.now = 0.0
        """The loop's time, to half a second."""
        self.clock = 0.0
        """Seconds, to half a one, for which the loop has been able to read; all bounds count by it.

        It stands still while the app blocks the loop, or the process is stopped. What a client sends meanwhile lies in
        the kernel: the worker can tell neither an idle connection from a busy one, nor a slow request from a whole one.
        """
        self.keep_alive = keep_alive
        self.head_size = bounds.head_size
        self.body_size = bounds.body_size
        self.head_time = bounds.head_timeout + _TICK
        self.body_time = bounds.body_timeout + _TICK
        self.answer_time = 2 * bounds.body_timeout + _TICK
        """Seconds that a client may take nothing of its answer. Who reads slowly seems to stand still between two
        window updates (RFC 9293, 3.8.6.2.2), so this is longer than body_time, and a stop does not shorten it."""
        self.doubt_time = self.body_time
        """Seconds until an app hears that a client may have gone: it has closed its half, and is sent nothing."""
        self.idle_time = keep_alive + _TICK
        self.silent_time = max(keep_alive, bounds.head_timeout) + _TICK
        self.linger_time = _LINGER
        self._limit = limit_concurrency
        self._access_logger = logging.getLogger("uvicorn.access")
        self._with_date = date
        self._second = 0
        self._own_fields = fields
        self.fields: List[bytes] = [fields] * 4
        """Header lines for every answer: all of them, without Date, without Server, without both."""
        self._refusals = 0  # since the last line of the log about one
        self._refused_at = 0

    def make(self, connection: Connection, line: Line, headers: Headers, meaning: Meaning) -> Answer:
        """What answers a request whose head has come. Nothing of it is begun before start()."""
        method, target, minor, _ = line
        if target[0] != 47:
            target, headers = origin_form(target, headers)
        raw, _, query = target.partition(b"?")
        path = raw.decode("ascii")
        if "%" in path:
            path = unquote(path)
        if self.path_prefix:
            path, raw = self.path_prefix + path, self.raw_prefix + raw
        scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1" if minor == b"1" else "1.0",
            "server": connection.local,
            "client": connection.client,
            "scheme": "http",
            "root_path": self.root_path,
            "headers": headers,
            "method": method.decode("ascii"),
            "path": path,
            "raw_path": raw,
            "query_string": query,
        }
        if self.state is not None:
            scope["state"] = self.state.copy()
        return Cycle(connection, scope, more=meaning.length != 0, closes=meaning.closes, waits=meaning.waits)

    def start(self, cycle: Any) -> None:
        """Have the app answer what make() has made."""
        app = self.app
        if self._limit is not None and self._limited(self._limit):
            app = _unavailable
        self.cycles.add(cycle)
        if self.begin is not None:
            scope = cycle.scope
            cycle.request = self.begin(scope["method"], scope["raw_path"])
        cycle.task = self._loop.create_task(cycle.run(app))

    def name(self, cycle: Any) -> None:
        """Find out the route of a request that is done, whose path was not seen before."""
        scope = cycle.scope
        self._name(cycle, scope["method"], scope["raw_path"], frameworks.of_asgi(scope, self.root_path))

    def _name(self, cycle: Answer, method: Any, path: Any, named: Optional[str]) -> None:
        # The scope is the app's by now, and may be anything.
        if self.work is not None and cycle.request is not None:
            with contextlib.suppress(Exception):
                self.work.end_unknown(cycle.request, method, path, named, cycle.status)

    def _limited(self, limit: int) -> bool:
        """Whether there are too many connections or requests for another one."""
        if len(self.connections) < limit and len(self.cycles) < limit:
            return False
        self.logger.warning("Exceeded concurrency limit.")
        return True

    def drain(self) -> None:
        """Let connections end: see Connection.drain(). What does not come in whole has less time to."""
        self.draining = True
        self.head_time = min(self.head_time, _AT_A_STOP)
        self.body_time = min(self.body_time, _AT_A_STOP)
        if self.doubt_time < math.inf:
            self.doubt_time = min(self.doubt_time, _AT_A_STOP)
        self.idle_time = max(self.idle_time, _LEAST_IDLE)
        self.silent_time = self.idle_time
        for connection in list(self.connections):
            drain = getattr(connection, "drain", None)  # a WebSocket's has none
            if drain is not None:
                drain()

    def note(self, work: Work) -> None:
        """From now on each request is written on the worker's page."""
        self.work, self.begin, self.end = work, work.begin, work.end

    def mute(self) -> None:
        """In a process that the app has forked: nothing is sent to clients, who are the parent's."""
        for cycle in self.cycles:
            cycle.gone = True

    # The clock.

    def begin_ticking(self) -> None:
        """There are connections: look at the time again."""
        self.ticking = True
        self._loop = asyncio.get_running_loop()
        self._look_at_the_clock()
        self._loop.call_later(_TICK, self._tick)

    def _tick(self) -> None:
        self._look_at_the_clock()
        self.clock += _TICK
        for connection in list(self.connections):
            sweep = getattr(connection, "sweep", None)
            if sweep is not None:
                sweep()
        if self.connections:
            self._loop.call_later(_TICK, self._tick)
        else:
            self.ticking = False

    def _look_at_the_clock(self) -> None:
        self.now = self._loop.time()
        logger = self._access_logger
        self.access_log = logger.isEnabledFor(logging.INFO) and logger.hasHandlers()
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.each_second()
            date = b"date: %b\r\n" % formatdate(second, usegmt=True).encode() if self._with_date else b""
            server, rest = b"", self._own_fields
            if rest.startswith(b"server: "):
                server, _, rest = rest.partition(b"\r\n")
                server += b"\r\n"
            self.fields = [date + server + rest, server + rest, date + rest, rest]

    # The log.

    def log_access(self, scope: Dict[str, Any], status: int) -> None:
        """A line of the access log, as uvicorn's formatter wants it."""
        client, query = scope["client"], scope["query_string"]
        path = quote(scope["path"]) + ("?" + query.decode("ascii") if query else "")
        self._access_logger.info(
            '%s - "%s %s HTTP/%s" %d',
            "%s:%d" % client if client else "",
            scope["method"],
            path,
            scope["http_version"],
            status,
        )

    def log_refusal(self, transport: Any, refused: Refused) -> None:
        """Say why a request was refused. Of many in one second, say the first: the journal is no scanner's."""
        self._refusals += 1
        if self._refused_at == self._second:
            return
        self._refused_at = self._second
        client = addresses.remote(transport)
        more = self._refusals - 1
        self._refusals = 0
        self.logger.warning(
            "Invalid HTTP request received: %s; answered with %d%s%s.",
            refused,
            refused.status,
            " to %s" % client[0] if client else "",
            "; %d more since the last line" % more if more else "",
        )


async def _unavailable(scope: Any, receive: Any, send: Any) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"19"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"Service Unavailable"})
