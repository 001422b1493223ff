"""The master's interface: what each method does, and what hostile clients can't do. docs/interface.md has the rules."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memunit.cli.link import Link
from memunit.core import varlink
from memunit.core.interfaces import INSTANCE
from memunit.core.varlink import DENIED, Refused
from memunit.master.clients import MOST, MOST_OF_OTHERS, MOST_OF_READERS
from tests.support import interpreters
from tests.support.harness import AS_NOBODY, NOBODY, Service, Unit
from tests.support.isolated import isolated
from tests.support.load import Load
from tests.support.wait import DEADLINE, read_line

pytest_plugins = ["tests.support.units"]

APP = {"run": "plain:app"}
LONG = 4 * DEADLINE


def path_of(unit: Unit) -> str:
    return str(unit.runtime / INSTANCE)


def served(unit: Unit, count: int = 2, **tables: Any) -> Service:
    """So many workers of an ASGI app."""
    app = {**APP, **tables.pop("app", {})}
    unit.write(app=app, workers={"count": count, **tables.pop("workers", {})}, **tables)
    service = unit.serve().ready()
    service.until(lambda: len(service.serving()) == count or None, "all workers")
    return service


def link(unit: Unit) -> Link:
    return Link(path_of(unit), DEADLINE)


def ask(unit: Unit, method: str, **parameters: Any) -> dict[str, Any]:
    """One call on a connection of its own."""
    with link(unit) as made:
        return made.call(method, parameters)


def lasting(worker: dict[str, Any]) -> dict[str, Any]:
    """What is told of a worker, but for what a sample between two questions changes."""
    sampled = ("memory", "sampledMonotonicUSec", "growth", "untilLimitUSec")
    return {name: value for name, value in worker.items() if name not in sampled}


def refused(unit: Unit, method: str, **parameters: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(Refused) as caught:
        ask(unit, method, **parameters)
    return caught.value.error, caught.value.parameters


def raw(unit: Unit) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(path_of(unit))
    made.settimeout(DEADLINE)
    return made


def receive(client: socket.socket) -> bytes:
    """Up to the next NUL byte, or the end."""
    data = b""
    while not data.endswith(b"\0"):
        block = client.recv(65536)
        if not block:
            break
        data += block
    return data


def hung_up(client: socket.socket) -> bool:
    """Wait until the master has ended the connection."""
    with contextlib.suppress(ConnectionResetError):
        while client.recv(65536):
            pass
    return True


def test_it_tells_what_there_is(unit: Unit) -> None:
    service = served(unit, memory={"limit": "300M", "ceiling": "400M"})
    instance = ask(unit, "Describe")["instance"]
    assert (instance["name"], instance["masterPid"]) == ("app", service.pid)
    assert (instance["count"], instance["fileCount"], instance["ready"]) == (2, 2, 2)
    assert (instance["limit"], instance["ceiling"]) == (300 << 20, 400 << 20)
    assert instance["settings"] == {}
    workers = ask(unit, "Workers")["workers"]
    assert {each["slot"]: each["pid"] for each in workers} == service.serving()
    assert {each["phase"] for each in workers} == {"running"}
    assert all(285 << 20 <= each["limit"] <= 300 << 20 for each in workers)
    (one,) = ask(unit, "Workers", slot=1)["workers"]
    assert one["slot"] == 1
    both = ask(unit, "Follow")
    assert list(map(lasting, both["workers"])) == list(map(lasting, ask(unit, "Workers")["workers"]))
    assert both["ends"] == []
    assert service.stop() == 0


def test_requests_in_work_are_told(unit: Unit) -> None:
    service = served(unit, 1)
    for _ in range(3):
        unit.get()
    with link(unit) as made, raw_http(unit, "/told?s=600"):
        made.follow("Follow")
        for told in made.replies(LONG):
            if told["workers"][0]["status"] == "slow":
                break
        (one,) = ask(unit, "Workers")["workers"]
        assert (one["requests"]["served"], one["requests"]["inWork"]) == (3, 1)
        assert one["requests"]["longestRoute"] == "GET /told"
        assert one["requests"]["longestUSec"] > 0
    service.send(signal.SIGKILL)
    service.exit_code()


def test_introspection(unit: Unit) -> None:
    service = served(unit, 1)
    info = ask(unit, "org.varlink.service.GetInfo")
    assert info["product"] == "memunit app"
    for name in info["interfaces"]:
        text = ask(unit, "org.varlink.service.GetInterfaceDescription", interface=name)["description"]
        assert f"interface {name}\n" in text
    assert ask(unit, "io.systemd.service.Ping") == {}
    environment = ask(unit, "io.systemd.service.GetEnvironment")["environment"]
    assert f"RUNTIME_DIRECTORY={unit.runtime}" in environment
    service.stop()


def test_errors_have_the_names_of_varlink(unit: Unit) -> None:
    service = served(unit, 1)
    of = "org.varlink.service"
    assert refused(unit, "io.example.Ping") == (f"{of}.InterfaceNotFound", {"interface": "io.example"})
    missing = (f"{of}.MethodNotFound", {"method": f"{INSTANCE}.Dance"})
    assert refused(unit, "Dance") == missing
    assert refused(unit, "Describe", slot=1) == (f"{of}.InvalidParameter", {"parameter": "slot"})
    for wrong in ("1", -1, True, 1.5, 1 << 40, [1]):
        assert refused(unit, "Scale", count=wrong) == (f"{of}.InvalidParameter", {"parameter": "count"})
    assert refused(unit, "Set", settings={}) == (f"{of}.InvalidParameter", {"parameter": "settings"})
    assert (
        refused(unit, f"{of}.GetInterfaceDescription", interface="io.example")[0] == f"{of}.InterfaceNotFound"
    )
    service.stop()


def test_recycle_one_and_all(unit: Unit) -> None:
    service = served(unit)
    before = service.serving()
    with Load(unit.target, clients=2, path="/", expect_prefix="ok ", rate=50, seconds=120) as load:
        (told,) = ask(unit, "Recycle", slot=1)["workers"]
        assert (told["pid"], told["wants"]) == (before[1], "requested")
        assert service.entry("ended", pid=before[1], timeout=LONG).cause == "requested"
        assert service.serving()[0] == before[0]
        second = service.serving()[1]
        assert len(ask(unit, "Recycle")["workers"]) == 2
        ends = [service.entry("ended", pid=pid, timeout=LONG) for pid in (before[0], second)]
    assert [each.cause for each in ends] == ["requested", "requested"]
    assert load.report().lost == 0
    # One after the other: the second is told to stop when the first has gone.
    first, last = sorted(ends, key=lambda each: each.place)
    assert first.place < service.entry("stopped", pid=last.pid).place
    error, parameters = refused(unit, "Recycle", slot=7)
    assert error == f"{INSTANCE}.NoSuchWorker"
    assert "slot 7" in parameters["reason"]
    service.expect(r"uid \d+ \(pid \d+\) has called Recycle \(1\.1\)", source="output")
    assert service.stop() == 0


def test_scale_is_until_the_next_reload(unit: Unit) -> None:
    service = served(unit, 1)
    assert ask(unit, "Scale", count=3) == {"count": 3}
    service.hear(r"^STATUS=3/3 workers.*until the next reload workers.count = 3")
    assert ask(unit, "Describe")["instance"]["settings"] == {"workers.count": "3"}
    assert refused(unit, "Scale", count=0) == (f"{INSTANCE}.CantScale", {"reason": "one worker is the least"})
    assert "1024" in refused(unit, "Scale", count=5000)[1]["reason"]
    with link(unit) as made:
        assert "Reloaded: 1 worker " in made.call("Reload", timeout=LONG)["text"]
    assert ask(unit, "Describe")["instance"]["settings"] == {}
    assert service.stop() == 0


def test_a_reload_that_fails_says_why_and_keeps_what_was_set(unit: Unit) -> None:
    service = served(unit, 1)
    ask(unit, "Scale", count=2)
    ask(unit, "Set", settings={"memory.patience": "7s"})
    service.hear(r"^STATUS=2/2 workers")
    good = unit.file.read_text()
    unit.file.write_text(good.replace("plain:app", "nowhere:app"))
    error, parameters = refused(unit, "Reload")
    assert error == f"{INSTANCE}.ReloadFailed"
    assert "nowhere" in parameters["reason"]
    unit.file.write_text("count = ")
    assert refused(unit, "io.systemd.service.Reload")[0] == f"{INSTANCE}.ReloadFailed"
    instance = ask(unit, "Describe")["instance"]
    assert instance["settings"] == {"workers.count": "2", "memory.patience": "7s"}
    assert (instance["count"], instance["fileCount"]) == (2, 1)
    assert service.stop() == 0


def test_set_takes_effect_on_the_workers_that_are_there(unit: Unit) -> None:
    """A limit below what the one that leaks holds recycles it; the others are spared."""
    memory = {"limit": "900M", "metric": "uss", "interval": "50ms", "patience": "100ms"}
    service = served(unit, 2, memory=memory, workers={"min_lifetime": 0})
    before = service.serving()
    with unit.client() as client:
        answer = client.get("/leak?kb=100000")
    leaker = set(before.values())
    assert answer.status == 200
    told = ask(unit, "Set", settings={"memory.limit": "90M"})
    assert told == {"settings": {"memory.limit": "90M"}}
    ended = service.entry("ended", timeout=LONG)
    assert ended.cause == "memory-limit"
    assert ended.pid in leaker
    assert all(
        each["limit"] <= 90 << 20 for each in ask(unit, "Workers")["workers"] if each["phase"] == "running"
    )
    service.hear(r"^STATUS=2/2 workers.*until the next reload memory.limit = 90M")
    assert service.stop() == 0


def test_systemd_is_told_at_once_of_what_a_person_has_changed(unit: Unit) -> None:
    """It was told within a second: the table that was asked for just after `memunit set` still had the file's limit."""
    service = served(unit, 1, memory={"limit": "300M", "ceiling": "400M"})
    limits = [f"{size}M" for size in range(291, 296)]
    for limit in limits:
        ask(unit, "Set", settings={"memory.limit": limit})
    ask(unit, "Scale", count=2)
    for limit in limits:
        service.hear(rf"^STATUS=1/1 workers.*until the next reload memory.limit = {limit}$")
    service.hear(r"^STATUS=1/2 workers.*until the next reload memory.limit = 295M, workers.count = 2$")
    assert service.stop() == 0


