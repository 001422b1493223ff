"""Signals that mean something to the master, sent to every process of the unit as `systemctl kill -s HUP` does."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from memunit.master import proctree
from tests.support.harness import Service, Unit

pytest_plugins = ["tests.support.units"]

ASGI = {"run": "plain:app", "server": "asgi"}
KINDS: dict[str, dict[str, object]] = {
    "zygote and workers": {**ASGI, "preload": True},
    "workers that import": {**ASGI, "preload": False},
    "callable": {"run": "asked:run", "server": "callable"},
    "command": {"command": ["sleep", "infinity"], "ready": "exec"},
}


def send_to_all(service: Service, signum: int) -> None:
    """To the master and to each of its descendants."""
    for pid in [*proctree.descendants(service.pid), service.pid]:
        os.kill(pid, signum)


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_to_all_ends_nobody(unit: Unit, kind: str) -> None:
    """HUP, USR1 and USR2 end a process by default, TTIN and TTOU stop it."""
    unit.write(app=KINDS[kind], workers={"count": 1, "min_lifetime": 0})
    service = unit.serve().ready()
    (pid,) = service.serving().values()
    mark = service.mark
    send_to_all(service, signal.SIGUSR1)
    service.expect("^memunit: 1/1 workers", source="output", after=mark)
    send_to_all(service, signal.SIGUSR2)
    send_to_all(service, signal.SIGTTIN)
    service.entry("ready", slot=1)
    send_to_all(service, signal.SIGTTOU)
    ended = service.entry("ended", slot=1)
    assert ended.cause == "scale-down"
    assert service.serving() == {0: pid}
    send_to_all(service, signal.SIGHUP)
    service.expect("Reloaded: 1 worker", source="output", after=mark)
    assert service.entry("ended", pid=pid).cause == "reload"
    assert {entry.cause for entry in service.entries("ended")} == {"scale-down", "reload"}
    assert service.find("zygote .*(was killed|exited)", source="output") is None
    assert service.stop() == 0


def test_an_app_may_have_a_meaning_of_its_own_for_them(unit: Unit, tmp_path: Path) -> None:
    """A Node program, as it is written everywhere."""
    script = tmp_path / "own.js"
    script.write_text(
        "process.on('SIGHUP', () => console.log('rereading'));\n"
        "process.on('SIGTERM', () => process.exit(0));\n"
        "setInterval(() => {}, 1000); console.log('here');\n"
    )
    unit.write(app={"command": ["node", str(script)], "ready": "exec"}, workers={"count": 1})
    service = unit.serve().ready()
    service.expect("^here$")
    (pid,) = service.serving().values()
    os.kill(pid, signal.SIGHUP)
    service.expect("^rereading$")
    assert service.stop() == 0


def test_sigquit_stops_as_sigterm_does(unit: Unit) -> None:
    """systemd sends it to master and workers alike where the unit says KillSignal=SIGQUIT."""
    unit.write(app=KINDS["callable"], workers={"count": 1})
    service = unit.serve().ready()
    assert service.stop(signal.SIGQUIT) == 0
    assert service.entries("ended")[0].cause == "stop"
