#!/usr/bin/python3
"""The demo's part inside the throwaway machine: install, start the socket, leak, tell what happened.

The exit status is 0 when no request was lost and at least one worker was recycled for its memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = "127.0.0.1:8010"
LEAK_KIB = 256
RATE = 160
CLIENTS = 8
ENOUGH_RECYCLES = 6
LEAST_SECONDS = 20.0
LONG_SECONDS = 45.0  # from then on one recycle will do: an emulated processor may be busy with other things
MOST_SECONDS = 240.0
TICK_SECONDS = 4.0
JOURNAL_LINES = 60
LOST = ("refused", "reset", "cut", "wrong", "timeout", "failed")
SENSORS = {"cgroup": "the kernel (memory.high of cgroup v2)"}
STOP = Path("/run/memunit-demo-stop")
REPORT = Path("/run/memunit-demo-report.json")


class Failed(Exception):
    """A step did not do what the demo promises: the text is for a person."""


def main() -> int:
    """Entry point, run by the machine's agent as root."""
    try:
        return _demo()
    except Failed as failure:
        print(f"\nFAILED: {failure}")
        _command("systemctl", "status", "--no-pager", "-l", "memunit@demo.socket", "memunit@demo.service")
        _command("journalctl", "--no-pager", "-n", str(JOURNAL_LINES), "-u", "memunit@demo.*")
        return 1


def _demo() -> int:
    _step("installing the package")
    _must("apt-get", "-q", "-y", "--no-install-recommends", "install", "/payload/memunit.deb")
    _step("systemctl start memunit@demo.socket")
    _must("systemctl", "start", "memunit@demo.socket")
    _step(f"{CLIENTS} clients, at most {RATE} requests a second, {LEAK_KIB} KiB leaked by each")
    report = _load()
    ends = [entry for entry in _journal() if "MEMUNIT_CAUSE" in entry]
    causes = Counter(str(entry["MEMUNIT_CAUSE"]) for entry in ends)
    metrics = {str(entry["MEMUNIT_METRIC"]) for entry in ends if "MEMUNIT_METRIC" in entry}
    lost = {kind: report[kind] for kind in LOST if report.get(kind)}

    _title("systemctl status memunit@demo")
    _command("systemctl", "status", "--no-pager", "-l", "-n", "0", "memunit@demo")
    _title(f"journalctl -u memunit@demo (the last {JOURNAL_LINES} lines)")
    _command("journalctl", "--no-pager", "-n", str(JOURNAL_LINES), "-u", "memunit@demo")
    _title("result")
    print(f"requests sent    {report['sent']}")
    details = f" ({', '.join(f'{count} {kind}' for kind, count in lost.items())})" if lost else ""
    print(f"requests lost    {sum(lost.values())}{details}")
    total = sum(causes.values())
    by_cause = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
    print(f"recycles         {total}" + (f" ({by_cause})" if total else ""))
    print(f"memory told by   {' and '.join(SENSORS.get(metric, metric) for metric in sorted(metrics))}")
    if lost:
        raise Failed(f"{sum(lost.values())} requests were lost: {'; '.join(report.get('examples', []))}")
    if not causes["memory-limit"]:
        raise Failed("no worker was recycled for its memory")
    if _has_memory_controller() and "cgroup" not in metrics:
        raise Failed("the machine has the memory controller of cgroup v2, and memunit did not use it")
    return 0


def _has_memory_controller() -> bool:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    return controllers.exists() and "memory" in controllers.read_text().split()


def _load() -> dict[str, Any]:
    """Drive requests until there were recycles enough, telling the service's own status as it goes."""
    command = [
        sys.executable,
        "tests/support/load.py",
        *("--target", TARGET, "--clients", str(CLIENTS), "--path", f"/leak?kb={LEAK_KIB}"),
        *("--rate", str(RATE), "--seconds", str(MOST_SECONDS), "--stop-file", str(STOP), "--json"),
    ]
    started = time.monotonic()
    with REPORT.open("wb") as output:
        client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output)
    try:
        for elapsed in _ticks(client, started):
            recycles = sum(entry.get("MEMUNIT_CAUSE") == "memory-limit" for entry in _journal())
            status = _said("systemctl", "show", "-P", "StatusText", "memunit@demo.service") or "starting"
            print(f"  {elapsed:3.0f} s  {status}", flush=True)
            enough = ENOUGH_RECYCLES if elapsed < LONG_SECONDS else 1
            if recycles >= enough and elapsed >= LEAST_SECONDS:
                STOP.touch()
    finally:
        if client.poll() is None:
            client.kill()
            client.wait()
    try:
        report: dict[str, Any] = json.loads(REPORT.read_text())
    except ValueError:
        raise Failed(f"the load client ended with {client.returncode} and no report") from None
    if not report.get("sent"):
        raise Failed("no request was sent")
    return report


def _ticks(client: subprocess.Popen[bytes], started: float) -> Iterator[float]:
    """The seconds since `started`, each few seconds, until the client ends (or is long overdue)."""
    while True:
        try:
            client.wait(TICK_SECONDS)
        except subprocess.TimeoutExpired:
            elapsed = time.monotonic() - started
            if elapsed > MOST_SECONDS + 60:
                raise Failed("the load client did not come to its end") from None
            yield elapsed
        else:
            return


def _journal() -> list[dict[str, Any]]:
    lines = _said("journalctl", "--no-pager", "-o", "json", "-u", "memunit@demo").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def _said(*command: str) -> str:
    return subprocess.run(
        command, check=False, capture_output=True, text=True, errors="replace", timeout=60
    ).stdout.strip()


def _must(*command: str) -> None:
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    if done.returncode != 0:
        print(done.stdout)
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode}")


def _command(*command: str) -> None:
    sys.stdout.flush()
    subprocess.run(command, check=False, timeout=60)


def _step(text: str) -> None:
    print(f"-- {text}", flush=True)


def _title(text: str) -> None:
    print(f"\n=== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