def test_set_is_validated_as_the_file_is(unit: Unit) -> None:
    service = served(unit, 1, memory={"limit": "300M", "ceiling": "400M"})

    def said(setting: str, value: str) -> str:
        error, parameters = refused(unit, "Set", settings={setting: value})
        assert error == f"{INSTANCE}.CantSet"
        return f"{parameters['setting']}: {parameters['reason']}"

    assert said("memory.limit", "500M").startswith("memory.limit: memory.limit: 500M is over")
    assert "not a size" in said("memory.limit", "lots")
    assert said("memory.limt", "1G") == "memory.limt: there is no such setting; did you mean memory.limit?"
    assert "change the file and reload" in said("stop.grace", "1s")
    assert "memunit scale" in said("workers.count", "3")
    assert "would be killed" in said("memory.ceiling", "1M") or "is over" in said("memory.ceiling", "1M")
    assert ask(unit, "Describe")["instance"]["settings"] == {}
    assert service.stop() == 0


def test_what_was_asked_for_outlives_the_master(unit: Unit) -> None:
    """By an execve(2) of it, and by a successor after SIGKILL."""
    service = served(unit, 1)
    ask(unit, "Scale", count=2)
    ask(unit, "Set", settings={"memory.limit": "700M"})
    kept = {"workers.count": "2", "memory.limit": "700M"}
    service.hear(r"^STATUS=2/2 workers")
    with link(unit) as made:
        made.follow("Follow")
        next(made.replies(DEADLINE))
        done = subprocess.run(
            ["/usr/bin/python3", "-m", "memunit.cli.main", "reexec", unit.name],
            env=unit.environment,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )
        assert done.returncode == 0, done
        # Who followed is hung up on, and no connection attempted meanwhile was refused.
        with pytest.raises(ConnectionResetError):
            for _ in made.replies(DEADLINE):
                pass
    instance = ask(unit, "Describe")["instance"]
    assert (instance["settings"], instance["count"], instance["ready"]) == (kept, 2, 2)
    service.send(signal.SIGKILL)
    assert service.exit_code() == -signal.SIGKILL
    second = unit.serve()
    second.hear("^READY=1")
    instance = ask(unit, "Describe")["instance"]
    assert (instance["settings"], instance["count"], instance["fileCount"]) == (kept, 2, 1)
    assert second.stop() == 0


