"""Five instances are broken: `memunit status` names them in one screen, `memunit why` has cause and next step.

What they print is kept in /results/on-call, if there is such a folder: docs/on-call.md has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import SECONDS, Instance, ended, kind, run, say

FOLDER = Path("/srv/broken")
KEPT = Path("/results/on-call")
FILE = """\
[app]
run = "{app}"
server = "{server}"
directory = "{folder}"
[workers]
count = 2
min_lifetime = 0
{workers}
[memory]
{memory}
patience = "100ms"
[stop]
grace = "{grace}"
"""


def file(
    app: str = "broken:app", *, server: str = "asgi", workers: str = "", memory: str = "", grace: str = "30s"
) -> str:
    """One instance's."""
    return FILE.format(app=app, server=server, folder=FOLDER, workers=workers, memory=memory, grace=grace)


def open_request(instance: Instance, path: str) -> socket.socket:
    """A request that nobody waits for."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(instance.target)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
    return connection


@pytest.fixture(scope="module")
def broken() -> Iterator[dict[str, Instance]]:
    """All five, after each has gone wrong."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).parent / "support_broken.py", FOLDER / "broken.py")
    (FOLDER / "unconfigured.py").write_text(
        "import broken\n\ndatabase = broken.connect()\napp = broken.app\n"
    )
    files = {
        "leak": file(memory='limit = "60M"\nceiling = "400M"'),
        "crash": file("unconfigured:app", workers='start_timeout = "60s"'),
        "hang": file(workers='watchdog = "8s"'),
        "drain": file("broken:wsgi", server="wsgi", grace="20s"),
        # On a busy machine it takes longer to the ceiling than a watchdog or a grace allows.
        "ceiling": file(
            workers='watchdog = "10min"', memory='limit = "80M"\nceiling = "120M"', grace="10min"
        ),
    }
    with contextlib.ExitStack() as stack:
        # One test stops the master of `hang`, and systemd is not to end it meanwhile.
        services = {"hang": "WatchdogSec=30min\n"}
        made = {
            name: stack.enter_context(Instance(name, text, service=services.get(name, "")))
            for name, text in files.items()
        }
        for name, instance in made.items():
            if name == "crash":
                run("systemctl", "start", "--no-block", instance.socket, instance.service)
            else:
                instance.start()
        leak, hang, drain, ceiling = (made[name] for name in ("leak", "hang", "drain", "ceiling"))
        load = leak.load(clients=2, path="/leak", rate=30).start()
        with contextlib.closing(open_request(drain, "/report")):
            drain.journal.until(lambda entry: entry.get("MESSAGE") == "rendering")
            say("all have started")
            drain.systemctl("reload")
            say("drain is reloaded")
            stack.enter_context(contextlib.closing(open_request(hang, "/hang")))
            for count in (1, 2):
                with contextlib.closing(open_request(ceiling, "/export")):
                    ceiling.journal.until(ended(MEMUNIT_CAUSE="memory-ceiling"), count)
                    say(f"ceiling was reached {count} times")
            hang.journal.until(ended(MEMUNIT_CAUSE="watchdog"))
            say("hang has hung")
            # It is a Python worker: a moment before it would be killed it ends by itself.
            drain.journal.until(lambda entry: int(entry.get("MEMUNIT_DRAIN_USEC", 0)) > 15_000_000)
            say("drain has used up its grace")
        leak.journal.until(ended(MEMUNIT_CAUSE="memory-limit"), 5)
        load.stop()
        load.join()
        say("leak has been recycled")
        made["crash"].journal.until(kind(Message.LAUNCH_FAILED.id), 2)
        for instance, count in ((hang, 3), (drain, 4), (ceiling, 4)):
            instance.journal.until(kind(Message.WORKER_READY.id), count)
        for name in ("leak", "hang", "drain", "ceiling"):
            made[name].settle()
        # What workers have printed comes by another way than the entries that were waited for.
        run("journalctl", "--sync")
        yield made


def memunit(*words: str, columns: int | None = None, code: int = 0, kept: bool = True) -> str:
    """What the command prints; kept for the documents."""
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    if columns is not None:
        environment["COLUMNS"] = str(columns)
    done = subprocess.run(
        ["memunit", *words], check=False, capture_output=True, text=True, env=environment, timeout=SECONDS
    )
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    if kept and KEPT.parent.is_dir():
        KEPT.mkdir(exist_ok=True)
        name = "-".join([word.strip("-/").replace("/", "_") for word in words])
        (KEPT / f"{name}-{columns or 'pipe'}.txt").write_text(done.stdout + done.stderr)
    return done.stdout


NAMED = {
    "leak": "at the limit of 6",
    "crash": "nothing serves",
    "hang": "hangs: silent for 8s",
    "drain": "slow to stop: its grace of 20s",
    "ceiling": "killed at its ceiling of 120M",
}


@pytest.mark.parametrize("columns", [80, 132])
def test_one_screen_names_all(broken: dict[str, Instance], columns: int) -> None:
    said = memunit("status", columns=columns)
    lines = said.splitlines()
    assert len(lines) <= 24, said
    assert max(map(len, lines)) <= columns, said
    words = " ".join(said.split())
    for name, trouble in NAMED.items():
        assert any(line.startswith(f"{name} ") for line in lines), said
        for word in trouble.split():
            assert word in words, (name, said)


