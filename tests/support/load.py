"""A load client that counts what is lost, and never takes a lost request for an answered one.

As a module (`Load(...).run()`) and as a script: `python3 tests/support/load.py --target 127.0.0.1:8010
--clients 8 --path '/leak?kb=64' --requests 5000 --expect-prefix 'ok '`. Standard library only. One thread a
client, blocking sockets: each system call's own error says what happened. The exit status is 0 when at least
one request was sent and none lost.

Each request ends as exactly one of: ok; refused (no connection); reset (ECONNRESET, EPIPE); cut (end of
stream before the whole answer); wrong (not HTTP, unframed, other status, other body); timeout; failed (any
other error of the system). A connection that was kept alive and is closed before the first byte of the next
answer is a close that HTTP/1.1 allows (RFC 9112, 9.3.1): the request is sent again, on a new connection, and
`reopened` counts it. `told` counts the connections that the server closed by announcement, `Connection:
close`.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LOST = ("refused", "reset", "cut", "wrong", "timeout", "failed")
_LONGEST_HEAD = 65536


@dataclass
class Report:
    """What came of all requests. Times in seconds."""

    sent: int = 0
    ok: int = 0
    refused: int = 0
    reset: int = 0
    cut: int = 0
    wrong: int = 0
    timeout: int = 0
    failed: int = 0
    reopened: int = 0
    told: int = 0
    connections: int = 0
    elapsed: float = 0.0
    longest_gap: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    slowest: float = 0.0
    pids: dict[int, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Requests that were sent and not answered as expected."""
        return sum(int(getattr(self, name)) for name in LOST)

    def as_dict(self) -> dict[str, Any]:
        """All fields and `lost`, for JSON."""
        return {**asdict(self), "lost": self.lost}

    def __str__(self) -> str:
        losses = ", ".join(f"{getattr(self, name)} {name}" for name in LOST if getattr(self, name))
        rate = self.sent / max(self.elapsed, 1e-9)
        requests = f"{self.sent} requests in {self.elapsed:.1f} s ({rate:.0f}/s), {self.lost} lost"
        p50, p99, slowest, gap = (1e3 * each for each in (self.p50, self.p99, self.slowest, self.longest_gap))
        lines = [
            requests + (f" ({losses})" if losses else ""),
            f"{self.connections} connections, {self.told} ended as announced, {self.reopened} reopened",
            f"latency p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {slowest:.1f} ms",
            f"longest gap without an answer {gap:.1f} ms; answers from {len(self.pids)} processes",
        ]
        return "\n".join(lines + [f"  {example}" for example in self.examples])


