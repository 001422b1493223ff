"""A Node program under memunit and by itself: CPU time a request, and throughput, one process each, in pairs.

And what recycles under load lose, of memunit and of PM2 in the same run: new connections and kept ones.
With MEMUNIT_NODES=18,20,22,24 in the environment, these recycles alone, of each version.
"""

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.bench.common import free_port, lines, listening, memunit, program
from tests.support import nodes
from tests.support.workers import LoadProcess

APP = Path(__file__).with_name("node.js")
PAIRS = 32
SECONDS = 1
RECYCLES = 20
_PM2 = "7.0.4"
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    if nodes.chosen() == ["system"]:
        cost()
    for version in nodes.chosen():
        node = nodes.named(version)
        if node is None:
            print(f"Node {version} can't be had here")
            continue
        for kind in ("memunit", "PM2"):
            with tempfile.TemporaryDirectory() as folder:
                recycle(kind, node, Path(folder))


def cost() -> None:
    """Both run all the time, and get the same load in turn."""
    rates: dict[str, list[dict[str, float]]] = {"kept": [], "new": []}
    with contextlib.ExitStack() as stack:
        ports = {"bare": free_port(), "memunit": free_port()}
        node = str(nodes.system())
        bare = stack.enter_context(program(node, str(APP), environment={"PORT": str(ports["bare"])}))
        flags = ("--workers", "1", "--server", "node", "--node", node, "--app", str(APP))
        ours = stack.enter_context(program(*memunit(ports["memunit"], *flags)))
        lines(ours, b" is ready ", 1)
        pids = {"bare": bare.pid, "memunit": _worker(ours.pid)}
        listening(ports["bare"])
        for pair in range(PAIRS):
            for kind, found_so_far in rates.items():
                found = {}
                for name in sorted(ports, reverse=bool(pair % 2)):
                    found[name], found[f"{name} CPU"] = _measure(ports[name], pids[name], kind)
                if pair > 1:  # the first two warm up
                    found_so_far.append(found)
    for kind, found_all in rates.items():
        for what, scale, unit in ((" CPU", 1e6, "us of CPU a request"), ("", 1, "requests a second")):
            values = {name: [each[name + what] * scale for each in found_all] for name in ("bare", "memunit")}
            ratios = [b / a for a, b in zip(values["bare"], values["memunit"], strict=True)]
            medians = ", ".join(f"{name} {statistics.median(each):.1f}" for name, each in values.items())
            print(f"{kind}: {unit}: {medians}; memunit/bare in pairs, median {statistics.median(ratios):.3f}")


def recycle(kind: str, node: Path, folder: Path) -> None:
    """RECYCLES replacements of two processes, one at a time as each can, under both kinds of load."""
    port = free_port()
    with _manager(kind, node, port, folder) as replaced:
        target = f"127.0.0.1:{port}"
        words = ("--clients", "8", "--rate", "600", "--seconds", "600")
        loads = {
            "new": LoadProcess(folder, target, *words),
            "kept": LoadProcess(folder, target, *words, "--keep-alive"),
        }
        replaced()
        for name, load in loads.items():
            report = load.finish()
            gap = 1000 * report["longest_gap"]
            print(
                f"{kind}, {_version(node)}: {RECYCLES} recycles, {name}: {report['sent']} sent, {report['lost']} lost, "
                f"{report['reopened']} closed under a request, longest gap {gap:.0f} ms"
            )


@contextlib.contextmanager
def _manager(kind: str, node: Path, port: int, folder: Path) -> Iterator[Callable[[], object]]:
    if kind == "memunit":
        flags = [
            "--workers",
            "2",
            "--max-age",
            "1s",
            "--min-lifetime",
            "0",
            "--server",
            "node",
            "--node",
            str(node),
        ]
        with program(*memunit(port, *flags, "--app", str(APP))) as process:
            lines(process, b" is ready ", 2)
            yield partial(lines, process, b" ended: max-age", RECYCLES)
        return
    modules = nodes.package("pm2", _PM2)
    if modules is None:
        print("PM2 can't be installed here")
        return
    environment = {**os.environ, "PM2_HOME": str(folder / "pm2"), "PORT": str(port)}

    def pm2(*words: str) -> None:
        command = [str(node), str(modules / "pm2" / "bin" / "pm2"), *words]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=120)

    def reloads() -> None:
        for _ in range(RECYCLES // 2):
            pm2("reload", "all")

    pm2("start", str(APP), "-i", "2", "--name", "app")
    try:
        listening(port)
        yield reloads
    finally:
        pm2("kill")


def _measure(port: int, pid: int, kind: str) -> tuple[float, float]:
    """Requests a second, and seconds of CPU time for each."""
    headers = ["-H", "Connection: close"] if kind == "new" else []
    before = _cpu(pid)
    command = ["wrk", "-t1", "-c16", f"-d{SECONDS}", *headers, f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = _cpu(pid) - before
    count = re.search(r"(\d+) requests in ([\d.]+)s", said)
    assert count is not None, said
    return int(count[1]) / float(count[2]), spent / int(count[1])


def _cpu(pid: int) -> float:
    """Of all its threads; the scheduler's own sum is finer than ticks."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError, ValueError):
            total += int((task / "schedstat").read_text().split()[0])
    if total:
        return total / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _version(node: Path) -> str:
    said = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    return f"Node {said.strip()}"


def _worker(master: int) -> int:
    (pid,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(pid)


if __name__ == "__main__":
    main()
    sys.exit(0)