def test_status_for_a_program(broken: dict[str, Instance]) -> None:
    told = {each["instance"]: each for each in json.loads(memunit("status", "--json"))}
    assert set(NAMED) <= set(told)
    first = {name: told[name]["findings"][0]["kind"] for name in NAMED}
    assert first == {
        "leak": "leak",
        "crash": first["crash"],
        "hang": "hang",
        "drain": "slow-drain",
        "ceiling": "ceiling",
    }
    assert first["crash"] in ("nothing-ready", "restarting")
    assert told["leak"]["ended_last_hour"]["memory-limit"] >= 5
    assert len(told["hang"]["workers"]) == 2
    assert {each["phase"] for each in told["hang"]["workers"]} == {"running"}
    # What a worker that a zygote has forked has of its own: about 2 MiB, and less when it has just become ready.
    assert min(each["memory_bytes"] for each in told["hang"]["workers"]) > 1 << 16, told["hang"]["workers"]


# The cause, as the app itself has it, and the step.
CAUSES = {
    "leak": ("grows by|Workers reach their limit", "limit ="),
    "crash": ("KeyError: 'DATABASE_URL'", "memunit check crash"),
    "hang": ("query_without_timeout", "time limit"),
    "drain": ("render_report", "raise grace"),
    "ceiling": ("the kernel has killed it", "ceiling ="),
}


@pytest.mark.parametrize("columns", [80, 132])
@pytest.mark.parametrize("name", sorted(CAUSES))
def test_why_has_cause_and_next_step(broken: dict[str, Instance], name: str, columns: int) -> None:
    said = memunit("why", name, columns=columns)
    assert max(map(len, said.splitlines())) <= columns, said
    words = " ".join(said.replace("|", " ").split()).lower()
    causes, step = CAUSES[name]
    assert any(cause.lower() in words for cause in causes.split("|")), said
    head, _, steps = words.partition("what you can do")
    assert step.lower() in steps, said
    assert head


def test_why_a_worker(broken: dict[str, Instance]) -> None:
    (first, *_) = broken["ceiling"].journal.find(ended(MEMUNIT_CAUSE="memory-ceiling"))
    said = memunit("why", "ceiling", first["MEMUNIT_WORKER_PID"])
    assert "ended, memory-ceiling" in said
    assert "raise ceiling in [memory]" in said
    assert "ended, memory-ceiling" in memunit("why", "ceiling", first["MEMUNIT_SLOT"])
    memunit("why", "ceiling", "999999999", code=69)


@pytest.mark.parametrize("name", ["leak", "hang"])
def test_status_of_one(broken: dict[str, Instance], name: str) -> None:
    for columns in (80, 132):
        said = memunit("status", name, columns=columns)
        assert "2 of 2 workers serve" in said
        assert said.count("running") >= 2, said


def test_history_and_report(broken: dict[str, Instance]) -> None:
    for columns in (80, 132):
        said = memunit("history", "leak", "--since", "30min", columns=columns)
        assert "memory-limit" in said
        assert "slot 0" in said
        assert "slot 1" in said
    page = memunit("report", "leak")
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<path class") >= 5
    assert "<script" not in page


def test_the_journal_may_not_be_read(broken: dict[str, Instance]) -> None:
    """By whoever is neither root nor of the group: the rest is shown."""
    done = run("setpriv", "--reuid=nobody", "--clear-groups", "memunit", "status", check=False)
    assert done.returncode == 77
    assert "leak" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "sudo" in done.stderr
    done = run("setpriv", "--reuid=nobody", "--clear-groups", "memunit", "why", "leak", check=False)
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.count("\n") == 1


def test_without_the_library_journalctl_is_read(broken: dict[str, Instance]) -> None:
    """A memunit from pip has no systemd-python as a rule: both ways give the same."""
    script = (
        "import sys; sys.modules['systemd'] = None\n"
        "from memunit.account.source import Journal\n"
        "for entry in Journal().entries('leak', 0): print(entry)"
    )
    by_program = run("python3", "-c", script).stdout
    by_library = run("python3", "-c", script.partition("\n")[2]).stdout
    assert "memory-limit" in by_program
    # The second may have more: a worker that was over its limit at the end is recycled still.
    assert by_library.startswith(by_program)


def test_a_master_that_hangs(broken: dict[str, Instance]) -> None:
    instance = broken["hang"]
    run("systemctl", "kill", "--kill-whom=main", "-s", "STOP", instance.service)
    try:
        said = memunit("why", "hang", columns=80, kept=False)
        assert "does not answer" in said
        assert "systemctl restart memunit@hang" in " ".join(said.split())
        memunit("status", "hang", code=69, kept=False)
    finally:
        run("systemctl", "kill", "--kill-whom=main", "-s", "CONT", instance.service)
    instance.journal.until(kind(Message.WORKER_READY.id))


def test_an_instance_that_does_not_run(broken: dict[str, Instance]) -> None:
    done = run("memunit", "status", "nosuch", check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.count("\n") == 1
    run("systemctl", "stop", broken["drain"].socket, broken["drain"].service)
    said = memunit("why", "drain", columns=80, kept=False)
    assert "systemctl enable --now memunit@drain.socket" in " ".join(said.split())
    assert run("memunit", "status", "drain", check=False).returncode == 69
