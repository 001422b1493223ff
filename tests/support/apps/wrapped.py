"""A server for behind a wrapper: it answers /wait?on=FIFO once somebody has written there, and drains at a signal.

Words to the test are lines on stdout. It tells READY=1, and pings from the same loop, if there is a master.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

_TOLD = "told to stop"


def say(text: str) -> None:
    """One whole line at once."""
    os.write(1, f"{text} {os.getpid()}\n".encode())


def notify(text: str) -> None:
    """Tell the master, as sd_notify(3)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


def main() -> None:
    """Serve on descriptor 3 until `sys.argv[1]` (a signal's name) comes and nothing is in work."""
    told, tell = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(tell)
    signal.signal(signal.Signals[sys.argv[1]], lambda *_: None)
    listener = socket.socket(fileno=3)
    listener.setblocking(False)
    notify("READY=1")
    pinging = float(os.environ.get("WRAPPED_PING", "0")) or None
    stopping, pings = False, 0
    waiting: dict[int, socket.socket] = {}
    while waiting or not stopping:
        watched = [told, *waiting] + ([] if stopping else [listener.fileno()])
        readable, _, _ = select.select(watched, [], [], pinging)
        if pinging:
            notify("WATCHDOG=1")
            pings += 1
            if pings % 10 == 0:
                say(f"pinged {pings} times")
        for each in readable:
            if each == told:
                os.read(told, 64)
                stopping = os.environ.get("WRAPPED_DEAF") is None
                say(_TOLD)
            elif each in waiting:
                with waiting.pop(each) as client:
                    client.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nwhole\n"
                    )
                os.close(each)
            else:
                with contextlib.suppress(BlockingIOError):
                    _accept(listener, waiting)


def _accept(listener: socket.socket, waiting: dict[int, socket.socket]) -> None:
    client, _ = listener.accept()
    client.setblocking(True)
    path = client.recv(65536).split()[1].decode()
    fifo = os.open(path.partition("on=")[2] or os.devnull, os.O_RDONLY | os.O_NONBLOCK)
    waiting[fifo] = client
    say("waits")


if __name__ == "__main__":
    main()
