"""The master is killed or hangs, on a booted machine: who serves goes on, and a stop leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import SECONDS, Instance, asgi, ended, kind, light, lossless, run, say, under_load
from tests.booted.support_held import GRACE, Held
from tests.support.wait import wait_gone

# No successor comes of itself while a test looks at what there is without one.
ALONE = "RestartSec=30min\n"
APP = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    text = b"ok"
    if scope["path"] == "/helper":
        print("slow", flush=True)
        program = await asyncio.create_subprocess_exec("sh", "-c", "sleep 3; echo done", stdout=-1)
        text = b"ok " + (await program.communicate())[0]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})
"""


def members(instance: Instance) -> list[str]:
    """The pids of all that systemd has in the service."""
    group = Path("/sys/fs/cgroup", f"system.slice/system-memunit.slice/{instance.service}")
    found = []
    for file in group.rglob("cgroup.procs"):
        # Removed since it was listed: before it is opened (ENOENT), or before it is read (ENODEV).
        with contextlib.suppress(OSError):
            found += file.read_text().split()
    return found


def kill_master(instance: Instance, signum: int = signal.SIGKILL) -> None:
    """Until systemd has noticed."""
    master = instance.master()
    os.kill(master, signum)
    wanted = "Main process exited" if signum == signal.SIGKILL else "Watchdog timeout"
    instance.journal.until(lambda entry: wanted in entry.get("MESSAGE", ""))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_who_serves_goes_on_and_is_replaced_in_its_turn(signum: int) -> None:
    watchdog = "WatchdogSec=8s\n" if signum == signal.SIGSTOP else ""
    with Instance("gone", light(more=GRACE), service=watchdog) as instance:
        instance.start()
        instance.settle()
        old = instance.workers()
        with under_load(instance.load(clients=2, rate=20)) as reports:
            held = Held(instance, 2)
            kill_master(instance, signum)
            (taken,) = instance.journal.until(kind(Message.MASTER_SUCCEEDED.id))
            assert "2 of its workers are taken over" in taken["MESSAGE"]
            # Answered when their worker is told to stop, for its replacement serves.
            instance.journal.until(kind(Message.WORKER_STOPPING.id))
            held.answer()
            ends = instance.journal.until(ended(MEMUNIT_CAUSE="adopted"), 2)
            instance.settle()
        assert {int(end["MEMUNIT_WORKER_PID"]) for end in ends} == set(old.values())
        assert len(instance.journal.find(ended())) == 2
        assert not set(instance.workers().values()) & set(old.values())
        say(f"master gone by signal {signum}: longest time without an answer {reports[0].longest_gap:.2f} s")
        if signum == signal.SIGSTOP:
            # Where it hung, by faulthandler.
            instance.journal.until(lambda entry: "Fatal Python error: Aborted" in entry.get("MESSAGE", ""))


def test_no_answer_waits_for_a_master() -> None:
    """With a request in flight for longer than all of it: there is no master when these are answered."""
    with Instance("between", light(more=GRACE), service=ALONE) as instance:
        instance.start()
        instance.settle()
        held = Held(instance, 1)
        kill_master(instance)
        instance.journal.until(lambda entry: "Failed with result" in entry.get("MESSAGE", ""))
        for _ in range(20):
            instance.ask()
        assert instance.property("SubState") == "auto-restart"
        instance.systemctl("restart")
        instance.journal.until(kind(Message.MASTER_SUCCEEDED.id))
        held.answer()
        instance.journal.until(ended(MEMUNIT_CAUSE="adopted"), 2)


def test_a_stop_in_the_second_in_which_no_master_lives_leaves_nothing() -> None:
    with Instance("second", light(more=GRACE), service=ALONE) as instance:
        instance.start()
        instance.settle()
        old = instance.workers()
        held = Held(instance, 2)
        kill_master(instance)
        instance.journal.until(lambda entry: "Failed with result" in entry.get("MESSAGE", ""))
        assert all(str(pid) in members(instance) for pid in old.values())
        # No client and no start before the stop is done: a start takes its place, and waits for the restart (EAGAIN of
        # service_start() in systemd's service.c), here for all of RestartSec=.
        run("systemctl", "--no-block", "stop", instance.service)
        instance.journal.until(lambda entry: entry.get("MESSAGE") == "told to stop", 2)
        held.answer()
        for pid in old.values():
            wait_gone(pid, SECONDS)
        instance.systemctl("stop")
        with under_load(instance.load(clients=2, rate=20)):
            instance.start()
        instance.journal.until(kind(Message.LEFT_ENDED.id))
        assert instance.property("ActiveState") == "active"


def test_a_stop_that_meets_a_dead_master_leaves_nothing() -> None:
    """It is killed in the middle of the stop: no successor comes, and systemd runs ExecStopPost=."""
    with Instance("middle", light(more=GRACE)) as instance:
        instance.start()
        held = Held(instance, 2)
        run("systemctl", "--no-block", "stop", instance.service)
        instance.journal.until(kind(Message.MASTER_STOPPING.id))
        kill_master(instance)
        held.answer()
        instance.systemctl("stop")
        assert members(instance) == []


def test_a_restart_with_a_broken_file_starts_clean() -> None:
    with Instance("broken", light(), service=ALONE) as instance:
        instance.start()
        instance.settle()
        old = instance.workers()
        with under_load(instance.load(clients=2, rate=20)):
            kill_master(instance)
            instance.journal.until(lambda entry: "Failed with result" in entry.get("MESSAGE", ""))
            Path(f"/run/memunit/{instance.name}/workers.json").write_text("broken")
            instance.systemctl("restart")
            (told,) = instance.journal.until(kind(Message.STATE_UNUSABLE.id))
            assert "Started clean: 2 of its processes are told to stop" in told["MESSAGE"]
            instance.settle()
        for pid in old.values():
            assert str(pid) not in members(instance)


@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_the_helper_of_a_request_is_not_signalled_at_a_stop(verb: str, tmp_path: Path) -> None:
    """FIELD A9."""
    folder = Path("/opt/memunit-helper")
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text(APP)
    with Instance("helper", asgi(folder=folder, app="helper:app")) as instance:
        instance.start()
        load = instance.load(clients=4, requests=4, path="/helper", expect_prefix="ok done").start()
        instance.journal.until(lambda entry: entry.get("MESSAGE") == "slow", 4)
        instance.systemctl(verb)
        assert lossless(load.join()).ok == 4
        assert verb == "restart" or members(instance) == []
