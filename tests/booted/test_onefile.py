"""One file is the truth: what it says of its units, systemd does after a daemon-reload. A broken one harms no other."""

from __future__ import annotations

import grp
import http.client
import os
import pwd
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import SECONDS, Instance, asgi, ended, kind, run

FOLDER = Path("/srv/onefile")
GENERATED = Path("/run/systemd/generator")
# Answers each connection with what it finds around it: without a server, it is up in a moment.
APP = """
import os, socket

def look():
    credential = os.environ.get("CREDENTIALS_DIRECTORY", "") + "/key"
    yield f"uid={os.getuid()} gid={os.getgid()} umask={os.umask(0o77):04o}"
    yield f"SECRET={os.environ.get('SECRET')} OTHER={os.environ.get('OTHER')}"
    yield "key=" + (open(credential).read() if os.path.exists(credential) else "")
    try:
        socket.create_connection(("127.0.0.1", 1)).close()
    except OSError as error:
        yield f"connect={error.errno}"
    try:
        open("/srv/onefile/data/file", "w").close()
        yield "written"
    except OSError as error:
        yield f"write={error.errno}"

told = "\\n".join(look()).encode()

def serve(sockets, stopping):
    import select, threading
    while not stopping.is_set():
        for sock in select.select(sockets, [], [], 0.2)[0]:
            sock.setblocking(False)
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                continue
            with connection:
                connection.setblocking(True)
                connection.recv(4096)
                head = f"HTTP/1.0 200 OK\\r\\nContent-Length: {len(told)}\\r\\n\\r\\n".encode()
                connection.sendall(head + told)
"""
BASE = f"""
[app]
run = "web:serve"
server = "callable"
directory = "{FOLDER}"
preload = false
[workers]
count = 1
"""


@pytest.fixture(scope="module", autouse=True)
def folder() -> Iterator[None]:
    """The app, with a folder that www-data may write to."""
    data = FOLDER / "data"
    data.mkdir(parents=True)
    os.chown(data, pwd.getpwnam("www-data").pw_uid, -1)
    (FOLDER / "web.py").write_text(APP)
    yield
    shutil.rmtree(FOLDER)


def ask(host: str, port: int = 0) -> str:
    """What the app answers there."""
    if port:
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    else:
        connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(SECONDS)
        connection.sock.connect(host)
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


WHOLE = f"""
{BASE}
[socket]
listen = ["127.0.0.1:8055", "[::1]:8055", "8056", "/run/one file/100%.sock", "@onefile"]
mode = "0660"
user = "www-data"
group = "games"
[memory]
ceiling = "100M"
[stop]
grace = "6min"
[service]
user = "www-data"
group = "games"
environment_files = ["/srv/onefile/a b.env", "-/srv/onefile/none.env"]
credentials = {{ key = "/srv/onefile/100%.key" }}
writable = ["/srv/onefile/data", "-/srv/\\"it's\\" 100%n"]
umask = "0027"
network = "local"
watchdog = "1min"
"""


