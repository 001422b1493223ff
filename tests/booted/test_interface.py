"""The master's interface where it is used: systemd's own client, the shipped units, and each command by its name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from memunit.core.messages import Message
from memunit.master.cgroup import WORKERS
from tests.booted.support import Instance, asgi, ended, kind, lossless, run, under_load

MEMORY = '[memory]\nlimit = "150M"\nceiling = "300M"\n'
NAME = "io.memunit.Instance"


def path_of(instance: Instance) -> str:
    return f"/run/memunit/{instance.name}/{NAME}"


def varlinkctl(*words: str) -> str:
    """What it prints. Of itself it waits for 45 s at most."""
    return run("varlinkctl", "--timeout=infinity", *words).stdout


def call(instance: Instance, method: str, parameters: str = "{}") -> Any:
    """The reply of a method of the interface."""
    return json.loads(varlinkctl("--json=short", "call", path_of(instance), f"{NAME}.{method}", parameters))


def memunit(*words: str, code: int = 0) -> str:
    done = run("memunit", *words, check=False)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout if code == 0 else done.stderr


def test_each_command_asks_the_master_of_a_unit() -> None:
    """In its sandbox: with a dynamic user of its own, and a runtime directory that only root may look into."""
    with Instance("asked", asgi(more=MEMORY)) as instance:
        instance.start()
        journal = instance.journal
        before = {entry["MEMUNIT_SLOT"]: entry for entry in journal.until(kind(Message.WORKER_READY.id), 2)}
        assert "2 of 2 workers serve" in memunit("status", "asked")
        with under_load(instance.load(clients=2, rate=10)):
            said = memunit("recycle", "asked", "0")
            assert said.endswith(f"0.1 (pid {before['0']['MEMUNIT_WORKER_PID']}) is replaced\n")
            (end,) = journal.until(ended(MEMUNIT_CAUSE="requested"))
            assert end["MEMUNIT_SLOT"] == "0"
            assert memunit("scale", "asked", "3").startswith("asked: 3 workers, 2 before")
            journal.until(kind(Message.WORKER_READY.id, MEMUNIT_SLOT="2"))
            memunit("set", "asked", "memory.limit=200M", "memory.ceiling=400M")
            account = instance.settle()
            assert (
                "until the next reload workers.count = 3, memory.limit = 200M, memory.ceiling = 400M"
                in account
            )
            # The table has the limit in force, and says that it is not the file's.
            table = memunit("status")
            assert re.search(r"^asked +3/3\* .*/200M\* ", table, re.M), table
            said = "workers.count = 3, memory.limit = 200M, memory.ceiling = 400M"
            assert f"* asked: set by hand until the next reload: {said}" in " ".join(table.split())
            # Of an instance that has just begun, the time is drawn since then, and not a day.
            told = json.loads(memunit("history", "--json", "asked"))
            assert told["until"] - told["since"] < 3600
            assert told["memory_limit_bytes"] == 200 << 20
            assert "Its status: 3/3 workers, " in memunit("report", "asked")
            # The kernel keeps the ceiling, of the workers that were there and of the new one.
            groups = Path(f"/sys/fs/cgroup{instance.property('ControlGroup')}/{WORKERS}")
            bounds = [(each / "memory.max").read_text().strip() for each in groups.iterdir() if each.is_dir()]
            assert bounds == [str(400 << 20)] * 3
        stacks = memunit("stacks", "asked", "1")
        assert "is MainThread" in stacks
        assert "Task" in stacks
        assert len(json.loads(memunit("top", "--json", "asked"))["workers"]) == 3
        assert "one worker is the least" in memunit("scale", "asked", "0", code=64)
        # An upgrade keeps it, and a reload ends it.
        run("memunit", "reexec", "asked")
        assert json.loads(memunit("set", "--json", "asked"))["memory.limit"] == "200M"
        instance.systemctl("reload")
        assert memunit("set", "asked") == "asked: all is as the file says\n"
        refused = run(
            "setpriv", "--reuid=nobody", "--clear-groups", "memunit", "scale", "asked", "1", check=False
        )
        assert (refused.returncode, refused.stdout) == (77, "")
        assert "put sudo before the command" in refused.stderr
        lossless(instance.load(clients=1, requests=5).run())
    assert "is not running" in memunit("scale", "asked", "1", code=69)


def test_varlinkctl_is_a_client() -> None:
    if shutil.which("varlinkctl") is None:
        pytest.skip("systemd of this Debian has no varlinkctl")
    with Instance("spoken", asgi()) as instance:
        instance.start()
        instance.journal.until(kind(Message.WORKER_READY.id), 2)
        path = path_of(instance)
        said = varlinkctl("info", path)
        assert NAME in said
        assert "io.systemd.service" in said
        for name in (NAME, "io.systemd.service", "org.varlink.service"):
            # It is parsed, and printed anew.
            assert f"interface {name}" in varlinkctl("introspect", path, name)
        varlinkctl("call", path, "io.systemd.service.Ping", "{}")
        assert [each["slot"] for each in call(instance, "Workers")["workers"]] == [0, 1]
        assert call(instance, "Scale", '{"count":3}') == {"count": 3}
        assert call(instance, "Recycle", '{"slot":1}')["workers"][0]["slot"] == 1
        instance.journal.until(ended(MEMUNIT_CAUSE="requested"))
        told = call(instance, "Set", '{"settings":{"memory.patience":"3s"}}')
        assert told["settings"]["memory.patience"] == "3s"
        assert "is MainThread" in call(instance, "Stacks", '{"slot":0}')["stacks"][0]["text"]
        assert "Reloaded" in varlinkctl("call", path, f"{NAME}.Reload", "{}")
        done = run("varlinkctl", "call", path, f"{NAME}.Scale", '{"count":0}', check=False)
        assert done.returncode != 0
        assert "CantScale" in done.stderr