def test_who_follows_hears_of_each_change(unit: Unit) -> None:
    service = served(unit)
    with link(unit) as made:
        made.follow("Follow")
        replies = made.replies(LONG)
        first = next(replies)
        assert {each["slot"] for each in first["workers"]} == {0, 1}
        pid = service.serving()[0]
        ask(unit, "Recycle", slot=0)
        ends: list[dict[str, Any]] = []
        for told in replies:
            ends += told["ends"]
            if ends:
                break
    assert [(each["slot"], each["generation"], each["cause"]) for each in ends] == [(0, 1, "requested")]
    assert f"pid {pid}" in ends[0]["text"]
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        ({"run": "plain:app", "preload": True}, "Task"),
        ({"run": "plain:app", "preload": False}, "Task"),
        ({"run": "plainwsgi:app", "server": "wsgi"}, "Thread"),
        ({"run": "asked:run", "server": "callable"}, "Thread"),
    ],
    ids=["zygote", "exec", "wsgi", "callable"],
)
def test_a_worker_writes_its_stacks_and_goes_on(unit: Unit, app: dict[str, Any], expected: str) -> None:
    unit.write(app=app, workers={"count": 2})
    service = unit.serve().ready()
    service.until(lambda: len(service.serving()) == 2 or None, "both")
    before = service.serving()
    for _ in range(3):
        stacks = ask(unit, "Stacks")["stacks"]
        assert {each["slot"]: each["pid"] for each in stacks} == before
        for each in stacks:
            assert "most recent call first" in each["text"], each
            assert expected in each["text"]
            assert "is MainThread" in each["text"], each
            assert each["complete"] is True
    assert service.serving() == before
    assert unit.get().startswith("ok")
    assert service.stop() == 0


