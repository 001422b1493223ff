"""A command that no memunit is in: its routes leak what the kernel alone tells. Any HTTP server would do."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

KEPT: list[object] = []


def heap() -> None:
    """48 MiB of anonymous memory."""
    KEPT.append(b"x" * (48 << 20))


def shared() -> None:
    """32 MiB in a file on tmpfs that is mapped, and has no name any more when this process has ended."""
    file = tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="growing")  # noqa: SIM115  kept on purpose
    file.truncate(32 << 20)
    area = mmap.mmap(file.fileno(), 32 << 20)
    for place in range(0, len(area), 4096):
        area[place] = 1
    KEPT.append((file, area))


def threads() -> None:
    """Threads that wait, and have used a part of their stacks."""
    for _ in range(80):
        began = threading.Event()
        thread = threading.Thread(target=_wait, args=(began,), daemon=True)
        thread.start()
        began.wait()
        KEPT.append(thread)


def _wait(began: threading.Event) -> None:
    # A buffer for a moment, as most threads need one, which malloc's arena of the thread keeps.
    KEPT.append(bytes(100 << 10))
    began.set()
    threading.Event().wait()


def descriptors() -> None:
    """Sockets beside 8 MiB that belong to them: what opens them keeps a buffer for each."""
    for _ in range(100):
        KEPT.append((socket.socketpair(), bytearray(b"y" * 81920)))


def processes() -> None:
    """A child with 40 MiB of its own, for which nobody waits."""
    hold = "import sys; kept = b'x' * (40 << 20); print(flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    KEPT.append(child)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        leak = globals().get(urlsplit(self.path).path.strip("/"))
        if callable(leak):
            leak()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=3)
    # Where a sibling takes the connection that select(2) told of, accept(2) would wait, and no shutdown() ends that.
    server.socket.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    server.serve_forever()


if __name__ == "__main__":
    main()
