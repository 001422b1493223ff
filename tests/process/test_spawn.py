"""Real processes: what a worker finds when it starts, how it ends, and what is left behind."""

import contextlib
import errno
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memunit.master import proctree, system
from memunit.master.afresh import FOR_THE_MASTER
from memunit.master.child import Launch
from memunit.master.held import Child, End, reap, reap_known
from memunit.master.spawn import fork_call, launch, open_descriptors
from tests.support.isolated import isolated
from tests.support.wait import DEADLINE, read_all, read_line, wait_end, wait_gone, wait_readable

TELL = """
import json, os, signal, sys
found = {}
for name in os.listdir("/proc/self/fd"):
    try:
        found[name] = os.readlink("/proc/self/fd/" + name)
    except OSError:
        pass
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "pid": os.getpid(), "pgid": os.getpgid(0), "fds": found, "environment": dict(os.environ), "cwd":
    os.getcwd(), "blocked": int(status["SigBlk"], 16), "ignored": int(status["SigIgn"], 16), "caught":
    int(status["SigCgt"], 16),
}))
"""
# Python itself ignores SIGPIPE and SIGXFSZ and catches SIGINT, so what a program finds is asked of one that
# does not.
STATUS = ("/bin/cat", "/proc/self/status")


@contextmanager
def stdout_to_pipe() -> Iterator[int]:
    """Descriptor 1 is a pipe for what is started in the block; gives the reading end."""
    reader, writer = os.pipe()
    saved = os.dup(1)
    os.dup2(writer, 1)
    os.close(writer)
    try:
        yield reader
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def output_of(what: Launch) -> tuple[Child, str]:
    with stdout_to_pipe() as reader:
        child = launch(what)
    try:
        text = read_all(reader)
    finally:
        os.close(reader)
    return child, text


def python(code: str, **more: Any) -> Launch:
    return Launch(argv=(sys.executable, "-S", "-c", code), environment={"PATH": os.environ["PATH"]}, **more)


def listener() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.setblocking(True)
    return made


def inode(descriptor: int) -> str:
    return f"socket:[{os.fstat(descriptor).st_ino}]"


def test_sockets_are_named_and_belong_to_the_child() -> None:
    with listener() as web, listener() as admin:
        child, text = output_of(
            python(TELL, sockets=(("web", web.fileno()), ("admin", admin.fileno())), watchdog_usec=1_500_000)
        )
        told = json.loads(text)
        assert wait_end(child) == End(child.pid, "exited", 0)
        assert told["fds"]["3"] == inode(web.fileno())
        assert told["fds"]["4"] == inode(admin.fileno())
    child.close()
    environment = told["environment"]
    assert told["pid"] == child.pid
    assert environment["LISTEN_PID"] == str(child.pid)
    assert environment["LISTEN_FDS"] == "2"
    assert environment["LISTEN_FDNAMES"] == "web:admin"
    assert environment["WATCHDOG_USEC"] == "1500000"
    assert environment["WATCHDOG_PID"] == str(child.pid)
    assert "NOTIFY_SOCKET" not in environment


def test_sources_that_lie_in_each_others_places() -> None:
    """3 and 4 hold the sockets in the wrong order, 5 one that comes first: a one-step dup would overwrite its
    source.
    """

    def body() -> None:
        made = [listener() for _ in range(3)]
        high = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 100) for one in made]
        os.closerange(3, 100)
        for place, source in zip((3, 4, 5), high, strict=True):
            os.dup2(source, place)
        child, text = output_of(python(TELL, sockets=(("c", 5), ("b", 4), ("a", 3))))
        told = json.loads(text)["fds"]
        assert [told["3"], told["4"], told["5"]] == [inode(5), inode(4), inode(3)]
        assert wait_end(child).status == 0

    isolated(body)


def test_nothing_else_is_inherited() -> None:
    leak = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        child, text = output_of(python(TELL))
    finally:
        os.close(leak)
    wait_end(child)
    child.close()
    fds = json.loads(text)["fds"]
    # listdir's own descriptor is gone when its link is read.
    assert set(fds) == {"0", "1", "2"}
    assert fds["0"] == "/dev/null"