class Lost(Exception):
    """The request came to nothing; `kind` is one of LOST."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class _Closed(Exception):
    """A kept-alive connection was closed before the first byte of an answer."""


@dataclass(frozen=True)
class Answer:
    """One HTTP response, whole."""

    status: int
    body: bytes
    close: bool


class Connection:
    """One connection; request() sends a GET and reads the answer."""

    def __init__(self, target: str, timeout: float) -> None:
        self.used = False
        self._buffer = b""
        self._deadline = time.monotonic() + timeout
        try:
            if target.startswith(("/", "@")):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(timeout)
                self._socket.connect("\0" + target[1:] if target.startswith("@") else target)
                self._host = "localhost"
            else:
                host, _, port = target.rpartition(":")
                self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._host = target
        except TimeoutError as error:
            raise Lost("timeout", f"connect: {error}") from error
        except (ConnectionRefusedError, FileNotFoundError) as error:
            raise Lost("refused", str(error)) from error
        except ConnectionError as error:
            raise Lost("reset", f"connect: {error}") from error
        except OSError as error:
            raise Lost("failed", f"connect: {error}") from error

    def request(self, path: str, timeout: float, keep_alive: bool) -> Answer:
        """The answer to GET `path`; raises Lost, or _Closed where the client has to try again."""
        self._deadline = time.monotonic() + timeout
        head = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n"
        head += "\r\n" if keep_alive else "Connection: close\r\n\r\n"
        fresh_bytes = False
        try:
            self._arm()
            self._socket.sendall(head.encode("ascii"))
            self._fill()
            fresh_bytes = True
            answer = self._read()
        except TimeoutError as error:
            raise Lost("timeout", f"no whole answer in {timeout:g} s") from error
        except ConnectionError as error:  # ECONNRESET, EPIPE
            if self.used and not fresh_bytes:
                raise _Closed from error
            raise Lost("reset", str(error)) from error
        except EOFError as error:
            if self.used and not fresh_bytes:
                raise _Closed from error
            raise Lost("cut", f"end of stream {'within' if fresh_bytes else 'before'} the answer") from error
        except OSError as error:
            raise Lost("failed", str(error)) from error
        self.used = True
        return answer

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def _fill(self) -> None:
        self._arm()
        block = self._socket.recv(65536)
        if not block:
            raise EOFError
        self._buffer += block

    def _read(self) -> Answer:
        while True:
            head = self._read_head()
            lines = head.split(b"\r\n")
            match = re.fullmatch(rb"HTTP/1\.([01]) (\d{3})(?: .*)?", lines[0])
            if match is None:
                raise Lost("wrong", f"no HTTP status line: {lines[0][:60]!r}")
            status = int(match[2])
            if status >= 200:
                break
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise Lost("wrong", f"no header: {line[:60]!r}")
            headers[name.strip().lower()] = value.strip()
        connection = headers.get(b"connection", b"").lower()
        close = b"close" in connection or (match[1] == b"0" and b"keep-alive" not in connection)
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = self._read_chunks()
        elif headers.get(b"content-length", b"").isdigit():
            body = self._take(int(headers[b"content-length"]))
        elif status in (204, 304):
            body = b""
        else:
            raise Lost("wrong", "an answer without length: its end could not be told from a cut")
        if self._buffer:
            raise Lost("wrong", f"bytes after the answer: {self._buffer[:60]!r}")
        return Answer(status, body, close)

    def _read_head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _LONGEST_HEAD or not b"HTTP/1."[: len(self._buffer)] == self._buffer[:7]:
                raise Lost("wrong", f"no HTTP answer: {self._buffer[:60]!r}")
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _read_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _read_chunks(self) -> bytes:
        parts = []
        while True:
            size = self._read_line().partition(b";")[0]
            if not re.fullmatch(rb"[0-9A-Fa-f]+", size):
                raise Lost("wrong", f"no chunk size: {size[:60]!r}")
            if int(size, 16) == 0:
                break
            parts.append(self._take(int(size, 16)))
            if self._take(2) != b"\r\n":
                raise Lost("wrong", "a chunk longer than it says")
        while self._read_line():
            pass  # trailers
        return b"".join(parts)


class Load:
    """`clients` threads that send GET `path` to `target` until `requests` are sent, `seconds` are over, or
    stop().

    `target` is "host:port", "/path.sock" or "@abstract". Without `keep_alive` each request has its own
    connection. An answer is right when its status is 200 and its body begins with `expect_prefix`; digits
    after it are the pid. `rate` is requests a second of all clients together; `timeout` in seconds is for
    connecting, and for one answer. Each time that `every` more are right, `tell` is called, and no answer is
    counted meanwhile.
    """

    def __init__(
        self,
        target: str,
        *,
        clients: int = 8,
        path: str = "/",
        requests: int | None = None,
        seconds: float | None = None,
        keep_alive: bool = False,
        expect_prefix: str = "ok ",
        rate: float | None = None,
        timeout: float = 60.0,
        stop_file: str | None = None,
        every: int = 0,
        tell: Callable[[], object] = lambda: None,
    ) -> None:
        self.target = target
        self.path = path
        self.keep_alive = keep_alive
        self.timeout = timeout
        self._expect = expect_prefix.encode()
        self._pid = re.compile(re.escape(self._expect) + rb"(\d+)")
        self._left = requests
        self._seconds = seconds
        self._interval = clients / rate if rate else 0.0
        self._stop_file = stop_file
        self._every, self._tell = every, tell
        self._stop = threading.Event()
        self._lock = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._pids: Counter[int] = Counter()
        self._latencies: list[float] = []
        self._examples: list[str] = []
        self._began = self._last_answer = self._last_event = 0.0
        self._gap = 0.0
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]

    def start(self) -> Load:
        """Begin; returns itself."""
        self._began = self._last_answer = self._last_event = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __enter__(self) -> Load:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()

    def answered(self, count: int = 1, timeout: float = 120.0) -> None:
        """Wait until so many requests have been answered, or one was lost; TimeoutError after `timeout` s."""
        with self._lock:
            if not self._lock.wait_for(lambda: self._counts["ok"] >= count or self._lost(), timeout):
                raise TimeoutError(
                    f"{self._counts['ok']} of {count} requests were answered within {timeout} s"
                )

    def _lost(self) -> int:
        return sum(self._counts[kind] for kind in LOST)

    def stop(self) -> None:
        """Send no more requests; those under way are finished."""
        self._stop.set()

    def join(self) -> Report:
        """Wait until every client has finished, and report."""
        for thread in self._threads:
            thread.join()
        return self.report()

    def run(self) -> Report:
        """Start, and wait to the end."""
        return self.start().join()

    def report(self) -> Report:
        """What there is so far; the whole, after join()."""
        with self._lock:
            now = time.monotonic()
            alive = any(thread.is_alive() for thread in self._threads)
            times = sorted(self._latencies)
            report = Report()
            for name in ("sent", "ok", "reopened", "told", "connections", *LOST):
                setattr(report, name, self._counts[name])
            report.elapsed = (now if alive else self._last_event) - self._began
            report.longest_gap = max(self._gap, (now if alive else self._last_event) - self._last_answer)
            report.pids = dict(self._pids)
            report.examples = list(self._examples)
        if times:
            report.p50 = times[len(times) // 2]
            report.p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
            report.slowest = times[-1]
        if not alive and report.sent != report.ok + report.lost:
            raise AssertionError(f"requests unaccounted for: {report}")
        return report

    def _client(self) -> None:
        connection: Connection | None = None
        due = time.monotonic()
        while self._next():
            if self._interval:
                self._stop.wait(max(0.0, due - time.monotonic()))
                due += self._interval
            began = time.monotonic()
            try:
                connection, answer = self._ask(connection)
                self._judge(answer)
            except Lost as lost:
                connection = _closed(connection)
                self._count_lost(lost)
                continue
            except Exception as error:  # a defect of this client must not leave a request uncounted
                connection = _closed(connection)
                self._count_lost(Lost("failed", repr(error)))
                continue
            if answer.close:
                connection = _closed(connection)
            self._count_ok(answer, time.monotonic() - began)
        _closed(connection)

    def _next(self) -> bool:
        if self._stop.is_set() or (self._stop_file is not None and Path(self._stop_file).exists()):
            return False
        if self._seconds is not None and time.monotonic() - self._began >= self._seconds:
            return False
        with self._lock:
            if self._left is not None:
                if self._left <= 0:
                    return False
                self._left -= 1
            self._counts["sent"] += 1
        return True

    def _ask(self, connection: Connection | None) -> tuple[Connection, Answer]:
        if connection is not None:
            try:
                return connection, connection.request(self.path, self.timeout, self.keep_alive)
            except _Closed:
                connection.close()
                with self._lock:
                    self._counts["reopened"] += 1
            except Lost:
                connection.close()
                raise
        with self._lock:
            self._counts["connections"] += 1
        connection = Connection(self.target, self.timeout)
        try:
            return connection, connection.request(self.path, self.timeout, self.keep_alive)
        except BaseException:
            connection.close()
            raise

    def _judge(self, answer: Answer) -> None:
        if answer.status != 200:
            raise Lost("wrong", f"status {answer.status}: {answer.body[:60]!r}")
        if not answer.body.startswith(self._expect):
            raise Lost("wrong", f"body {answer.body[:60]!r}")

    def _count_ok(self, answer: Answer, latency: float) -> None:
        match = self._pid.match(answer.body)
        with self._lock:
            now = time.monotonic()
            self._counts["ok"] += 1
            self._counts["told"] += answer.close and self.keep_alive
            self._latencies.append(latency)
            self._gap = max(self._gap, now - self._last_answer)
            self._last_answer = self._last_event = now
            if match is not None:
                self._pids[int(match[1])] += 1
            if self._every and self._counts["ok"] % self._every == 0:
                self._tell()
            self._lock.notify_all()

    def _count_lost(self, lost: Lost) -> None:
        with self._lock:
            self._last_event = time.monotonic()
            self._counts[lost.kind] += 1
            if len(self._examples) < 10:
                self._examples.append(f"{self._last_event - self._began:.3f} s: {lost}")
            self._lock.notify_all()


def _closed(connection: Connection | None) -> Connection | None:
    """None, after `connection` has been closed."""
    if connection is not None:
        connection.close()
    return None


def _watch(load: Load, out: Callable[[str], None], every: float) -> None:
    for thread in load._threads:
        while thread.is_alive():
            thread.join(every)
            report = load.report()
            out(f"{report.sent} sent, {report.ok} answered, {report.lost} lost")


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(description="Send HTTP requests, and count exactly what is lost.")
    parser.add_argument(
        "--target", required=True, metavar="ADDRESS", help="host:port, /path.sock or @abstract"
    )
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--path", default="/")
    parser.add_argument("--requests", type=int, help="send so many, all clients together")
    parser.add_argument("--seconds", type=float, help="send for so long")
    parser.add_argument("--keep-alive", action="store_true", help="keep connections (default: one each)")
    parser.add_argument("--expect-prefix", default="ok ", help="what a right body begins with ['ok ']")
    parser.add_argument("--rate", type=float, help="requests a second, all clients together [no limit]")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one answer [60]")
    parser.add_argument("--stop-file", help="stop when this file appears")
    parser.add_argument("--progress", type=float, metavar="SECONDS", help="a line on stderr now and then")
    parser.add_argument(
        "--every", type=int, default=0, metavar="N", help="a line on stdout at each N right answers"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    options = vars(parser.parse_args(arguments))
    as_json, progress = options.pop("json"), options.pop("progress")
    if options["requests"] is None and options["seconds"] is None and options["stop_file"] is None:
        parser.error("say when to stop: --requests, --seconds or --stop-file")
    load = Load(options.pop("target"), **options, tell=lambda: print(flush=True)).start()
    if progress:
        _watch(load, lambda line: print(line, file=sys.stderr, flush=True), progress)
    try:
        report = load.join()
    except KeyboardInterrupt:
        load.stop()
        report = load.join()
    print(json.dumps(report.as_dict()) if as_json else report)
    return 0 if report.sent and not report.lost else 1


if __name__ == "__main__":
    sys.exit(main())