@pytest.mark.native
def test_one_file_and_two_commands() -> None:
    (FOLDER / "a b.env").write_text("SECRET=of the file\n")
    (FOLDER / "a b.env").chmod(0o600)
    (FOLDER / "100%.key").write_text("value")
    (FOLDER / "100%.key").chmod(0o600)
    with Instance("onefile", WHOLE) as instance:
        checked = run("memunit", "check", "onefile")
        assert (
            "socket.listen: memunit@onefile.socket does not have the present settings of the file yet"
            in checked.stderr
        )
        assert "; systemctl daemon-reload\n" in checked.stderr
        # It is a daemon-reload too.
        run("systemctl", "enable", "--now", instance.socket)
        try:
            assert run("memunit", "check", "onefile").stderr == ""
            told = ask("127.0.0.1", 8055)
            user, group = pwd.getpwnam("www-data").pw_uid, grp.getgrnam("games").gr_gid
            assert told.splitlines() == [
                f"uid={user} gid={group} umask=0027",
                "SECRET=of the file OTHER=None",
                "key=value",
                "connect=97",  # EAFNOSUPPORT
                "written",
            ]
            places = (("::1", 8055), ("127.0.0.1", 8056), ("::1", 8056), ("/run/one file/100%.sock", 0))
            assert {ask(*place) for place in (*places, ("\0onefile", 0))} == {told}
            found = Path("/run/one file/100%.sock").stat()
            assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, user, group)
            names = ("MemoryMax", "TimeoutStopUSec", "WatchdogUSec", "DynamicUser", "NeedDaemonReload")
            assert instance.show(*names) == {
                "MemoryMax": str(225 << 20),  # one worker, one more during replacement, and the master
                "TimeoutStopUSec": "6min 30s",
                "WatchdogUSec": "1min",
                "DynamicUser": "no",
                "NeedDaemonReload": "no",
            }
            # systemd shows each path escaped once more, and drops what is not there only when it starts the service.
            assert "100%n" in instance.property("ReadWritePaths")
            assert "it's" in instance.property("ReadWritePaths")
            text = run("systemctl", "cat", instance.socket, instance.service).stdout
            for key in ("socket.listen", "socket.mode", "service.user", "service.network", "stop.grace"):
                assert f"# /etc/memunit/onefile.toml: {key}\n" in text
        finally:
            run("systemctl", "disable", instance.socket)


@pytest.mark.native
def test_a_broken_file_fails_with_its_message_and_harms_no_other() -> None:
    broken = '[app]\nrun = "web:serve"\n[socket]\nlisten = ["127.0.0.1:99999", "$HOME \\"%n\\""]\n'
    good = f'{BASE}[socket]\nlisten = ["127.0.0.1:8057"]\n'
    with Instance("onebroken", broken) as instance, Instance("onegood", good) as other:
        run("systemctl", "daemon-reload")
        other.listen()
        failed = run("systemctl", "start", instance.socket, check=False)
        assert failed.returncode != 0
        wanted = "socket.listen: '127.0.0.1:99999': port 99999 is over 65535; say one from 1 to 65535"
        entries = instance.journal.until(lambda each: wanted in str(each.get("MESSAGE")))
        assert entries[0]["SYSLOG_IDENTIFIER"] == "memunit@onebroken"
        instance.journal.until(lambda each: '$HOME "%n"' in str(each.get("MESSAGE")))
        assert instance.show("ActiveState", unit=instance.socket) == {"ActiveState": "failed"}
        assert wanted in run("systemctl", "status", instance.socket, check=False).stdout
        assert instance.systemctl("start", check=False).returncode != 0
        assert "uid=" in ask("127.0.0.1", 8057)
        # Mended, it needs what the message says.
        instance.write(f'{BASE}[socket]\nlisten = ["127.0.0.1:8058"]\n')
        run("systemctl", "daemon-reload")
        run("systemctl", "start", instance.socket)
        assert "uid=" in ask("127.0.0.1", 8058)
        # Broken while it runs: a daemon-reload for another's sake closes nothing.
        instance.systemctl("stop")
        instance.write("[socket\n")
        run("systemctl", "daemon-reload")
        listen = instance.show("Listen", "ActiveState", unit=instance.socket)
        assert listen == {"Listen": "127.0.0.1:8058 (Stream)", "ActiveState": "active"}
        assert "can't be used now" in run("systemctl", "cat", instance.socket).stdout
        assert instance.systemctl("start", check=False).returncode != 0
        instance.journal.until(kind(Message.CONFIGURATION.id))
        instance.write(f'{BASE}[socket]\nlisten = ["127.0.0.1:8058"]\n')
        instance.start()
        assert "uid=" in ask("127.0.0.1", 8058)


