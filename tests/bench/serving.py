"""The same app under memunit and under uvicorn alone, two processes each, in turn: is anything on the path?

Requests a second and latency, and the CPU time of the workers for a request: on kept connections, and on new ones.
"""

import os
import re
import statistics
import subprocess
import sys

import psutil

from tests.bench.common import APP, answer, free_port, lines, memunit, program

ROUNDS = 5
SECONDS = 4


def main() -> None:
    """Measure and print."""
    rates: dict[str, list[float]] = {"memunit": [], "uvicorn": []}
    p50s: dict[str, list[float]] = {"memunit": [], "uvicorn": []}
    many: dict[str, list[float]] = {"memunit": [], "uvicorn": []}
    kept: dict[str, list[float]] = {"memunit": [], "uvicorn": []}
    new: dict[str, list[float]] = {"memunit": [], "uvicorn": []}
    for _ in range(ROUNDS):
        for name in tuple(rates):
            port = free_port()
            with program(*_command(name, port)) as process:
                if name == "memunit":
                    lines(process, b" is ready ", 2)
                else:
                    lines(process, b"startup complete", 2)
                answer(port)
                rate, _, _ = wrk(port, 16)
                _, p50, _ = wrk(port, 1)
                rates[name].append(rate)
                p50s[name].append(p50)
                before = _cpu(process.pid)
                rate, _, count = wrk(port, 64)
                many[name].append(rate)
                between = _cpu(process.pid)
                kept[name].append((between - before) / count * 1e6)
                _, _, count = wrk(port, 64, "Connection: close")
                new[name].append((_cpu(process.pid) - between) / count * 1e6)
    for what, unit, table in (
        ("requests a second, 16 connections", "", rates),
        ("p50, 1 connection", " us", p50s),
        ("requests a second, 64 kept connections", "", many),
        ("CPU a request, 64 kept connections", " us", kept),
        ("CPU a request, 64 clients, new connections", " us", new),
    ):
        for name, values in table.items():
            print(
                f"{what}: {name:8} median {statistics.median(values):8.0f}{unit}  of {[round(v) for v in values]}"
            )
        ratios = [a / b for a, b in zip(table["memunit"], table["uvicorn"], strict=True)]
        print(f"{what}: memunit/uvicorn, round by round, median {statistics.median(ratios):.3f}")


def _command(name: str, port: int) -> list[str]:
    if name == "memunit":
        return memunit(port, "--workers", "2", "--limit", "500M", "--app", APP)
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2", "--no-access-log"]
    return [sys.executable, "-m", "uvicorn", *options, APP]


def _cpu(pid: int) -> float:
    """Seconds of CPU time of all processes that this one has started."""
    times = [child.cpu_times() for child in psutil.Process(pid).children(recursive=True)]
    return sum(each.user + each.system for each in times)


def wrk(port: int, connections: int, header: str = "") -> tuple[float, float, int]:
    """Requests a second, the median latency in microseconds, and how many requests were answered."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}", "--latency", f"http://127.0.0.1:{port}/"]
    if header:
        command[1:1] = ["-H", header]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ}).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    count = re.search(r"(\d+) requests in", said)
    assert rate is not None
    assert median is not None
    assert count is not None
    micro = {"us": 1, "ms": 1000, "s": 1_000_000}[median[2]]
    return float(rate[1]), float(median[1]) * micro, int(count[1])
