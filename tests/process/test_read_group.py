"""A group that may read the master's interface: who is a member, and what a member may not do."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from memunit.cli.link import Link
from memunit.core.interfaces import INSTANCE
from memunit.core.varlink import DENIED
from memunit.master import interface
from memunit.master.rights import Right
from tests.support.harness import AS_NOBODY, MEMUNIT, Service, Unit
from tests.support.interpreters import DEBIAN
from tests.support.wait import DEADLINE

pytest_plugins = ["tests.support.units"]
pytestmark = pytest.mark.skipif(not AS_NOBODY, reason="to become another user takes root")

LONG = 4 * DEADLINE
GROUP, OWN, STRANGER = 4242, 54321, 12345
AS_OWN = ("setpriv", f"--reuid={OWN}", f"--regid={OWN}", "--clear-groups")
# Calls each method on a connection of its own; what came of it, as JSON.
CALL = """
import json, sys
from memunit.cli.link import Link
from memunit.core.varlink import Refused
path, *methods = sys.argv[1:]
said = {}
for method in methods:
    try:
        with Link(path, 60.0) as link:
            parameters = {"interface": "org.varlink.service"} if method.endswith("Description") else {}
            link.call(method, parameters)
        said[method] = "answered"
    except Refused as refused:
        said[method] = refused.error
    except OSError as error:
        said[method] = type(error).__name__
print(json.dumps(said))
"""
READS = [
    f"{name}.{method}"
    for name, methods in interface._METHODS.items()
    for method, (_, needed, _) in methods.items()
    if needed is Right.READ
]
OTHERS = [
    f"{name}.{method}"
    for name, methods in interface._METHODS.items()
    for method in methods
    if f"{name}.{method}" not in READS
]


def someone(*groups: int, gid: int = STRANGER) -> tuple[str, ...]:
    """A user who is neither root nor the service's, with these groups."""
    more = ("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)
    return ("setpriv", f"--reuid={STRANGER}", f"--regid={gid}", *more)


def run(unit: Unit, who: Sequence[str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*who, *command], env=unit.environment, capture_output=True, text=True, timeout=LONG, check=False, cwd="/"
    )  # fmt: skip


def called(unit: Unit, who: Sequence[str], methods: Sequence[str]) -> dict[str, str]:
    done = run(unit, who, str(DEBIAN), "-c", CALL, str(unit.runtime / INSTANCE), *methods)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def write(unit: Unit, group: str | None) -> None:
    unit.write(
        app={"command": ["/usr/bin/sleep", "1000"], "ready": "exec"},
        workers={"count": 1},
        **({} if group is None else {"interface": {"read_group": group}}),
    )


@pytest.fixture
def unit(open_unit: Unit) -> Unit:
    """One whose master is neither root's nor nobody's."""
    for each in (open_unit.runtime, open_unit.directory / "systemd"):
        os.chown(each, OWN, OWN)
    return open_unit


@pytest.fixture
def service(unit: Unit) -> Iterator[Service]:
    write(unit, str(GROUP))
    made = unit.serve(prefix=AS_OWN).ready()
    yield made
    if made.running:
        assert made.stop() == 0


def mode(unit: Unit) -> int:
    return stat.S_IMODE(Path(unit.runtime / INSTANCE).stat().st_mode)


def test_a_member_reads_and_changes_nothing(unit: Unit, service: Service) -> None:
    """By a supplementary group, and by the primary one."""
    assert mode(unit) == 0o666
    before = service.mark
    for who in (someone(1, GROUP, 2), someone(gid=GROUP)):
        said = called(unit, who, [*READS, *OTHERS])
        assert said == dict.fromkeys(READS, "answered") | dict.fromkeys(OTHERS, DENIED)
    assert len(OTHERS) == 8
    # Nothing has come of it, and no entry tells of a call.
    assert [each.text for each in service.said[before:] if "has called" in each.text] == []
    assert called(unit, AS_OWN, READS) == dict.fromkeys(READS, "answered")
    assert called(unit, (), ["io.systemd.service.SetLogLevel"]) == {
        "io.systemd.service.SetLogLevel": "answered"
    }


def test_a_stranger_hears_why_before_the_master_hangs_up(unit: Unit, service: Service) -> None:
    # More groups than the kernel tells at once: what can't be known is no right.
    for who in (someone(), someone(GROUP + 1), someone(GROUP, *range(5000, 5300))):
        assert called(unit, who, [*READS, *OTHERS]) == dict.fromkeys([*READS, *OTHERS], DENIED)


def test_what_a_member_types(unit: Unit, service: Service) -> None:
    member = someone(GROUP)
    done = run(unit, member, *MEMUNIT, "status", "app")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"app: 1 of 1 worker serves, master {service.pid} for ")
    done = run(unit, member, *MEMUNIT, "top", "--json", "app")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["workers"]) == 1
    for words in (["recycle", "app"], ["scale", "app", "2"], ["set", "app", "workers.surge=2"]):
        done = run(unit, member, *MEMUNIT, *words)
        assert (done.returncode, done.stdout) == (77, "")
        assert done.stderr == (
            "memunit: only root and the service's own user may do this with app (interface.read_group may read); "
            "put sudo before the command\n"
        )
    done = run(unit, someone(), *MEMUNIT, "top", "app")
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.count("\n") == 1


