"""From a socket alone to a service that is ready, as systemd sees it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.booted.support import UNIT_STARTED, Instance, asgi, kind, light, run, say


def _status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def _environment(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return dict(item.split("=", 1) for item in text.split("\0") if item)


def test_the_first_request_starts_the_service_and_systemd_knows_how_it_is() -> None:
    file = asgi(more='[memory]\nlimit = "160M"\nceiling = "480M"\n')
    with Instance("activated", file, listen="127.0.0.1:8020") as instance:
        instance.listen()
        assert instance.property("ActiveState") == "inactive"
        instance.ask()
        instance.journal.until(kind(UNIT_STARTED, UNIT=instance.service, JOB_RESULT="done"))

        instance.settle()
        found = instance.show(
            *("Type", "NotifyAccess", "ActiveState", "SubState", "StatusText", "Result", "NRestarts"),
            *("DynamicUser", "WatchdogUSec", "WatchdogTimestampMonotonic", "MainPID", "TasksCurrent"),
        )
        assert found["Type"] == "notify"
        assert found["NotifyAccess"] == "exec"
        assert (found["ActiveState"], found["SubState"]) == ("active", "running")
        assert (found["Result"], found["NRestarts"]) == ("success", "0")
        said = r"2/2 workers, [\d.]+M of 160M at most"
        assert re.fullmatch(said, found["StatusText"])
        assert found["DynamicUser"] == "yes"
        # Armed: the time of the last ping, or of READY=1, is there.
        assert found["WatchdogUSec"] == "30s"
        assert int(found["WatchdogTimestampMonotonic"]) > 0
        status = run("systemctl", "status", "--no-pager", "-l", instance.service).stdout
        # Of a moment later: by then they may hold more.
        assert re.search(f'Status: "{said}"', status)
        assert re.search(r"TriggeredBy: \S+ memunit@activated\.socket", status)

        master = _status(int(found["MainPID"]))
        # One thread, and a user that systemd made up.
        assert master["Threads"].strip() == "1"
        assert 61184 <= int(master["Uid"].split()[0]) <= 65519
        # The master, the zygote and two workers, of one thread each.
        assert int(found["TasksCurrent"]) == 4
        resident = int(master["VmRSS"].split()[0])
        say(f"the master's VmRSS with 2 workers: {resident} KiB")
        assert resident < 25 * 1024


def test_the_default_socket_is_served_by_a_plain_command_in_a_closed_house() -> None:
    with Instance("plain", light("--chatty")) as instance:
        # By its name: the service brings its socket along.
        instance.systemctl("start")
        assert instance.show("ActiveState", unit=instance.socket)["ActiveState"] == "active"
        assert Path(instance.target).stat().st_mode & 0o777 == 0o666
        instance.ask()

        master = instance.master()
        told = instance.journal.until(lambda entry: entry.get("MESSAGE") == "the light worker is there", 2)
        workers = {int(entry["_PID"]) for entry in told}
        assert len(workers) == 2
        for worker in workers:
            found = _environment(worker)
            assert found["LISTEN_PID"] == found["WATCHDOG_PID"] == str(worker)
            assert found["LISTEN_FDS"] == "1"
            # Not systemd's, which listens for the master alone.
            assert found["NOTIFY_SOCKET"] == "/run/memunit/plain/notify"
            assert "MAINPID" not in found
            status = _status(worker)
            assert status["PPid"].strip() == str(master)
            assert status["NoNewPrivs"].strip() == "1"
            assert status["Uid"] == _status(master)["Uid"]
