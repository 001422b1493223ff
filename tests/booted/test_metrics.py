"""Metrics as the shipped units give them: off until enabled, in their sandbox, with the user of the service."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import Instance, asgi, kind, light, run

pytestmark = pytest.mark.native
MEMORY = '[memory]\nlimit = "150M"\nceiling = "300M"\n'
EXAMPLE = Path("/usr/share/doc/memunit/examples/metrics-port.conf")


def scrape(*where: str) -> dict[str, float]:
    """What curl gets."""
    text = run("curl", "-sS", "--fail", "--max-time", "120", *where).stdout
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def by_path(name: str) -> dict[str, float]:
    return scrape("--unix-socket", f"/run/memunit-metrics/{name}.sock", "http://x/metrics")


def stop(name: str) -> None:
    units = (f"memunit-metrics@{name}.socket", f"memunit-metrics@{name}.service")
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
