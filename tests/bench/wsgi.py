"""CPU time a request of WSGI servers, one worker process with eight threads each, all by turns in one run.

Counted are all processes of a server: master, router and worker.
"""

import contextlib
import re
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.bench.common import free_port, lines, listening, memunit, program
from tests.support import interpreters

ROUNDS = 9
SECONDS = 2
CONNECTIONS = 8  # as many as threads: of more, waitress writes a line for each that waits
THREADS = 8
APP = "tests.bench.app:wsgi"
KINDS = {"kept": "", "new": "Connection: close"}


def main() -> None:
    """Measure and print."""
    python = interpreters.wsgi_servers()
    if python is None:
        print("the other servers cannot be had here")
        return
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(_server(name, python)) for name in _commands(python, 0)}
        for kind, header in KINDS.items():
            spent: dict[str, list[float]] = {name: [] for name in running}
            rates: dict[str, list[float]] = {name: [] for name in running}
            for number in range(ROUNDS + 1):
                for name, (pid, port) in running.items():
                    before = _cpu(pid)
                    count, rate = _wrk(port, header)
                    if number:  # the first round is for the caches
                        spent[name].append((_cpu(pid) - before) / count / 1000)
                        rates[name].append(rate)
            for name, values in spent.items():
                ratios = [ours / theirs for ours, theirs in zip(spent["memunit"], values, strict=True)]
                print(
                    f"{kind:4} {name:17} {statistics.median(values):6.1f} us of CPU a request "
                    f"({min(values):.1f} to {max(values):.1f}), {statistics.median(rates[name]):6.0f} a second; "
                    f"memunit/it in pairs, median {statistics.median(ratios):.2f}",
                    flush=True,
                )


def _commands(python: Path, port: int) -> dict[str, list[str]]:
    """What starts each of them; gunicorn and uWSGI in the way in which their manuals have threads."""
    folder = python.parent
    threads = str(THREADS)
    flags = ["--workers", "1", "--limit", "500M", "--no-preload", "--server", "wsgi", "--threads", threads]
    uwsgi = [
        *(str(folder / "uwsgi"), "--http", f"127.0.0.1:{port}", "--http-keepalive", "--master"),
        *("--threads", threads, "--disable-logging", "--die-on-term", "--module", APP, "--pythonpath", "."),
    ]
    return {
        "memunit": memunit(port, *flags, "--python", str(python), "--app", APP),
        "gunicorn gthread": [
            *(str(folder / "gunicorn"), "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
            *("--threads", threads, "--keep-alive", "65", APP),
        ],
        "waitress": [
            *(str(folder / "waitress-serve"), f"--listen=127.0.0.1:{port}", f"--threads={threads}", APP)
        ],
        "uWSGI --http": uwsgi,
    }


@contextlib.contextmanager
def _server(name: str, python: Path) -> Iterator[tuple[int, int]]:
    """The pid of its first process, and the port."""
    port = free_port()
    with program(*_commands(python, port)[name], quiet=name != "memunit") as process:
        if name == "memunit":
            lines(process, b" is ready ", 1)
        listening(port)
        yield process.pid, port


def _cpu(pid: int) -> int:
    """Nanoseconds on a processor, of all threads of it and of its children."""
    first = psutil.Process(pid)
    tasks = [
        task
        for process in (first, *first.children(recursive=True))
        for task in Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    ]
    return sum(int(task.read_text().split()[0]) for task in tasks)


def _wrk(port: int, header: str) -> tuple[int, float]:
    """So many requests were answered, so many a second."""
    words = ["-H", header] if header else []
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}", *words, f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count = re.search(r"(\d+) requests in ([\d.]+)s", said)
    assert count is not None, said
    assert "Non-2xx" not in said, said
    return int(count[1]), int(count[1]) / float(count[2])
