"""From the start of the program to the first answer of the smallest ASGI app: memunit, and servers without a master.

All with the app's interpreter from one virtual environment, one worker each, in turn. MEMUNIT_ROUNDS=15 has another
number of rounds. Compared with: uvicorn alone, gunicorn with its own ASGI worker, granian. CPU is that of all processes
until the answer, in hundredths of a second. On a machine that does other work as well, have it go
before that: `chrt -r 1 python -m tests.bench start`.
"""

import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.bench.common import APP, DEADLINE, ROOT, free_port
from tests.support import interpreters

# What an installed package has as its program: each of the others is started by its own.
PROGRAM = "import sys; from memunit.cli.main import main; sys.exit(main())"
ROUNDS = int(os.environ.get("MEMUNIT_ROUNDS", "9"))


def main() -> None:
    """Measure and print."""
    python = interpreters.start_servers() or Path(sys.executable)
    here = python.parent
    commands: dict[str, Callable[[int], list[str]]] = {
        "memunit": lambda port: _memunit(python, port),
        "memunit --no-preload": lambda port: _memunit(python, port, "--no-preload"),
        "uvicorn": lambda port: [str(here / "uvicorn"), "--port", str(port), APP],
        "gunicorn": lambda port: [str(here / "gunicorn"), "-k", "asgi", "-b", f"127.0.0.1:{port}", APP],
        "granian": lambda port: [str(here / "granian"), "--interface", "asgi", "--port", str(port), APP],
    }
    commands = {name: make for name, make in commands.items() if _there(make(0)[0])}
    for make in commands.values():
        _first_answer(make)  # compiles what is imported
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, make in commands.items():
            found[name].append(_first_answer(make))
    for name, values in found.items():
        walls, cpus = zip(*values, strict=True)
        print(
            f"{name:21} median {statistics.median(walls) * 1000:5.0f} ms  least {min(walls) * 1000:5.0f} ms"
            f"  CPU {statistics.median(cpus) * 1000:4.0f} ms"
        )


def _memunit(python: Path, port: int, *flags: str) -> list[str]:
    own = [sys.executable, "-c", PROGRAM, "run", "--listen", f"127.0.0.1:{port}", "--workers", "1"]
    return [*own, *flags, "--python", str(python), "--app", APP]


def _there(program: str) -> bool:
    return Path(program).exists()


def _first_answer(make: Callable[[int], list[str]]) -> tuple[float, float]:
    """Seconds until the first answer has come, and of CPU until then."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.monotonic()
    process = subprocess.Popen(
        make(port), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with _connected(port) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            answer = client.recv(4096)
            took = time.monotonic() - began
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return took, _cpu(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)


def _connected(port: int) -> socket.socket:
    until = time.monotonic() + DEADLINE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), DEADLINE)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            select.select([], [], [], 0.001)  # a spin would take a processor from what is measured


def _cpu(pid: int) -> float:
    own = psutil.Process(pid)
    return sum(sum(each.cpu_times()) for each in (own, *own.children(recursive=True)))
