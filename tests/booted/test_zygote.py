"""A zygote, and what the app's import has started beside itself, on a machine with cgroup v2."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from memunit.master import messages
from tests.booted.support import Instance, kind
from tests.support.wait import wait_gone

FOLDER = Path("/opt/memunit-tests/helped")
APP = """
import subprocess
subprocess.Popen(["sleep", "infinity"])
subprocess.Popen(["sleep", "infinity"], start_new_session=True)
def serve(sockets, stopping):
    stopping.wait()
"""


def test_what_an_import_has_started_ends_with_the_last_worker_that_it_serves() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "helped.py").write_text(APP)
    file = f'[app]\nrun = "helped:serve"\nserver = "callable"\ndirectory = "{FOLDER}"\n[workers]\ncount = 1\n'
    with Instance("helped", file) as instance:
        instance.start()
        instance.journal.until(kind(messages.WORKER_READY))
        (worker,) = instance.workers().values()
        first = _members(instance)["1.0"]
        helpers = {pid for pid in first if _command(pid) == "sleep"}
        assert len(helpers) == 2
        assert worker not in first

        (zygote,) = first - helpers
        os.kill(zygote, signal.SIGKILL)
        (lost,) = instance.journal.until(kind(messages.ZYGOTE_LOST))
        assert lost["MESSAGE"].startswith(
            f"The zygote was killed by SIGKILL (pid {zygote}). The workers go on serving"
        )
        instance.settle()
        assert _members(instance)["1.0"] == helpers

        instance.systemctl("reload")
        instance.journal.until(kind(messages.WORKER_READY), 2)
        for helper in helpers:
            wait_gone(helper)
        instance.settle()
        left = _members(instance)
        assert set(left) == {"2.0"}
        assert sum(_command(pid) == "sleep" for pid in left["2.0"]) == 2


def _members(instance: Instance) -> dict[str, set[int]]:
    """The processes of each zygote's group."""
    folder = Path("/sys/fs/cgroup" + instance.property("ControlGroup")) / "zygotes"
    found = {}
    for each in folder.iterdir():
        if each.is_dir():
            found[each.name] = {int(pid) for pid in (each / "cgroup.procs").read_text().split()}
    return found


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