@pytest.mark.native
def test_a_group_reads_what_a_master_of_a_static_user_tells() -> None:
    """PrivateUsers=yes would hide the groups of callers, and /run/private is for root alone."""
    file = f'{BASE}[interface]\nread_group = "games"\n'
    told = "interface.read_group: has no effect with a dynamic user"
    daemon = ("setpriv", "--reuid=daemon", "--regid=daemon")
    member = (*daemon, f"--groups={grp.getgrnam('games').gr_gid}")
    stranger = (*daemon, "--clear-groups")
    with Instance("onedynamic", file) as instance:
        run("systemctl", "daemon-reload")
        instance.start()
        instance.journal.until(lambda each: told in str(each.get("MESSAGE")))
        assert told in run("memunit", "check", "onedynamic").stderr
        assert run(*member, "memunit", "top", "onedynamic", check=False).returncode == 77
    with Instance("onegroup", f'{file}[service]\nuser = "www-data"\n') as instance:
        run("systemctl", "daemon-reload")
        assert instance.property("PrivateUsers") == "no"
        instance.start()
        assert run("memunit", "check", "onegroup").stderr == ""
        for words in (("status", "onegroup"), ("top", "onegroup")):
            assert "onegroup: 1 of 1 worker serves, master " in run(*member, "memunit", *words).stdout
        assert run(*stranger, "memunit", "top", "onegroup", check=False).returncode == 77
        refused = run(*member, "memunit", "scale", "onegroup", "2", check=False)
        assert (refused.returncode, refused.stdout) == (77, "")
        assert "put sudo before the command" in refused.stderr
        assert "uid=" in ask("/run/memunit/onegroup.sock")


@pytest.mark.native
def test_a_drop_in_by_hand_wins_and_check_says_so() -> None:
    file = f'{BASE}[socket]\nlisten = ["127.0.0.1:8059"]\n[service]\numask = "0027"\n'
    with Instance("onehand", file, listen="127.0.0.1:8060", service="UMask=0022\n") as instance:
        instance.start()
        assert "umask=0022" in ask("127.0.0.1", 8060)
        checked = run("memunit", "check", "onehand")
        assert "  listen   127.0.0.1:8060\n" in checked.stdout
        hand = "/run/systemd/system/memunit@onehand"
        assert (
            f"socket.listen: ListenStream= of {hand}.socket.d/test.conf overrides this key" in checked.stderr
        )
        assert f"service.umask: UMask= of {hand}.service.d/test.conf overrides this key" in checked.stderr


@pytest.mark.native
def test_another_address_needs_a_restart_and_check_says_so() -> None:
    """systemd closes a socket whose unit says another address, and warns; what runs serves on."""
    with Instance("onemoved", f'{BASE}[socket]\nlisten = ["127.0.0.1:8061"]\n') as instance:
        run("systemctl", "daemon-reload")
        instance.start()
        instance.write(f'{BASE}[socket]\nlisten = ["127.0.0.1:8062"]\n')
        checked = run("memunit", "check", "onemoved").stderr
        assert f"yet; systemctl daemon-reload, then systemctl restart {instance.socket}\n" in checked
        run("systemctl", "daemon-reload")
        assert "uid=" in ask("127.0.0.1", 8061)
        said = run("memunit", "check", "onemoved").stderr
        assert f"{instance.socket} was started with older settings than the file has now" in said
        assert f"; systemctl restart {instance.socket};" in said
        run("systemctl", "restart", instance.socket)
        assert "uid=" in ask("127.0.0.1", 8062)
        assert run("memunit", "check", "onemoved").stderr == ""