def test_stacks_of_a_worker_that_hangs(unit: Unit) -> None:
    """Its main thread is in a system call for good: the threads are there all the same, and it is said."""
    unit.write(app={"run": "asked:run", "server": "callable"}, workers={"count": 1})
    service = unit.serve().ready()
    with raw_http(unit, "/stuck"):
        service.expect(r"^stuck \d+", source="output")
        # It may be asked before it is in that system call, and then it answers itself.
        for _ in range(20):
            (told,) = ask(unit, "Stacks")["stacks"]
            if not told["complete"]:
                break
    assert told["complete"] is False
    assert "_stuck" in told["text"]
    service.send(signal.SIGKILL)
    service.exit_code()


def test_all_who_ask_for_stacks_at_once_get_them(unit: Unit) -> None:
    """A worker has one file for its stacks: what one client has read must not be what another misses."""
    service = served(unit)
    askers = [raw(unit) for _ in range(12)]
    gone = raw(unit)
    for each in (gone, *askers):
        each.sendall(varlink.call(f"{INSTANCE}.Stacks"))
    gone.close()
    for each in askers:
        told, _ = varlink.answer(receive(each)[:-1])
        assert [one["complete"] for one in told["stacks"]] == [True, True]
        assert all("is MainThread" in one["text"] for one in told["stacks"])
    assert service.stop() == 0


def test_stacks_for_all_and_for_one_at_the_same_time(unit: Unit) -> None:
    """Each gets those that it has asked for, and no more."""
    service = served(unit)
    wanted = [{}, {"slot": 1}, {"slot": 0}, {}, {"slot": 1}]
    askers = [raw(unit) for _ in wanted]
    for each, parameters in zip(askers, wanted, strict=True):
        each.sendall(varlink.call(f"{INSTANCE}.Stacks", parameters))
    for each, parameters in zip(askers, wanted, strict=True):
        told, _ = varlink.answer(receive(each)[:-1])
        assert [one["slot"] for one in told["stacks"]] == ([parameters["slot"]] if parameters else [0, 1])
        assert all(one["complete"] and "is MainThread" in one["text"] for one in told["stacks"])
    assert service.stop() == 0


