"""Activation: from the connection to the first byte of the answer. tests/run booted -- tests/booted/bench_start.py -s

The template with an ASGI app of one worker, whose socket listens and whose service does not run yet. The figures are
printed, and nothing is asserted of them.
"""

from __future__ import annotations

import os
import socket
import statistics
import time

from tests.booted.support import Instance, asgi, run, say

ROUNDS = int(os.environ.get("MEMUNIT_ROUNDS", "9"))


def test_from_the_connection_to_the_first_byte() -> None:
    took = []
    with Instance("bench", asgi(workers="count = 1\n")) as instance:
        for _ in range(ROUNDS):
            instance.listen()
            began = time.monotonic()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(instance.target)
                client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                assert client.recv(1)
            took.append(1e3 * (time.monotonic() - began))
            run("systemctl", "stop", instance.socket, instance.service)
    least, most = min(took), max(took)
    say(
        f"activation of an ASGI app: median {statistics.median(took):.0f} ms, {least:.0f} to {most:.0f} ms, "
        f"{len(took)} rounds"
    )