def test_the_environment_is_the_given_one_without_what_systemd_means_for_the_master() -> None:
    given = {
        "PATH": os.environ["PATH"],
        "KEPT": "yes",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "LISTEN_FDS": "7",
        "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "x",
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
        "MAINPID": "1",
    }
    child, text = output_of(Launch(argv=("/usr/bin/env",), environment=given, notify_path="/run/ours"))
    wait_end(child)
    child.close()
    assert set(text.split()) == {f"PATH={os.environ['PATH']}", "KEPT=yes", "NOTIFY_SOCKET=/run/ours"}


@pytest.mark.parametrize(
    "names",
    [
        # FIELD B16: of the unit on Debian 13.
        ("MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"),
        ("CPU_PRESSURE_WATCH", "CPU_PRESSURE_WRITE", "IO_PRESSURE_WATCH", "IO_PRESSURE_WRITE"),
        ("MAINPID", "MAINPIDFDID", "MANAGERPID", "MANAGERPIDFDID", "LISTEN_PIDFDID", "SYSTEMD_EXEC_PID"),
        ("FDSTORE", "PIDFILE"),
        ("TRIGGER_UNIT", "TRIGGER_PATH", "TRIGGER_TIMER_REALTIME_USEC", "TRIGGER_TIMER_MONOTONIC_USEC"),
        ("MONITOR_UNIT", "MONITOR_SERVICE_RESULT", "MONITOR_EXIT_CODE", "MONITOR_EXIT_STATUS"),
    ],
)
@pytest.mark.parametrize("kind", ["program", "function"])
def test_none_of_systemds_words_to_the_master_reaches_a_worker(names: tuple[str, ...], kind: str) -> None:
    for_the_app = {
        "INVOCATION_ID": "1f",
        "JOURNAL_STREAM": "8:9",
        "CREDENTIALS_DIRECTORY": "/run/credentials/memunit@shop.service",
        "STATE_DIRECTORY": "/var/lib/memunit/shop",
    }
    given = {"PATH": os.environ["PATH"], **for_the_app, **dict.fromkeys(names, "1")}

    def tell() -> int:
        os.write(1, "".join(f"{name}={value}\n" for name, value in os.environ.items()).encode())
        return 0

    with stdout_to_pipe() as reader:
        what = Launch(argv=("/usr/bin/env",), environment=given)
        child = launch(what) if kind == "program" else fork_call(tell, what)
    text = read_all(reader)
    os.close(reader)
    wait_end(child)
    child.close()
    assert dict(line.split("=", 1) for line in text.split()) == {"PATH": os.environ["PATH"], **for_the_app}


def test_signals_are_at_their_defaults_and_unblocked_but_for_those_to_the_master() -> None:
    def body() -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        child, text = output_of(Launch(argv=STATUS, environment={}))
        wait_end(child)
        status = dict(line.split(":\t", 1) for line in text.splitlines())
        ignored = sum(1 << number - 1 for number in FOR_THE_MASTER)
        assert [int(status[key], 16) for key in ("SigBlk", "SigIgn", "SigCgt")] == [0, ignored, 0]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR1}

    isolated(body)


def test_a_signal_between_fork_and_exec_does_not_run_the_masters_handler() -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)

    def body() -> None:
        signal.signal(signal.SIGTERM, lambda *_: os.write(writer, b"x"))
        for _ in range(100):
            child = launch(Launch(argv=("/bin/sleep", "100"), environment={}))
            child.signal(signal.SIGTERM)
            assert wait_end(child) == End(child.pid, "killed", signal.SIGTERM)
            child.close()

    try:
        isolated(body)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def test_it_leads_a_process_group_of_its_own_in_its_directory(tmp_path: Path) -> None:
    child, text = output_of(python(TELL, directory=str(tmp_path)))
    wait_end(child)
    child.close()
    told = json.loads(text)
    assert told["pgid"] == told["pid"]
    assert told["cwd"] == str(tmp_path)


