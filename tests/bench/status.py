"""What `memunit status INSTANCE` takes: the whole command, a bare interpreter, and the master's answer by itself.

The workers are processes that sleep. Each round has all commands in turn. MEMUNIT_WORKERS="2 256" has other numbers of
workers, MEMUNIT_ROUNDS=41 another number of rounds, MEMUNIT_PYTHON the interpreter of the command. CPU is that of the
command alone.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import psutil

from memunit.cli.link import Link
from memunit.core.interfaces import INSTANCE
from tests.bench.common import ROOT, free_port, lines, memunit, program

ROUNDS = int(os.environ.get("MEMUNIT_ROUNDS", "21"))
WORKERS = [int(word) for word in os.environ.get("MEMUNIT_WORKERS", "2 256").split()]
PYTHON = os.environ.get("MEMUNIT_PYTHON", "/usr/bin/python3")
# As the program of the package starts, but for the place of its modules.
PROGRAM = f"import sys; sys.path.append({str(ROOT)!r}); from memunit.cli.main import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    """Measure and print."""
    for count in WORKERS:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "RUNTIME_DIRECTORY": folder}
            flags = (
                "--workers",
                str(count),
                "--start-timeout",
                "300s",
                "--ready",
                "exec",
                "--recorder-size",
                "0",
            )
            words = [*memunit(free_port(), *flags), "--", "/usr/bin/sleep", "infinity"]
            with program(*words, environment=environment) as process:
                lines(process, b" is ready ", count)
                _measure(count, process.pid, environment)


def _measure(count: int, pid: int, environment: dict[str, str]) -> None:
    commands = {
        "a bare interpreter": [PYTHON, "-I", "-c", "pass"],
        "memunit status": [PYTHON, "-I", "-c", PROGRAM, "status", "sleep"],
    }
    for words in commands.values():
        _run(words, environment)  # compiles what is imported
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in [*commands, "the master's answer"]}
    master = psutil.Process(pid)
    for _ in range(ROUNDS):
        for name, words in commands.items():
            found[name].append(_run(words, environment))
        before, began = sum(master.cpu_times()[:2]), time.perf_counter()
        with Link(f"{environment['RUNTIME_DIRECTORY']}/{INSTANCE}", 60.0) as link:
            link.call("Follow")
        took = time.perf_counter() - began
        found["the master's answer"].append((took, sum(master.cpu_times()[:2]) - before))
    for name, values in found.items():
        walls, cpus = zip(*values, strict=True)
        # The master's own is counted in hundredths of a second: only their mean tells.
        cpu = statistics.mean(cpus) if name.startswith("the master") else statistics.median(cpus)
        print(
            f"{count:3} workers: {name:20} wall median {statistics.median(walls) * 1e3:5.1f} ms, "
            f"least {min(walls) * 1e3:5.1f} ms; CPU {cpu * 1e3:5.1f} ms"
        )


def _run(words: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds from its start to its end, and of the processor."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, env=environment, check=False, capture_output=True)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{words}: {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