def test_two_who_ask_for_the_stacks_of_a_worker_that_hangs(unit: Unit) -> None:
    unit.write(app={"run": "asked:run", "server": "callable"}, workers={"count": 1})
    service = unit.serve().ready()
    with raw_http(unit, "/stuck"):
        service.expect(r"^stuck \d+", source="output")
        # It may be asked before it is in that system call, and then it answers itself.
        for _ in range(20):
            askers = [raw(unit), raw(unit)]
            for each in askers:
                each.sendall(varlink.call(f"{INSTANCE}.Stacks"))
            told = [varlink.answer(receive(each)[:-1])[0]["stacks"][0] for each in askers]
            if not told[0]["complete"]:
                break
    assert told[0] == told[1]
    assert told[0]["complete"] is False
    assert "_stuck" in told[0]["text"]
    service.send(signal.SIGKILL)
    service.exit_code()


def test_a_command_has_no_stacks_and_is_not_signalled(unit: Unit) -> None:
    unit.write(app={"command": ["/usr/bin/sleep", "1000"], "ready": "exec"}, workers={"count": 1})
    service = unit.serve().ready()
    error, parameters = refused(unit, "Stacks")
    assert error == f"{INSTANCE}.NoStacks"
    assert "Python" in parameters["reason"]
    assert service.entries("ended") == []
    assert service.stop() == 0


@contextlib.contextmanager
def raw_http(unit: Unit, path: str) -> Iterator[None]:
    """A request whose answer nobody waits for."""
    host, _, port = unit.target.rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        yield


# -- hostile clients -------------------------------------------------------------------------------------------


def test_a_message_in_pieces_and_several_in_one(unit: Unit) -> None:
    service = served(unit, 1)
    message = varlink.call("io.systemd.service.Ping")
    with raw(unit) as client:
        for byte in message:
            client.send(bytes([byte]))
        assert receive(client) == b'{"parameters":{}}\0'
        client.sendall(message * 3 + varlink.call(f"{INSTANCE}.Workers", {"slot": 9}))
        data = b""
        while data.count(b"\0") < 4:
            data += receive(client)
        assert data.split(b"\0")[:4] == [*[b'{"parameters":{}}'] * 3, b'{"parameters":{"workers":[]}}']
        client.sendall(
            varlink.call("io.systemd.service.Ping", oneway=True) + varlink.call(f"{INSTANCE}.Dance")
        )
        assert b"MethodNotFound" in receive(client)
    service.stop()


@pytest.mark.parametrize(
    "sent",
    [
        b"x" * (10 << 20),
        b'{"method":' + b"[" * 50000 + b"\0",
        b"no json\0",
        b"[]\0",
        b'{"method":5}\0',
        b'{"method":"io.systemd.service.Ping","parameters":[]}\0',
        b'{"method":"io.systemd.service.Ping","more":1}\0',
        b'{"method":"io.systemd.service.Ping","parameters":{"a":NaN}}\0',
        b'{"method":"' + b"x" * 70000 + b'"}\0',
        b"\xff\xfe\0",
        b"\0",
        b'{"method":"a","parameters":{"a":' + b"[" * 30 + b"]" * 30 + b"}}\0",
    ],
    ids=[
        "10 MB",
        "deep",
        "text",
        "array",
        "number",
        "parameters",
        "flag",
        "nan",
        "name",
        "utf-8",
        "empty",
        "nested",
    ],
)
def test_who_speaks_no_varlink_is_hung_up_on(unit: Unit, sent: bytes) -> None:
    service = served(unit, 1)
    with raw(unit) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(sent)
        assert hung_up(client)
    assert ask(unit, "io.systemd.service.Ping") == {}
    assert service.stop() == 0


def test_two_hundred_connections_keep_nobody_out(unit: Unit) -> None:
    service = served(unit, 1)
    silent = [raw(unit) for _ in range(200)]
    assert ask(unit, "io.systemd.service.Ping") == {}
    half = [raw(unit) for _ in range(20)]
    for client in half:
        client.sendall(b'{"method":')
    assert ask(unit, "io.systemd.service.Ping") == {}
    assert unit.get().startswith("ok")
    for client in [*silent, *half]:
        client.close()
    assert ask(unit, "io.systemd.service.Ping") == {}
    assert service.stop() == 0


