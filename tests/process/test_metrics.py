"""`memunit metrics` beside a real master, as memunit-metrics@.socket starts it; and promtool's word on all of it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memunit.cli.link import Link
from tests.support import interpreters
from tests.support.harness import MEMUNIT, Service, Unit
from tests.support.http import Client
from tests.support.wait import DEADLINE, wait_gone
from tests.support.workers import ROOT

pytest_plugins = ["tests.support.units"]

LONG = 10 * DEADLINE
EXAMPLES = ROOT / "examples/metrics"
REPORTED = "io.memunit.app"
LIMITS = {"limit": "300M", "ceiling": "400M"}


def promtool(*words: str | Path, text: str = "") -> None:
    """It is content: with what it finds it would end with another status, and say it."""
    program = shutil.which("promtool")
    assert program, "tests/run has promtool in PATH"
    done = subprocess.run(
        [program, *words], input=text, capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What systemd listens on for an exporter."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def target(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


def exporter(unit: Unit, listener: socket.socket) -> Service:
    """By the socket's first connection, as systemd starts it."""
    sockets = [("memunit-metrics@app.socket", listener)]
    return unit.start(*MEMUNIT, "metrics", "--", "app", sockets=sockets)


def provider(unit: Unit, listener: socket.socket) -> Service:
    """As memunit-varlink-metrics@app.socket starts it."""
    sockets = [("varlink", listener)]
    return unit.start(*MEMUNIT, "metrics", "--", "app", sockets=sockets)