def test_exec_is_reported_without_waiting_for_it() -> None:
    child = launch(Launch(argv=("/bin/sleep", "100"), environment={}))
    wait_readable(child.exec_fd)
    assert child.executed()
    assert child.failure() is None
    child.kill_tree()
    assert wait_end(child) == End(child.pid, "killed", signal.SIGKILL)
    child.close()


@pytest.mark.parametrize(
    ("argv", "number"),
    [
        (("/nonexistent/program",), errno.ENOENT),
        (("no-such-program-on-the-path",), errno.ENOENT),
        (("/etc/passwd",), errno.EACCES),
        (("/bin/true\0",), errno.EINVAL),
    ],
)
def test_a_program_that_cannot_be_executed(argv: tuple[str, ...], number: int) -> None:
    child = launch(Launch(argv=argv, environment={"PATH": "/usr/bin:/bin"}))
    assert wait_end(child) == End(child.pid, "exited", 203)
    failure = child.failure()
    child.close()
    assert failure is not None
    assert failure.errno == number
    assert not child.executed()
    assert failure.strerror


def test_the_failure_names_the_program() -> None:
    child = launch(Launch(argv=("/nonexistent/program",), environment={}))
    wait_end(child)
    assert str(child.failure()) == "[Errno 2] No such file or directory: '/nonexistent/program'"
    child.close()


def test_a_directory_that_does_not_exist() -> None:
    child = launch(Launch(argv=("/bin/true",), environment={}, directory="/nonexistent"))
    assert wait_end(child) == End(child.pid, "exited", 200)
    failure = child.failure()
    child.close()
    assert failure is not None
    assert (failure.errno, failure.filename) == (errno.ENOENT, "/nonexistent")


def test_starting_a_sibling_leaves_the_mode_of_the_shared_socket_alone() -> None:
    """asyncio's accept in a running worker would block if a launch cleared O_NONBLOCK, which belongs to all
    holders.
    """
    with listener() as web:
        web.setblocking(False)
        child = launch(Launch(argv=("/bin/true",), environment={}, sockets=(("web", web.fileno()),)))
        wait_end(child)
        child.close()
        assert not os.get_blocking(web.fileno())


def test_no_descriptor_is_left_open() -> None:
    gc.collect()  # what a test before has left in a cycle is closed before it is counted
    before = open_descriptors()
    for argv in (("/bin/true",), ("/nonexistent",)):
        child = launch(Launch(argv=argv, environment={}))
        wait_end(child)
        child.close()
    assert open_descriptors() == before


def test_no_pid_no_process_when_descriptors_have_run_out() -> None:
    def body() -> None:
        import resource

        most = max(open_descriptors()) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with contextlib.suppress(OSError):
            while True:
                os.dup(0)
        with pytest.raises(OSError, match="Too many open files"):
            launch(Launch(argv=("/bin/sleep", "100"), environment={}))
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    isolated(body)