def test_a_client_that_dies_in_the_middle(unit: Unit) -> None:
    service = served(unit, 1)
    for sent in (
        b'{"meth',
        varlink.call("Follow", more=True),
        varlink.call(f"{INSTANCE}.Reload"),
        varlink.call(f"{INSTANCE}.Stacks"),
    ):
        client = raw(unit)
        client.sendall(sent)
        client.close()
    service.entry("ended", timeout=LONG)
    assert ask(unit, "io.systemd.service.Ping") == {}
    assert service.stop() == 0


def test_who_does_not_read_loses_replies_and_is_told(unit: Unit) -> None:
    """Its queue is bounded; when it reads again, it is told how many replies it has missed."""
    service = served(unit, 1)
    with raw(unit) as slow, link(unit) as quick:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        flood = varlink.call("org.varlink.service.GetInterfaceDescription", {"interface": INSTANCE}) * 200
        slow.setblocking(False)
        # Far more replies than any buffer has room for: it is not listened to any more, and nobody else waits for it.
        with contextlib.suppress(BlockingIOError):
            for _ in range(50):
                slow.send(flood)
        for _ in range(5):
            assert quick.call("io.systemd.service.Ping") == {}
        rss = int(Path(f"/proc/{service.pid}/statm").read_text().split()[1]) * 4096
        assert rss < 60 << 20
    assert service.stop() == 0


@pytest.mark.skipif(not AS_NOBODY, reason="to become another user takes root")
def test_another_user_is_kept_out(open_unit: Unit) -> None:
    """By the mode of the socket; and by its credentials, where the mode would let it in."""
    unit = open_unit
    unit.write(app={"command": ["/usr/bin/sleep", "1000"], "ready": "exec"}, workers={"count": 1})
    service = unit.serve(prefix=AS_NOBODY).ready()
    path = Path(path_of(unit))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == NOBODY
    assert ask(unit, "io.systemd.service.Ping") == {}
    assert as_user(unit, NOBODY) == "{}"
    assert as_user(unit, 12345).startswith("PermissionError")
    path.chmod(0o666)
    assert as_user(unit, 12345) == DENIED
    assert ask(unit, "io.systemd.service.Ping") == {}
    assert service.stop() == 0


def as_user(unit: Unit, uid: int) -> str:
    """What this user gets for a ping."""
    reader, writer = os.pipe()

    def body() -> None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            said = str(ask(unit, "io.systemd.service.Ping"))
        except Refused as error:
            said = error.error
        except OSError as error:
            said = type(error).__name__
        os.write(writer, f"{said}\n".encode())

    thread = threading.Thread(target=isolated, args=(body,))
    thread.start()
    try:
        return read_line(reader)
    finally:
        thread.join(DEADLINE)
        os.close(reader)
        os.close(writer)


def test_a_second_client_understands_it(unit: Unit) -> None:
    """varlink's own package for Python: it reads the descriptions, and checks each reply against them."""
    python = interpreters.varlink()
    if python is None:
        pytest.skip("the package varlink cannot be installed here")
    service = served(unit, 1, memory={"limit": "500M"})
    code = f"""
import varlink
with varlink.Client("unix:{path_of(unit)}") as client:
    with client.open("{INSTANCE}") as instance, client.open("io.systemd.service") as systemd:
        print(instance.Describe()["instance"]["name"])
        print(len(instance.Workers()["workers"]))
        systemd.Ping()
        print(next(iter(instance.Follow(_more=True)))["instance"]["ready"])
    with client.open("{INSTANCE}") as instance:
        print(instance.Scale(2)["count"])
        print(instance.Set({{"memory.limit": "600M"}})["settings"]["memory.limit"])
        print(instance.Stacks()["stacks"][0]["complete"])
        try:
            instance.Scale(0)
        except varlink.VarlinkError as error:
            print(error.error())
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stderr
    said = ["app", "1", "1", "2", "600M", "True", f"{INSTANCE}.CantScale"]
    assert done.stdout.split("\n")[:-1] == said
    assert service.stop() == 0


def test_the_bounds_leave_room_for_root() -> None:
    assert MOST_OF_READERS < MOST_OF_OTHERS < MOST
