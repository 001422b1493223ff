"""What the journal receives, with a socket in journald's place, and what a person reads on stderr."""

import ctypes
import fcntl
import os
import pty
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memunit.master.journal import Log, stderr_is_journal
from tests.support.isolated import isolated
from tests.support.namespaces import enter_mount_namespace, need_mount_namespace
from tests.support.wait import read_all, wait_readable

JOURNAL = "/run/systemd/journal/socket"
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MESSAGE_ID = "0123456789abcdef0123456789abcdef"


def journald() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(JOURNAL)
    return made


def in_place_of_journald(body: Callable[[socket.socket], None]) -> None:
    """Run `body` with a /run of its own, where journald's socket is ours."""
    if os.getuid() == 0:
        need_mount_namespace()

    def isolate() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        user = os.getuid()
        if user:
            assert libc.unshare(CLONE_NEWNS | CLONE_NEWUSER) == 0, os.strerror(ctypes.get_errno())
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            assert libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
        else:
            enter_mount_namespace()
        assert libc.mount(b"none", b"/run", b"tmpfs", 0, None) == 0
        Path(JOURNAL).parent.mkdir(parents=True)
        # What would block for ever is ended by the kernel.
        signal.alarm(120)
        with journald() as journal:
            body(journal)

    isolated(isolate)


def entry(journal: socket.socket) -> dict[str, str]:
    """One datagram of journald's native protocol."""
    wait_readable(journal.fileno())
    rest = journal.recv(1 << 20)
    fields = {}
    while rest:
        line, _, rest = rest.partition(b"\n")
        name, assigned, value = line.partition(b"=")
        if not assigned:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[9 + length :]
        fields[name.decode()] = value.decode()
    return fields


def stderr_pipe() -> int:
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    return reader


def test_a_native_entry_has_its_fields() -> None:
    def body(journal: socket.socket) -> None:
        fields = {"MEMUNIT_SLOT": 1, "MEMUNIT_CAUSE": "memory-limit", "MEMUNIT_NONE": None}
        line = sys._getframe().f_lineno + 1
        Log("shop", native=True).send("worker 1 recycled", MESSAGE_ID, 5, **fields)
        found = entry(journal)
        assert int(found.pop("CODE_LINE")) == line
        assert found == {
            "MESSAGE": "worker 1 recycled",
            "MESSAGE_ID": MESSAGE_ID,
            "PRIORITY": "5",
            "SYSLOG_IDENTIFIER": "memunit@shop",
            "MEMUNIT_INSTANCE": "shop",
            "MEMUNIT_SLOT": "1",
            "MEMUNIT_CAUSE": "memory-limit",
            "CODE_FILE": __file__,
            "CODE_FUNC": "body",
        }

    in_place_of_journald(body)


def test_several_lines_and_any_characters_arrive() -> None:
    def body(journal: socket.socket) -> None:
        Log("ä", native=True).send("one\ntwo = \u4f60 \udcff", None, 3, MEMUNIT_PATH="/srv/\udce4")
        found = entry(journal)
        assert found["MESSAGE"] == "one\ntwo = \u4f60 \\udcff"
        assert found["MEMUNIT_PATH"] == "/srv/\\udce4"
        assert found["MEMUNIT_INSTANCE"] == "ä"
        assert "MESSAGE_ID" not in found

    in_place_of_journald(body)


def test_a_journal_that_does_not_read_never_blocks() -> None:
    def body(journal: socket.socket) -> None:
        reader = stderr_pipe()
        log = Log("shop", native=True)
        sent = 0
        while not os.get_blocking(reader) or not _ready(reader):
            log.send(f"entry {sent}")
            sent += 1
            assert sent < 100_000
        received = 0
        while _ready(journal.fileno()):
            entry(journal)
            received += 1
        assert received == sent - 1
        assert os.read(reader, 100) == f"memunit: entry {sent - 1}\n".encode()
        log.send("again")
        assert entry(journal)["MESSAGE"] == "again"

    in_place_of_journald(body)


def _ready(descriptor: int) -> bool:
    try:
        wait_readable(descriptor, 0)
    except TimeoutError:
        return False
    return True


