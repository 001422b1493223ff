"""Where `memunit run` listens: both of localhost, the mode and the owner of a Unix socket, and what is not ours."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from memunit.master.sockets import Access, bind
from tests.process.test_run import ASKED, FOREGROUND, run
from tests.support.harness import AS_NOBODY, MEMUNIT, NOBODY, Unit
from tests.support.http import Client
from tests.support.namespaces import need_mount_namespace

pytest_plugins = ["tests.support.units"]

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
HAS_IPV6 = (
    Path("/proc/net/if_inet6").exists()
    and "00000000000000000000000000000001" in Path("/proc/net/if_inet6").read_text()
)


# -- localhost ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
def test_localhost_is_both_families_with_one_port(unit: Unit) -> None:
    service = run(unit, "--listen", "localhost:0", "--workers", "1", *ASKED)
    service.entry("ready")
    place = service.find(r"^memunit: Listening on 127\.0\.0\.1:(\d+)$")
    assert place is not None
    port = place.text.rpartition(":")[2]
    for target in (f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert service.find(rf"^memunit: Listening on {target}$".replace("[", r"\[")) is not None
        host, _, number = target.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(number))) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    assert service.stop() == 0


def test_vsock(unit: Unit) -> None:
    """tests/booted has a client, too, for which it takes a kernel with vsock's loopback."""
    try:
        socket.socket(socket.AF_VSOCK).close()
    except OSError:
        pytest.skip("no vsock here")
    address = f"vsock::{100_000 + os.getpid()}"
    service = run(unit, "--listen", address, "--workers", "1", *ASKED)
    service.entry("ready")
    assert service.find(rf"^memunit: Listening on {address}$") is not None
    assert service.stop() == 0


@AS_ROOT
def test_localhost_without_ipv6_is_127_0_0_1(unit: Unit) -> None:
    """In a network namespace whose loopback is down nobody has ::1."""
    need_mount_namespace()
    service = run(unit, "--listen", "localhost:0", "--workers", "1", *ASKED, prefix=("unshare", "--net"))
    service.entry("ready")
    assert [each.text for each in service.said if "Listening on" in each.text] == [
        service.expect(r"^memunit: Listening on 127\.0\.0\.1:\d+$").text
    ]
    assert service.stop() == 0