def test_a_reload_gives_and_takes_the_right(unit: Unit) -> None:
    write(unit, None)
    service = unit.serve(prefix=AS_OWN).ready()
    assert mode(unit) == 0o600
    ping = ["io.systemd.service.Ping"]
    assert called(unit, someone(GROUP), ping) == {ping[0]: "PermissionError"}
    write(unit, str(GROUP))
    assert run(unit, AS_OWN, *MEMUNIT, "reload", "app").returncode == 0
    assert mode(unit) == 0o666
    # As systemd's User= and SupplementaryGroups= would make it: one that stays connected over the reload.
    reader, writer = os.pipe()
    code = (
        "import sys; from memunit.cli.link import Link\n"
        f"with Link({str(unit.runtime / INSTANCE)!r}, 60.0) as link:\n"
        "    link.follow('Follow')\n"
        "    try:\n"
        "        for each in link.replies(600.0): print(each['instance']['name'], flush=True)\n"
        "    except ConnectionResetError: print('hung up')\n"
    )
    following = subprocess.Popen(
        [*someone(GROUP), str(DEBIAN), "-c", code], env=unit.environment, stdout=writer, cwd="/"
    )
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.readline() == "app\n"
        write(unit, "no-such-group")
        done = run(unit, AS_OWN, *MEMUNIT, "reload", "app")
        assert done.returncode == 78
        assert 'interface.read_group: there is no group "no-such-group"' in done.stderr
        # The old configuration goes on, with its group.
        assert called(unit, someone(GROUP), ping) == {ping[0]: "answered"}
        write(unit, str(GROUP + 1))
        assert run(unit, AS_OWN, *MEMUNIT, "reload", "app").returncode == 0
        assert said.read().split("\n")[-2] == "hung up"
    assert following.wait(DEADLINE) == 0
    assert called(unit, someone(GROUP), ping) == {ping[0]: DENIED}
    assert called(unit, someone(GROUP + 1), ping) == {ping[0]: "answered"}
    # The master that executes itself anew knows the group of its configuration.
    assert run(unit, AS_OWN, *MEMUNIT, "reexec", "app").returncode == 0
    assert called(unit, someone(GROUP + 1), ping) == {ping[0]: "answered"}
    write(unit, None)
    assert run(unit, AS_OWN, *MEMUNIT, "reload", "app").returncode == 0
    assert mode(unit) == 0o600
    with Link(str(unit.runtime / INSTANCE), DEADLINE) as link:
        assert link.call("Describe")["instance"]["name"] == "app"
    assert service.stop() == 0


def test_a_group_that_does_not_exist_ends_the_start(unit: Unit) -> None:
    write(unit, "no-such-group")
    service = unit.serve(prefix=AS_OWN)
    assert service.exit_code() == 78
    assert any(
        f'{unit.file}: interface.read_group: there is no group "no-such-group" on this machine; addgroup'
        in each.text
        for each in service.said
    )