def test_a_journal_that_is_started_anew_is_found_again() -> None:
    def body(journal: socket.socket) -> None:
        reader = stderr_pipe()
        log = Log("shop", native=True)
        log.send("before")
        assert entry(journal)["MESSAGE"] == "before"
        journal.close()
        log.send("nobody listens")
        Path(JOURNAL).unlink()
        log.send("nothing is there")
        os.dup2(1, 2)
        assert read_all(reader) == "memunit: nobody listens\nmemunit: nothing is there\n"
        with journald() as second:
            log.send("after")
            assert entry(second)["MESSAGE"] == "after"
        log.close()

    in_place_of_journald(body)


def test_in_the_foreground_a_line_is_for_a_person() -> None:
    def body() -> None:
        reader = stderr_pipe()
        log = Log("shop", native=False)
        log.send("2/2 workers ready", MESSAGE_ID, 6, MEMUNIT_SLOT=1)
        log.send("worker 1 was\nkilled", MESSAGE_ID, 4)
        log.send("no memory for \udcff", MESSAGE_ID, 3)
        log.send("x" * 10_000)
        os.dup2(1, 2)
        lines = read_all(reader).splitlines()
        assert lines[:3] == [
            "memunit: 2/2 workers ready",
            "memunit: warning: worker 1 was killed",
            "memunit: error: no memory for \\udcff",
        ]
        assert len(lines[3]) == 4095
        assert len(lines) == 4

    isolated(body)


def test_a_reader_that_is_gone_does_not_kill_us() -> None:
    def body() -> None:
        os.close(stderr_pipe())
        Log("shop", native=False).send("nobody reads this")
        os.close(2)
        Log("shop", native=False).send("nor this")

    isolated(body)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_reader_that_has_stopped_does_not_stop_us(terminal: bool) -> None:
    def body() -> None:
        signal.alarm(120)
        if terminal:
            _, end = pty.openpty()
            os.dup2(end, 2)
        else:
            fcntl.fcntl(stderr_pipe(), fcntl.F_SETPIPE_SZ, 8192)
        log = Log("shop", native=False)
        for _ in range(1000):
            log.send("y" * 200)

    isolated(body)


@pytest.mark.skipif(os.getuid() != 0, reason="to be another user, one has to be root first")
def test_on_the_terminal_of_another_user_it_speaks_all_the_same() -> None:
    """As after su(1): /proc/self/fd/2 can't be opened."""

    def body() -> None:
        signal.alarm(120)
        ours, theirs = pty.openpty()
        os.fchmod(theirs, 0o600)
        os.dup2(theirs, 2)
        os.setuid(65534)
        with pytest.raises(PermissionError):
            os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NOCTTY)
        log = Log("shop", native=False)
        log.send("2/2 workers ready")
        assert os.read(ours, 100) == b"memunit: 2/2 workers ready\r\n"
        for _ in range(1000):
            log.send("y" * 200)
        assert os.get_blocking(2)

    isolated(body)


def test_whether_stderr_is_the_journal(tmp_path: Path) -> None:
    def body() -> None:
        ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        os.dup2(ours.fileno(), 2)
        found = os.fstat(2)
        for value, expected in (
            (f"{found.st_dev}:{found.st_ino}", True),
            (f"{found.st_dev}:{found.st_ino + 1}", False),
            ("", False),
            ("x:y", False),
            ("1", False),
        ):
            os.environ["JOURNAL_STREAM"] = value
            assert stderr_is_journal() is expected
            assert Log("shop").native is expected
        os.environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
        # `2>FILE` in a unit's shell: the variable is still there, the stream is not.
        os.dup2(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT), 2)
        assert not stderr_is_journal()

    isolated(body)


def test_a_service_that_starts_while_journald_is_stopped_has_entries_later() -> None:
    """systemd gives it /dev/null then, and its master was silent for life."""

    def body() -> None:
        os.environ.pop("JOURNAL_STREAM", None)
        ours, _ = os.pipe()
        null = os.open(os.devnull, os.O_WRONLY)
        for descriptor, pid, expected in (
            (null, os.getpid(), True),
            # In a terminal of a service, or by a shell of one.
            (null, os.getppid(), False),
            (ours, os.getpid(), False),
        ):
            os.dup2(descriptor, 2)
            os.environ["SYSTEMD_EXEC_PID"] = str(pid)
            assert Log("shop").native is expected

    isolated(body)