@pytest.mark.parametrize(
    ("function", "status"),
    [
        (lambda: 0, 0),
        (lambda: 7, 7),
        (lambda: sys.exit(5), 5),
        (lambda: sys.exit(None), 0),
        (lambda: sys.exit("no"), 1),
        (lambda: 1 // 0, 1),
    ],
)
def test_a_function_ends_with_its_status(function: object, status: int) -> None:
    child = fork_call(function, Launch(argv=(), environment={}))  # type: ignore[arg-type]
    assert wait_end(child) == End(child.pid, "exited", status)
    child.close()


def test_one_that_the_program_has_waited_for_itself_has_ended_all_the_same() -> None:
    """os.wait() in a thread of a program that has called memunit.run takes workers too."""
    child = fork_call(lambda: 3, Launch(argv=(), environment={}))
    assert os.waitpid(child.pid, 0) == (child.pid, 3 << 8)
    assert reap_known([child]) == [End(child.pid, "unknown", 0)]
    assert child.ended
    assert reap_known([child]) == []
    child.close()


def test_a_functions_exception_is_shown() -> None:
    def broken() -> int:
        os.dup2(1, 2)
        raise RuntimeError("the reason")

    def body() -> None:
        with stdout_to_pipe() as reader:
            child = fork_call(broken, Launch(argv=(), environment={}))
        text = read_all(reader)
        assert "Traceback" in text
        assert text.endswith("RuntimeError: the reason\n")
        assert wait_end(child).status == 1

    isolated(body)


def test_a_function_finds_what_a_program_finds() -> None:
    with listener() as web:
        expected = inode(web.fileno())

        def function() -> int:
            os.write(
                1,
                json.dumps(
                    {
                        "fds": {
                            name: os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
                            for name in map(str, open_descriptors())
                        },
                        "environment": dict(os.environ),
                        "pipe": int(signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN),
                        "term": int(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL),
                    }
                ).encode(),
            )
            return 0

        with stdout_to_pipe() as reader:
            child = fork_call(
                function, Launch(argv=(), environment={"A": "b"}, sockets=(("web", web.fileno()),))
            )
        told = json.loads(read_all(reader))
    os.close(reader)
    wait_end(child)
    child.close()
    assert set(told["fds"]) == {"0", "1", "2", "3"}
    assert told["fds"]["0"] == "/dev/null"
    assert told["fds"]["3"] == expected
    assert told["environment"] == {
        "A": "b",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "web",
        "LISTEN_PID": str(child.pid),
    }
    assert told["pipe"] == 1
    assert told["term"] == 1


def test_a_function_keeps_what_the_calling_program_had_open() -> None:
    with open("/dev/zero", "rb") as theirs, listener() as web:  # noqa: PTH123  the descriptor is the point
        kept = open_descriptors()
        with open("/dev/full", "rb") as ours:  # noqa: PTH123

            def function() -> int:
                assert "LISTEN_FDS" not in os.environ
                assert os.fstat(theirs.fileno()).st_rdev == os.stat("/dev/zero").st_rdev  # noqa: PTH116
                assert web.getsockname()[0] == "127.0.0.1"
                try:
                    os.fstat(ours.fileno())
                except OSError as error:
                    return error.errno or 0
                return 0

            child = fork_call(
                function,
                Launch(argv=(), environment={}, sockets=(("web", web.fileno()),)),
                keep=kept - {web.fileno()},
            )
            assert wait_end(child) == End(child.pid, "exited", errno.EBADF)
            child.close()


FAMILY = """
import os, signal, sys
def tell(who):
    os.write(1, f"{who} {os.getpid()}\\n".encode())
if os.fork() == 0:
    tell("group")
    signal.pause()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        tell("grandchild")
        signal.pause()
    tell("session")
    signal.pause()
# Not pause(): one that comes right before it would be seen after the next.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
tell("main")
signal.sigwait((signal.SIGTERM,))
os._exit(0)
"""


ORPHAN = "import os\nif os.fork() == 0:\n    print(os.getpid(), flush=True)"


def family() -> tuple[Child, dict[str, int]]:
    with stdout_to_pipe() as reader:
        child = launch(python(FAMILY))
    told = dict(read_line(reader).split() for _ in range(4))
    os.close(reader)
    return child, {who: int(pid) for who, pid in told.items()}


def test_kill_tree_reaches_other_sessions() -> None:
    child, pids = family()
    assert sorted(proctree.descendants(child.pid)) == sorted(set(pids.values()) - {child.pid})
    child.kill_tree()
    assert wait_end(child) == End(child.pid, "killed", signal.SIGKILL)
    for pid in pids.values():
        wait_gone(pid)
    child.close()


def test_reaping_kills_what_is_left_of_the_process_group() -> None:
    child, pids = family()
    child.signal(signal.SIGTERM)
    assert wait_end(child) == End(child.pid, "exited", 0)
    wait_gone(pids["group"])
    child.close()
    for who in ("session", "grandchild"):
        os.kill(pids[who], signal.SIGKILL)


def test_after_its_end_a_child_is_never_signalled_again() -> None:
    """Its number may be somebody else's; here it is made so, as far as the process group goes."""
    child = launch(Launch(argv=("/bin/true",), environment={}))
    wait_end(child)
    assert child.ended
    assert not child.signal(signal.SIGTERM)
    bystander = launch(Launch(argv=("/bin/sleep", "100"), environment={}))
    impostor = Child(pid=bystander.pid, pidfd=child.pidfd, exec_fd=child.exec_fd, ended=True)
    impostor.kill_tree()
    bystander.signal(signal.SIGTERM)
    assert wait_end(bystander) == End(bystander.pid, "killed", signal.SIGTERM)
    child.close()
    bystander.close()


def test_a_signal_to_a_zombie_is_harmless() -> None:
    child = launch(Launch(argv=("/bin/true",), environment={}))
    wait_readable(child.pidfd)
    child.signal(signal.SIGTERM)
    child.kill_tree()
    assert wait_end(child) == End(child.pid, "exited", 0)
    child.close()


def test_reap_tells_children_from_strays() -> None:
    def body() -> None:
        system.set_child_subreaper()
        children: dict[int, Child] = {}
        for argv in (("/bin/true",), ("/bin/false",), ("/bin/sleep", "100")):
            child = launch(Launch(argv=argv, environment={}))
            children[child.pid] = child
        ok, failed, sleeping = children
        with stdout_to_pipe() as reader:
            parent = launch(python(ORPHAN))
        stray = int(read_line(reader))
        for pid in (ok, failed):
            wait_readable(children[pid].pidfd)
        wait_readable(parent.pidfd)
        wait_gone(stray)
        ends: dict[int, End] = {}
        strays: list[int] = []
        children[parent.pid] = parent
        pidfd = children[sleeping].pidfd
        children[sleeping].signal(signal.SIGSEGV)
        wait_readable(pidfd)
        until = time.monotonic() + DEADLINE
        while len(ends) + len(strays) < 5 and time.monotonic() < until:
            new, others = reap(children.get)
            ends |= {end.pid: end for end in new}
            strays += others
        assert ends[ok] == End(ok, "exited", 0)
        assert ends[failed] == End(failed, "exited", 1)
        assert ends[sleeping].code in ("killed", "dumped")
        assert ends[sleeping].status == signal.SIGSEGV
        assert strays == [stray]
        assert reap(children.get) == ([], [])

    isolated(body)


def test_the_worker_ends_with_the_master_where_that_is_asked_for() -> None:
    reader, writer = os.pipe()

    def body() -> None:
        child = launch(Launch(argv=("/bin/sleep", "100"), environment={}, parent_death_signal=signal.SIGKILL))
        wait_readable(child.exec_fd)
        os.write(writer, f"{child.pid}\n".encode())

    isolated(body)
    wait_gone(int(read_line(reader)))
    os.close(reader)
    os.close(writer)


def test_kill_leaves_strangers_alone() -> None:
    assert not proctree.kill(1, 0)
    assert not proctree.kill(os.getppid(), 0)
    child = launch(Launch(argv=("/bin/sleep", "100"), environment={}))
    assert proctree.kill(child.pid)
    assert wait_end(child) == End(child.pid, "killed", signal.SIGKILL)
    assert not proctree.kill(child.pid)
    child.close()


def test_who_descends_from_whom() -> None:
    child, pids = family()
    assert proctree.parent_of(pids["grandchild"]) == pids["session"]
    assert proctree.is_descendant(pids["grandchild"], {child.pid: 1}) == child.pid
    assert proctree.is_descendant(child.pid, {child.pid, os.getpid()}) == child.pid
    assert proctree.is_descendant(1, {child.pid}) is None
    child.kill_tree()
    wait_end(child)
    assert proctree.parent_of(child.pid) is None
    assert proctree.descendants(child.pid) == []
    child.close()