@pytest.mark.native
def test_a_reload_has_the_variables_of_the_environment_files() -> None:
    """The service may not read them: systemd does, for the process of ExecReload=."""
    default, more = Path("/etc/memunit/oneenv.env"), FOLDER / "more.env"
    file = f'{BASE}[socket]\nlisten = ["127.0.0.1:8063"]\n[service]\nenvironment_files = ["{more}"]\n'
    default.write_text('SECRET="the first"\nOTHER=it\n')
    more.write_text("")
    try:
        for path in (default, more):
            path.chmod(0o600)
        with Instance("oneenv", file) as instance:
            run("systemctl", "daemon-reload")
            instance.start()
            assert "SECRET=the first OTHER=it\n" in ask("127.0.0.1", 8063)

            def replaced(count: int) -> None:
                """The old worker serves until its replacement is ready, and a moment longer."""
                instance.journal.until(ended(MEMUNIT_CAUSE="reload"), count)

            default.write_text("SECRET='the second'\n")
            # Not by systemd: it can't be read, and that is said.
            reloaded = run("memunit", "reload", "oneenv")
            replaced(1)
            assert f"{default}: changed, but not read again" in reloaded.stderr
            assert "systemctl reload memunit@oneenv applies the change" in reloaded.stderr
            assert "SECRET=the first OTHER=it\n" in ask("127.0.0.1", 8063)
            run("systemctl", "reload", instance.service)
            replaced(2)
            assert "SECRET=the second OTHER=None\n" in ask("127.0.0.1", 8063)
            assert run("memunit", "reload", "oneenv").stderr == ""
            replaced(3)
            assert "SECRET=the second OTHER=None\n" in ask("127.0.0.1", 8063)
            more.write_text("SECRET=the third\n")
            run("systemctl", "reload", instance.service)
            replaced(4)
            assert "SECRET=the third OTHER=None\n" in ask("127.0.0.1", 8063)
            # What a restart gives is not what the last reload had.
            more.write_text("")
            run("systemctl", "restart", instance.service)
            assert "SECRET=the second OTHER=None\n" in ask("127.0.0.1", 8063)
            # What only a restart does is said.
            instance.write(file + 'umask = "0027"\n')
            run("systemctl", "reload", instance.service)
            instance.journal.until(
                lambda each: "service.umask: has changed in the file" in str(each.get("MESSAGE"))
            )
    finally:
        default.unlink()


@pytest.mark.native
def test_a_dynamic_user_of_its_own_and_then_one_of_the_machine() -> None:
    with Instance(
        "One.User", f'{BASE}[socket]\nlisten = ["127.0.0.1:8064"]\n[service]\nuser = "dynamic"\n'
    ) as instance:
        run("systemctl", "daemon-reload")
        instance.start()
        first = ask("127.0.0.1", 8064)
        assert "uid=6" in first  # 61184 to 65519 are systemd's
        instance.systemctl("stop")
        instance.write(f'{BASE}[socket]\nlisten = ["127.0.0.1:8064"]\n[service]\nuser = "www-data"\n')
        run("systemctl", "daemon-reload")
        instance.start()
        assert f"uid={pwd.getpwnam('www-data').pw_uid} " in ask("127.0.0.1", 8064)


def test_vsock() -> None:
    """By the loopback of vsock(7), which is a module of the kernel."""
    loaded = run("modprobe", "vsock_loopback", check=False)
    assert loaded.returncode == 0, loaded.stderr
    file = asgi(workers='count = 1\n[socket]\nlisten = ["vsock::8065"]\n')
    file = file.replace("[workers]", 'environment = { UVICORN_LOOP = "asyncio" }\n[workers]')
    with Instance("onevsock", file) as instance:
        run("systemctl", "daemon-reload")
        instance.start()
        assert run("memunit", "check", "onevsock").stderr == ""
        with socket.socket(socket.AF_VSOCK) as client:
            client.settimeout(SECONDS)
            client.connect((1, 8065))
            client.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.native
def test_fifty_instances() -> None:
    """A figure, for whoever asks: generators hold up each daemon-reload, and the boot."""
    files = [Path(f"/etc/memunit/many{number}.toml") for number in range(50)]
    try:
        for file in files:
            file.write_text(WHOLE)
        started = time.monotonic()
        run("systemctl", "daemon-reload")
        print(f"daemon-reload with 50 new instances: {time.monotonic() - started:.3f} s")
        assert all((GENERATED / f"memunit@{file.stem}.socket.d/0-memunit.conf").exists() for file in files)
    finally:
        for file in files:
            file.unlink()
        run("systemctl", "daemon-reload")
    assert not any((GENERATED / f"memunit@{file.stem}.socket.d").exists() for file in files)
