"""CPU time a request under memunit and under uvicorn alone: one worker, one app, in turn, in one run."""

import re
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.bench.common import APP, answer, free_port, lines, listening, memunit, program
from tests.support import interpreters

ROUNDS = 9
SECONDS = 3
CONNECTIONS = 8
# What a browser sends by way of a proxy, 600 bytes.
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "en-US,en;q=0.9",
    "Cookie": "sessionid=abcdefghijklmnopqrstuvwxyz0123456789; csrftoken=abcdefghijklmnopqrstuvwxyz",
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "https",
    "Sec-Fetch-Mode": "navigate",
}
KINDS = {
    "kept": {},
    "kept, a browser's head": BROWSER,
    "new": {"Connection": "close"},
}
STACKS = {"uvloop, httptools": ("uvloop", "httptools"), "asyncio, h11": ("asyncio", "h11")}


def main() -> None:
    """Measure and print."""
    for which, python in (("newest", interpreters.newest()), ("Debian's", interpreters.DEBIAN)):
        if python is None:
            print(f"{which} uvicorn cannot be had here")
            continue
        for stack, (loop, parser) in STACKS.items():
            environment = {"UVICORN_LOOP": loop, "UVICORN_HTTP": parser}
            with _memunit(python, environment) as ours, _uvicorn(python, loop, parser) as theirs:
                for kind, headers in KINDS.items():
                    spent = compare({"memunit": ours, "uvicorn": theirs}, headers)
                    median = {name: statistics.median(values) for name, values in spent.items()}
                    ratios = [a / b for a, b in zip(spent["memunit"], spent["uvicorn"], strict=True)]
                    print(
                        f"{which:8} {stack:18} {kind:22} memunit {median['memunit']:6.1f} us, "
                        f"uvicorn {median['uvicorn']:6.1f} us; in pairs, median {statistics.median(ratios):.3f} "
                        f"of {min(ratios):.2f} to {max(ratios):.2f}",
                        flush=True,
                    )


def compare(servers: dict[str, tuple[int, int]], headers: dict[str, str]) -> dict[str, list[float]]:
    """Microseconds of CPU a request, by server, one for each round."""
    spent: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(ROUNDS + 1):
        for name, (pid, port) in servers.items():
            before = _cpu(pid)
            count = _wrk(port, headers)
            if number:  # the first round is for the caches
                spent[name].append((_cpu(pid) - before) / count / 1000)
    return spent


def _cpu(pid: int) -> int:
    """Nanoseconds on a processor, of all threads."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def _wrk(port: int, headers: dict[str, str]) -> int:
    """So many requests were answered."""
    words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", *words, f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count = re.search(r"(\d+) requests in", said)
    assert count is not None
    assert "Non-2xx" not in said, said
    return int(count[1])


@contextmanager
def _memunit(python: Path, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """The worker's pid, and the port."""
    port = free_port()
    # One that imports the app for itself, as uvicorn does: the zygote is no part of this.
    flags = ["--workers", "1", "--limit", "500M", "--no-preload", "--python", str(python), "--app", APP]
    with program(*memunit(port, *flags), environment=environment) as process:
        lines(process, b" is ready ", 1)
        answer(port)
        (worker,) = psutil.Process(process.pid).children()
        yield worker.pid, port


@contextmanager
def _uvicorn(python: Path, loop: str, parser: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--loop", loop, "--http", parser]
    quiet = ["--no-access-log", "--log-level", "warning"]
    with program(str(python), "-m", "uvicorn", *options, *quiet, APP) as process:
        listening(port)
        yield process.pid, port