@pytest.fixture
def report(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on for systemd-report."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / REPORTED))
        made.listen()
        yield made


def scrape(listener: socket.socket) -> str:
    with Client(target(listener)) as client:
        client.socket.settimeout(LONG)
        response = client.get("/metrics")
    assert response.status == 200, response
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return response.body.decode()


def values(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def served(unit: Unit, **tables: Any) -> Service:
    unit.write(app={"run": "plain:app"}, workers={"count": 2}, memory=LIMITS, **tables)
    service = unit.serve().ready()
    service.until(lambda: len(service.serving()) == 2 or None, "both")
    return service


def memunit(unit: Unit, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MEMUNIT, *words], env=unit.environment, capture_output=True, text=True, timeout=LONG, check=False
    )


def hidden(unit: Unit) -> dict[str, str]:
    """The environment of one that does not find prometheus_client."""
    (unit.directory / "hidden").mkdir()
    hides = 'raise ModuleNotFoundError("No module named \'prometheus_client\'", name="prometheus_client")\n'
    (unit.directory / "hidden/prometheus_client.py").write_text(hides)
    return {"PYTHONPATH": f"{unit.directory / 'hidden'}:{unit.environment['PYTHONPATH']}"}


def until(listener: socket.socket, name: str, value: float) -> dict[str, float]:
    """Scrape until a series has this value: an exporter asks the master once a second at most."""
    deadline = time.monotonic() + LONG
    while (found := values(scrape(listener))).get(name) != value:
        assert time.monotonic() < deadline, found
    return found


def test_a_scrape_of_a_master_that_replaces_its_workers(unit: Unit, listener: socket.socket) -> None:
    service = served(unit)
    for _ in range(5):
        unit.get()
    exporter(unit, listener)
    found = values(scrape(listener))
    assert found['memunit_up{name="app"}'] == 1
    assert found['memunit_workers{name="app",phase="running"}'] == 2
    assert found['memunit_requests_total{name="app"}'] == 5
    for slot in (0, 1):
        assert 0 < found[f'memunit_worker_limit_bytes{{name="app",slot="{slot}"}}'] <= 300 << 20
        assert found[f'memunit_worker_ceiling_bytes{{name="app",slot="{slot}"}}'] == 400 << 20
    asked = memunit(unit, "recycle", "app")
    assert asked.returncode == 0, asked.stderr
    done = memunit(unit, "metrics", "app")
    assert (done.returncode, done.stderr) == (0, "")
    found = values(done.stdout)
    assert found['memunit_recycles_total{cause="requested",name="app"}'] == 2
    assert found['memunit_drain_seconds_count{name="app"}'] == 2
    # Those that the ended workers have answered are not lost.
    assert found['memunit_requests_total{name="app"}'] == 5
    promtool("check", "metrics", text=done.stdout)
    assert service.stop() == 0


def test_counts_outlive_an_upgrade_and_a_dead_master_is_counted(unit: Unit, listener: socket.socket) -> None:
    service = served(unit)
    assert memunit(unit, "recycle", "app", "0").returncode == 0
    assert memunit(unit, "reexec", "app").returncode == 0
    found = values(memunit(unit, "metrics", "app").stdout)
    assert found['memunit_recycles_total{cause="requested",name="app"}'] == 1
    assert found['memunit_drain_seconds_count{name="app"}'] == 1
    assert found['memunit_master_restarts_total{name="app"}'] == 0
    service.send(signal.SIGKILL)
    wait_gone(service.pid)
    successor = unit.serve().ready()
    found = values(memunit(unit, "metrics", "app").stdout)
    assert found['memunit_master_restarts_total{name="app"}'] == 1
    assert successor.stop() == 0


def test_a_failed_reload_is_counted(unit: Unit) -> None:
    service = served(unit)
    unit.write(app={"run": "plain:app"}, workers={"count": 0})
    assert memunit(unit, "reload", "app").returncode != 0
    found = values(memunit(unit, "metrics", "app").stdout)
    assert found['memunit_reloads_total{name="app",result="failed"}'] == 1
    assert found['memunit_reloads_total{name="app",result="done"}'] == 0
    assert service.stop() == 0


def test_a_master_that_is_absent_hangs_or_comes_back(unit: Unit, listener: socket.socket) -> None:
    teller = exporter(unit, listener)
    # A scrape is answered in any case: what is not up is a value, and no error of the exporter.
    assert values(scrape(listener)) == {'memunit_up{name="app"}': 0}
    teller.expect("app is not running", source="output")
    service = served(unit)
    until(listener, 'memunit_up{name="app"}', 1)
    service.send(signal.SIGSTOP)
    found = until(listener, 'memunit_up{name="app"}', 0)
    assert found == {'memunit_up{name="app"}': 0}
    teller.expect("the master of app does not answer", source="output")
    service.send(signal.SIGCONT)
    until(listener, 'memunit_up{name="app"}', 1)
    assert service.stop() == 0
    teller.send(signal.SIGTERM)
    teller.exit_code()


def test_hostile_scrapers_cost_the_master_nothing(unit: Unit, listener: socket.socket) -> None:
    """They say half of a request and stay: others are answered, and the master hears of none of them."""
    service = served(unit)
    teller = exporter(unit, listener)
    half = [Client(target(listener)) for _ in range(40)]
    try:
        for each in half:
            each.socket.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert values(scrape(listener))['memunit_up{name="app"}'] == 1
        for _ in range(30):
            scrape(listener)
        service.pass_by()
    finally:
        for each in half:
            each.close()
    assert service.stop() == 0
    teller.send(signal.SIGTERM)
    teller.exit_code()


def test_without_the_library_the_remedy_is_said(unit: Unit, listener: socket.socket) -> None:
    """By whoever types it and by whoever scrapes: an exporter that just ended would be started again and again."""
    without = hidden(unit)
    done = subprocess.run(
        [*MEMUNIT, "metrics", "app"],
        env={**unit.environment, **without},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stdout) == (69, "")
    assert len(done.stderr.splitlines()) == 1
    assert "apt install python3-prometheus-client" in done.stderr
    sockets = [("memunit-metrics@app.socket", listener)]
    unit.start(*MEMUNIT, "metrics", "--", "app", sockets=sockets, environment=without)
    with Client(target(listener)) as client:
        client.socket.settimeout(LONG)
        response = client.get("/metrics")
    assert response.status == 500
    assert b"apt install python3-prometheus-client" in response.body


# -- for systemd-report ------------------------------------------------------------------------------------------


def reported(listener: socket.socket, method: str = "List") -> list[dict[str, Any]]:
    """The replies, as systemd-report asks for them."""
    with Link(listener.getsockname(), LONG) as link:
        link.follow(f"io.systemd.Metrics.{method}")
        return list(link.replies(LONG))


def test_systemd_report_is_told_the_same_as_prometheus(unit: Unit, report: socket.socket) -> None:
    service = served(unit)
    for _ in range(5):
        unit.get()
    teller = provider(unit, report)
    found = {(each["name"], *each.get("fields", {}).values()): each["value"] for each in reported(report)}
    assert found[f"{REPORTED}.Up",] == 1
    assert found[f"{REPORTED}.Workers", "running"] == 2
    assert found[f"{REPORTED}.Requests",] == 5
    assert found[f"{REPORTED}.WorkerCeilingBytes", "1"] == 400 << 20
    described = {each["name"] for each in reported(report, "Describe")}
    assert {name for name, *_ in found} <= described
    there = set(re.findall(r"^# TYPE memunit_(\w+)", memunit(unit, "metrics", "app").stdout, re.M))
    assert len(there) == len({name for name, *_ in found}) - 2
    assert service.stop() == 0
    teller.send(signal.SIGTERM)
    teller.exit_code()


def test_systemd_report_is_answered_without_a_master_and_without_the_library(
    unit: Unit, report: socket.socket
) -> None:
    """Only Prometheus needs prometheus_client."""
    unit.start(*MEMUNIT, "metrics", "--", "app", sockets=[("varlink", report)], environment=hidden(unit))
    up = {"name": f"{REPORTED}.Up", "object": "memunit@app.service", "value": 0}
    assert reported(report) == [up]
    service = served(unit)
    deadline = time.monotonic() + LONG
    while {**up, "value": 1} not in (found := reported(report)):
        assert time.monotonic() < deadline, found
    assert service.stop() == 0


def test_a_second_client_understands_it(unit: Unit, report: socket.socket) -> None:
    """varlink's own package for Python: it reads the description, and checks each reply against it."""
    python = interpreters.varlink()
    if python is None:
        pytest.skip("the package varlink cannot be installed here")
    service = served(unit)
    provider(unit, report)
    code = f"""
import varlink
with varlink.Client("unix:{report.getsockname()}") as client:
    with client.open("io.systemd.Metrics") as metrics:
        print(*sorted(one["name"] for one in metrics.Describe(_more=True))[:2])
        found = list(metrics.List(_more=True))
        print(*(one["value"] for one in found if one["name"].endswith((".Up", ".WorkersReady"))))
        print(*(one["fields"]["slot"] for one in found if one["name"].endswith(".WorkerLimitBytes")))
        try:
            metrics.List()
        except varlink.VarlinkError as error:
            print(error.error())
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stderr
    names = f"{REPORTED}.BudgetBytes {REPORTED}.BudgetFreeBytes"
    assert done.stdout.splitlines() == [names, "1 2", "0 1", "org.varlink.service.ExpectedMore"]
    assert service.stop() == 0


# -- the examples ------------------------------------------------------------------------------------------------


def test_the_rules_are_good_and_fire_when_they_should() -> None:
    promtool("check", "rules", EXAMPLES / "rules.yml")
    promtool("test", "rules", EXAMPLES / "rules_test.yml")
    promtool("check", "config", "--syntax-only", EXAMPLES / "prometheus.yml")


def expressions() -> list[str]:
    board = json.loads((EXAMPLES / "dashboard.json").read_text())
    found = [each["expr"] for panel in board["panels"] for each in panel["targets"]]
    assert len(found) > 10
    return found


def test_the_dashboard_asks_what_can_be_answered(tmp_path: Path) -> None:
    lines = ["groups:", "- name: dashboard", "  rules:"]
    for number, each in enumerate(expressions()):
        lines += [f"  - record: panel:{number}:x", f"    expr: {json.dumps(each.replace('$name', '.*'))}"]
    (tmp_path / "rules.yml").write_text("\n".join([*lines, ""]))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_rules_and_dashboard_name_metrics_that_there_are(unit: Unit) -> None:
    service = served(unit)
    unit.get()
    text = memunit(unit, "metrics", "app").stdout
    assert service.stop() == 0
    there = set(re.findall(r"^# TYPE (\w+)", text, re.M)) | {"memunit_drain_seconds_bucket"}
    # Of a worker that does not grow it is not there.
    there |= {"memunit_worker_time_to_limit_seconds"}
    asked = [*expressions(), (EXAMPLES / "rules.yml").read_text()]
    named = {name for each in asked for name in re.findall(r"\bmemunit_\w+", each)} - {"memunit_recycles"}
    assert named <= there, named - there
    documented = set(re.findall(r"\bmemunit_\w+", (ROOT / "docs/prometheus.md").read_text()))
    assert there - {"memunit_drain_seconds_bucket"} <= documented