def test_a_port_of_localhost_that_is_taken_is_an_error(unit: Unit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        service = run(unit, "--listen", f"localhost:{port}", *ASKED)
        assert service.exit_code() == 71
        service.expect(f"--listen: can't listen on 127.0.0.1:{port}: address already in use; stop the other")


# -- the file of a Unix socket -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["0660", "666", "0600"])
def test_the_mode_of_a_unix_socket(unit: Unit, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "s"
    service = run(unit, "--listen", f"unix:{path}", "--socket-mode", mode, "--workers", "1", *ASKED)
    service.entry("ready")
    assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
    with Client(str(path)) as client:
        assert client.get().body.startswith(b"ok ")
    assert service.stop() == 0
    assert not path.exists()


@AS_ROOT
@pytest.mark.parametrize(("user", "group"), [("nobody", None), (None, "www-data"), (None, "33"), ("1", "1")])
def test_the_owner_of_a_unix_socket(unit: Unit, tmp_path: Path, user: str | None, group: str | None) -> None:
    path = tmp_path / "s"
    words = [*(("--socket-user", user) if user else ()), *(("--socket-group", group) if group else ())]
    service = run(unit, "--listen", str(path), "--socket-mode", "0660", *words, "--workers", "1", *ASKED)
    service.entry("ready")
    found = path.stat()
    uid = os.geteuid() if user is None else int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    gid = os.getegid() if group is None else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, 0o660)
    assert service.stop() == 0


@AS_ROOT
def test_the_socket_is_closed_to_all_until_it_has_its_owner(tmp_path: Path) -> None:
    """Each step that the kernel does on the file, in order: none is more open than what was asked for."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no strace, or it may trace nothing here")
    path = tmp_path / "s"
    code = (
        "import sys; from memunit.master.sockets import Access, bind; "
        f"bind(('unix', {str(path)!r}), Access(0o660, {NOBODY}, {NOBODY})); "
    )
    traced = subprocess.run(
        [
            "strace",
            "-e",
            "trace=umask,bind,listen,fchmodat,chmod,chown,fchownat,lchown",
            sys.executable,
            "-c",
            code,
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    steps = [line.split("(")[0] for line in traced.stderr.splitlines() if "(" in line]
    at = steps.index("bind")
    assert "umask(0777)" in traced.stderr.splitlines()[at - 1]
    changes = [step.removeprefix("f").removesuffix("at") for step in steps[at + 1 :] if step != "umask"]
    assert changes == ["chown", "chmod", "listen"]


def test_without_a_mode_it_is_what_the_umask_leaves(unit: Unit, tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = os.umask(0o027)
    try:
        service = run(unit, "--listen", str(path), "--workers", "1", *ASKED)
    finally:
        os.umask(before)
    service.entry("ready")
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--socket-group", "no-such"),
            '--socket-group: there is no group "no-such" on this machine; getent group',
        ),
        (
            ("--socket-user", "no-such"),
            '--socket-user: there is no user "no-such" on this machine; getent passwd',
        ),
        (("--socket-mode", "u=rw"), '--socket-mode: "u=rw" is not a mode in octal digits'),
    ],
)
def test_what_a_file_can_not_be_given(unit: Unit, tmp_path: Path, words: tuple[str, str], said: str) -> None:
    service = run(unit, "--listen", str(tmp_path / "s"), *words, *ASKED)
    assert service.exit_code() == 78
    service.expect(f"^memunit: command line: {said}")
    assert not (tmp_path / "s").exists()


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder as /tmp is, unlike tmp_path."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@AS_ROOT
@pytest.mark.parametrize("kind", ["user", "group"])
def test_only_root_gives_a_file_away(open_unit: Unit, everybodys: Path, kind: str) -> None:
    path = everybodys / "s"
    service = run(open_unit, "--listen", str(path), f"--socket-{kind}", "daemon", *ASKED, prefix=AS_NOBODY)
    assert service.exit_code() == 77
    said = f'uid {NOBODY} may not give {path} to {kind} "daemon": operation not permitted; only root may'
    service.expect(f"--socket-{kind}: {said}")
    assert not path.exists()


@AS_ROOT
def test_a_folder_that_may_not_be_written_is_no_matter_of_ports(open_unit: Unit, everybodys: Path) -> None:
    folder = everybodys / "shut"
    folder.mkdir(mode=0o755)
    service = run(open_unit, "--listen", str(folder / "s"), *ASKED, prefix=AS_NOBODY)
    assert service.exit_code() == 77
    service.expect(f"permission denied; let uid {NOBODY} write into {folder}, or choose another folder")


# -- inherited sockets that are not ours -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"LISTEN_PID": "1"},
            "LISTEN_PID is 1, so the sockets are for that process, and this process is [0-9]+",
        ),
        ({"LISTEN_PID": "4194305"}, "LISTEN_PID is 4194305, so the sockets are for that process"),
        ({}, "LISTEN_FDS is set, and LISTEN_PID is not"),
    ],
)
def test_sockets_of_another_process(unit: Unit, given: dict[str, str], said: str) -> None:
    environment = {**FOREGROUND, "LISTEN_FDS": "1", **given}
    service = unit.start(*MEMUNIT, "run", *ASKED, environment=environment, sockets=())
    assert service.exit_code() == 78
    service.expect(
        f"^memunit: environment: LISTEN_FDS: there is no socket to serve on: {said}.*; a shell or a wrapper in "
        "between has to exec memunit"
    )


def test_serve_names_the_cause_too(unit: Unit) -> None:
    unit.write(app={"run": "asked:run", "server": "callable"})
    service = unit.start(
        *MEMUNIT, "serve", "app", environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"}, sockets=()
    )
    service.expect("there is no socket to serve on: LISTEN_PID is 1, so the sockets are for that process")
    assert service.exit_code() == 78


def test_serve_says_where_a_socket_is_not_as_the_file_has_it(unit: Unit, tmp_path: Path) -> None:
    """The file of systemd's socket is systemd's."""
    path = tmp_path / "app.sock"
    listener = bind(("unix", str(path)), Access(0o666))
    unit.sockets = (("memunit@app.socket", listener),)
    try:
        said = {"listen": [str(path)], "mode": "0660", "user": str(os.geteuid()), "group": "65533"}
        unit.write(app={"run": "asked:run", "server": "callable"}, socket=said)
        service = unit.serve().ready()
        for key, value in (("mode", "0660"), ("group", "65533")):
            service.expect(
                f"socket.{key}: says {value}, but the socket unit has made {path} with another {key}; "
                "systemctl daemon-reload and systemctl restart memunit@app.socket"
            )
        assert service.find(r"socket\.user") is None
        assert service.find(r"socket\.listen") is None
        assert service.stop() == 0
    finally:
        listener.close()


# -- a working directory that has been removed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--listen", "127.0.0.1:0", *ASKED), 78),
        (("--listen", "127.0.0.1:0", "--", "./server"), 78),
        (("--listen", "./s", *ASKED), 78),
    ],
    ids=["app", "command", "listen"],
)
def test_in_a_folder_that_is_gone(unit: Unit, tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    prefix = ("sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh")
    service = run(unit, *words, prefix=prefix, directory=str(folder))
    assert service.exit_code() == code
    assert service.find("at fault") is None
    if "./s" in words:
        service.expect("--listen: './s' is not an absolute path")
    else:
        service.expect(
            "--directory: is not set, and the working directory of this process does not exist any more; cd to"
        )


def test_in_a_folder_that_is_gone_a_whole_path_will_do(unit: Unit, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    prefix = ("sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh")
    words = ("--listen", "127.0.0.1:0", "--workers", "1", "--ready", "exec", "--", "/bin/sleep", "infinity")
    service = run(unit, *words, prefix=prefix, directory=str(folder))
    service.entry("ready")
    assert service.stop() == 0
