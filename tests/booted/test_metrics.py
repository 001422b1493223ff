"""Metrics as the shipped units give them: off until enabled, in their sandbox, with the user of the service."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from memunit.cli.link import Link
from memunit.core.messages import Message
from tests.booted.support import Instance, asgi, kind, light, run

pytestmark = pytest.mark.native
MEMORY = '[memory]\nlimit = "150M"\nceiling = "300M"\n'
METRICS = "io.systemd.Metrics"
LONG = 120.0
# From systemd 260 on; on Debian in a package of its own.
REPORT = Path("/usr/lib/systemd/systemd-report")
EXAMPLE = Path("/usr/share/doc/memunit/examples/metrics-port.conf")


def scrape(*where: str) -> dict[str, float]:
    """What curl gets."""
    text = run("curl", "-sS", "--fail", "--max-time", "120", *where).stdout
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def by_path(name: str) -> dict[str, float]:
    return scrape("--unix-socket", f"/run/memunit-metrics/{name}.sock", "http://x/metrics")


def stop(name: str, kind: str = "memunit-metrics") -> None:
    units = (f"{kind}@{name}.socket", f"{kind}@{name}.service")
    run("systemctl", "disable", "--now", units[0], check=False)
    run("systemctl", "stop", *units, check=False)
    run("systemctl", "reset-failed", *units, check=False)


def test_enabled_it_answers_and_outlives_the_service() -> None:
    pytest.importorskip("prometheus_client")
    with Instance("metered", asgi(more=MEMORY)) as instance:
        assert not Path("/run/memunit-metrics/metered.sock").exists()
        run("systemctl", "enable", "--now", "memunit-metrics@metered.socket")
        try:
            # Before anything of the instance is there.
            assert by_path("metered") == {'memunit_up{name="metered"}': 0}
            run("systemctl", "stop", "memunit-metrics@metered.service")
            instance.start()
            instance.journal.until(kind(Message.WORKER_READY.id), 2)
            instance.ask()
            run("memunit", "recycle", "metered")
            found = by_path("metered")
            assert found['memunit_up{name="metered"}'] == 1
            assert found['memunit_workers_ready{name="metered"}'] == 2
            assert found['memunit_recycles_total{cause="requested",name="metered"}'] == 2
            assert found['memunit_requests_total{name="metered"}'] == 1
            assert 0 < found['memunit_worker_memory_bytes{name="metered",slot="0"}'] < 300 << 20
            path = "/run/memunit-metrics/metered.sock"
            nobody = ("setpriv", "--reuid=nobody", "--clear-groups", "curl", "-sS", "--unix-socket", path)
            assert run(*nobody, "http://x/metrics", check=False).returncode != 0
            # A stop takes the runtime directory away, a start makes another: the same exporter finds it.
            before = instance.show("MainPID", unit="memunit-metrics@metered.service")
            instance.systemctl("restart")
            run("systemctl", "stop", instance.socket, instance.service)
            instance.start()
            assert by_path("metered")['memunit_up{name="metered"}'] == 1
            assert instance.show("MainPID", unit="memunit-metrics@metered.service") == before
            assert before["MainPID"] != "0"
        finally:
            stop("metered")


def test_a_user_of_its_own_and_a_port() -> None:
    """The generator tells the exporter which user it is; the example gives it a port."""
    pytest.importorskip("prometheus_client")
    folder = Path("/etc/systemd/system/memunit-metrics@kept.socket.d")
    with Instance("kept", light(count=1, more='[service]\nuser = "dynamic"\n')) as instance:
        folder.mkdir(parents=True)
        try:
            shutil.copy(EXAMPLE, folder)
            run("systemctl", "daemon-reload")
            instance.start()
            instance.settle()
            run("systemctl", "start", "memunit-metrics@kept.socket")
            found = scrape("http://127.0.0.1:9151/metrics")
            assert found['memunit_workers_ready{name="kept"}'] == 1
            users = [
                instance.show("UID", unit=unit)["UID"]
                for unit in (instance.service, "memunit-metrics@kept.service")
            ]
            assert users[0] == users[1] != "[not set]"
        finally:
            stop("kept")
            shutil.rmtree(folder)
            run("systemctl", "daemon-reload")


def reported(path: Path, method: str) -> list[dict[str, Any]]:
    """What systemd-report would be told, which asks as this does; by varlinkctl too, where systemd has it."""
    with Link(str(path), LONG) as link:
        link.follow(f"{METRICS}.{method}")
        found = list(link.replies(LONG))
    if shutil.which("varlinkctl"):
        asked = ("varlinkctl", "--timeout=infinity", "--json=short", "--more", "call", str(path))
        said = run(*asked, f"{METRICS}.{method}", "{}").stdout.replace("\x1e", "").splitlines()
        assert [each["name"] for each in map(json.loads, said)] == [each["name"] for each in found]
    return found


def test_for_systemd_report_it_is_enabled_by_itself() -> None:
    """The socket is where systemd-report looks, from systemd 260 on. Before, it serves whoever asks by varlink."""
    name = "io.memunit.reported"
    path = Path("/run/systemd/report") / name
    with Instance("reported", light(count=1, more='[service]\nuser = "dynamic"\n')) as instance:
        assert not path.exists()
        run("systemctl", "daemon-reload")
        instance.start()
        instance.settle()
        run("systemctl", "enable", "--now", "memunit-varlink-metrics@reported.socket")
        try:
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (0, 0o600)
            found = {each["name"]: each["value"] for each in reported(path, "List")}
            assert (found[f"{name}.Up"], found[f"{name}.WorkersReady"]) == (1, 1)
            assert set(found) <= {each["name"] for each in reported(path, "Describe")}
            users = [
                instance.show("UID", unit=unit)["UID"]
                for unit in (instance.service, "memunit-varlink-metrics@reported.service")
            ]
            assert users[0] == users[1] != "[not set]"
            if shutil.which("varlinkctl"):
                assert f"interface {METRICS}" in run("varlinkctl", "introspect", str(path), METRICS).stdout
            if REPORT.exists():
                assert name in run(str(REPORT), "list-sources", "--no-pager").stdout
                said = run(str(REPORT), "metrics", "--json=short", f"{name}.WorkersReady").stdout.strip(
                    "\x1e\n"
                )
                assert json.loads(said)["value"] == 1
            # Both can be enabled, and one does not start the other.
            other = instance.show("ActiveState", unit="memunit-metrics@reported.socket")
            assert other == {"ActiveState": "inactive"}
            # The next provider asks anew.
            run("systemctl", "stop", "memunit-varlink-metrics@reported.service")
            run("systemctl", "stop", instance.socket, instance.service)
            gone = [{"name": f"{name}.Up", "object": instance.service, "value": 0}]
            assert reported(path, "List") == gone
        finally:
            stop("reported", "memunit-varlink-metrics")
        assert not path.exists()
