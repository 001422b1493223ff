"""The package's life on a real system: installing, serving, upgrading under load, removing, purging.

Each test finds the package installed and nothing of it running, and leaves it so.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.load import Load
from tests.support.wait import wait_readable

pytestmark = pytest.mark.native
DEB = os.environ.get("MEMUNIT_DEB", "/payload/memunit.deb")
DEMO = ("127.0.0.1", 8010)
URL = f"http://{DEMO[0]}:{DEMO[1]}"
SECONDS = 180


def run(*command: str, check: bool = True) -> str:
    """Standard output; what a failed command said is in the error."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def shown(unit: str, name: str) -> str:
    """One property of a unit."""
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


def units(*options: str) -> list[str]:
    """Instances that are active or failed; with "--all", whatever systemd has heard of."""
    text = run("systemctl", "list-units", *options, "--plain", "--no-legend", "memunit@*")
    return [line.split()[0] for line in text.splitlines()]


def get(path: str) -> tuple[int, str]:
    """Status and body."""
    with urllib.request.urlopen(f"{URL}{path}", timeout=SECONDS) as answer:
        return answer.status, answer.read().decode()


def refused() -> bool:
    """Whether nobody listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(DEMO) != 0


def install() -> None:
    """As `apt install` would, without its index."""
    run("dpkg", "-i", DEB)


def stop() -> None:
    """No instance runs, and none has failed."""
    run("systemctl", "stop", "memunit@*.socket", "memunit@*.service")
    run("systemctl", "reset-failed", "memunit@*", check=False)


def remove(how: str) -> None:
    """By dpkg, which warns of no folder that it leaves but the one of README.Debian, which is other packages' too."""
    done = subprocess.run(
        ["dpkg", how, "memunit"],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    left = re.findall(r"directory '([^']*)' not empty", done.stderr)
    assert left in ([], ["/usr/lib/systemd/system-generators"]), done.stderr
    if left:
        # Debian 12 alone has two names for it, and its other packages use the old one.
        assert "bookworm" in Path("/etc/os-release").read_text()
        assert list(Path("/lib/systemd/system-generators").iterdir())


def purge() -> None:
    """Nothing of it, whatever the state that it was in."""
    remove("--purge")


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    stop()
    yield
    if run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "memunit", check=False).strip() != "ii":
        install()
    stop()


def test_installing_starts_and_enables_nothing() -> None:
    purge()
    # systemd forgets a unit that has ended when it comes round.
    before = units("--all")
    install()
    assert units() == []
    assert set(units("--all")) <= set(before)
    assert list(Path("/etc/systemd/system").rglob("*memunit*")) == []
    assert refused()
    assert not Path("/run/memunit").exists()


def test_the_demo_serves_on_its_one_port_after_its_first_connection() -> None:
    run("systemctl", "start", "memunit@demo.socket")
    assert shown("memunit@demo.service", "ActiveState") == "inactive"
    assert shown("memunit@demo.socket", "Listen") == "127.0.0.1:8010 (Stream)"
    assert not Path("/run/memunit/demo.sock").exists()
    assert re.fullmatch(r"ok \d+\n", get("/")[1])
    # Joins the start that the connection has begun: the first worker answers before the last is ready.
    run("systemctl", "start", "memunit@demo.service")
    assert shown("memunit@demo.service", "NRestarts") == "0"
    master = shown("memunit@demo.service", "MainPID")
    assert Path(f"/proc/{master}").stat().st_uid not in (0, 65534)
    assert re.fullmatch(r"rss \d+\n", get("/rss")[1])
    # By the pid of whoever has answered: how the requests fall to the workers, nobody knows.
    worker = get("/leak?kb=65536")[1].split()[1]
    assert int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >= 64 << 20


@pytest.mark.parametrize("name", ["demo", "foreground"])
def test_what_autopkgtest_runs(name: str, tmp_path: Path) -> None:
    """debian/tests, as it is run on the package as it is installed."""
    run("env", f"AUTOPKGTEST_TMP={tmp_path}", f"{Path(DEB).parent}/autopkgtest/{name}")


def test_what_is_said_to_the_apps_python_is_not_said_to_the_master() -> None:
    """Such as a folder with a module by a name that the master imports."""
    folder, said = Path("/opt/memunit-path"), Path("/etc/memunit/demo.env")
    folder.mkdir()
    (folder / "psutil.py").write_text("raise SystemExit(3)\n")
    said.write_text(f"PYTHONPATH={folder}\n")
    try:
        run("systemctl", "start", "memunit@demo.socket", "memunit@demo.service")
        assert re.fullmatch(r"ok \d+\n", get("/")[1])
        run("systemctl", "reload", "memunit@demo.service")
        assert shown("memunit@demo.service", "NRestarts") == "0"
        worker = int(get("/")[1].split()[1])
        assert f"PYTHONPATH={folder}".encode() in Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    finally:
        said.unlink()
        shutil.rmtree(folder)


def test_who_may_not_ask_for_a_reload_is_told_who_may() -> None:
    run("systemctl", "start", "memunit@demo.socket", "memunit@demo.service")
    plain = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    asked = subprocess.run([*plain, "memunit", "reload", "demo"], check=False, capture_output=True, text=True)
    assert asked.returncode == 77
    who = "/run/memunit/demo/control is for root and the service's own user"
    assert asked.stderr == f"memunit: demo can't be reloaded: {who}: sudo systemctl reload memunit@demo\n"
    run("systemctl", "reload", "memunit@demo.service")


def test_the_default_socket_is_a_path_that_goes_with_the_unit() -> None:
    run("systemctl", "start", "memunit@other.socket")
    assert shown("memunit@other.socket", "Listen") == "/run/memunit/other.sock (Stream)"
    assert Path("/run/memunit/other.sock").is_socket()
    run("systemctl", "stop", "memunit@other.socket")
    assert not Path("/run/memunit/other.sock").exists()


def test_verify_is_silent_about_the_installed_units() -> None:
    for unit in ("memunit@demo.service", "memunit@demo.socket"):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", unit],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_journal_explains_the_entries() -> None:
    run("systemctl", "start", "memunit@demo.service")
    run("journalctl", "--sync")
    text = run("journalctl", "-o", "json", "-n", "50", "-u", "memunit@demo", "MEMUNIT_INSTANCE=demo")
    entries = [json.loads(line) for line in text.splitlines()]
    ids = {entry["MESSAGE_ID"] for entry in entries if "MESSAGE_ID" in entry}
    assert ids
    listed = run("journalctl", "--list-catalog", *sorted(ids))
    assert {line.split()[0] for line in listed.splitlines()} == ids


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Callable[[str, str, str], None]]:
    """Puts an example of the package's into effect for memunit@demo.service, with one text replaced."""
    place = Path("/run/systemd/system/memunit@demo.service.d")

    def use(name: str, old: str, new: str) -> None:
        run("dpkg-deb", "--extract", DEB, str(tmp_path))
        text = (tmp_path / "usr/share/doc/memunit/examples" / name).read_text()
        assert old in text
        place.mkdir(parents=True)
        (place / name).write_text(text.replace(old, new))
        run("systemctl", "daemon-reload")

    yield use
    run("systemctl", "stop", "memunit@demo.socket", "memunit@demo.service")
    shutil.rmtree(place)
    run("systemctl", "daemon-reload")


def test_with_the_strict_drop_in_it_serves_tcp(example: Callable[[str, str, str], None]) -> None:
    example("strict.conf", "PrivateNetwork=yes", "PrivateNetwork=yes")
    run("systemctl", "start", "memunit@demo.service")
    assert get("/")[1].startswith("ok ")
    master = shown("memunit@demo.service", "MainPID")
    assert Path(f"/proc/{master}/ns/net").readlink() != Path("/proc/1/ns/net").readlink()
    run("systemctl", "reload", "memunit@demo.service")
    assert get("/")[1].startswith("ok ")


def test_with_the_static_user_drop_in_it_runs_as_that_user(example: Callable[[str, str, str], None]) -> None:
    user = pwd.getpwnam("games")
    run("systemctl", "start", "memunit@demo.service")
    assert Path(f"/proc/{get('/')[1].split()[1]}").stat().st_uid != user.pw_uid
    example("static-user.conf", "=shop", "=games")
    run("systemctl", "restart", "memunit@demo.service")
    worker = get("/")[1].split()[1]
    assert Path(f"/proc/{worker}").stat().st_uid == user.pw_uid
    # As the service sees it: systemd 257 may map the owner where it mounts the directory.
    seen = run("nsenter", "--mount", "--target", worker, "stat", "-c", "%u", "/var/lib/memunit/demo")
    assert int(seen) == user.pw_uid
    end = os.pidfd_open(int(worker))
    run("systemctl", "reload", "memunit@demo.service")
    # Told to stop by now, and perhaps not gone yet: until it has heard of it, it may answer.
    wait_readable(end, SECONDS)
    os.close(end)
    assert get("/")[1].split()[1] != worker


def test_a_stopped_instance_gets_a_static_user_once_its_link_is_removed(
    example: Callable[[str, str, str], None],
) -> None:
    run("systemctl", "start", "memunit@demo.service")
    run("systemctl", "stop", "memunit@demo.socket", "memunit@demo.service")
    example("static-user.conf", "=shop", "=games")
    link = Path("/run/memunit/demo")
    assert link.is_symlink()
    link.unlink()
    run("systemctl", "start", "memunit@demo.service")
    assert Path(f"/proc/{get('/')[1].split()[1]}").stat().st_uid == pwd.getpwnam("games").pw_uid


def test_an_upgrade_under_load_executes_what_runs_anew_and_loses_nothing() -> None:
    """The same master, by its pid, and the same workers."""
    run("systemctl", "start", "memunit@demo.service")
    before = shown("memunit@demo.service", "MainPID")
    members = Path("/sys/fs/cgroup", shown("memunit@demo.service", "ControlGroup").strip("/"))
    procs = [file.read_text() for file in sorted(members.glob("payload/workers/*/cgroup.procs"))]
    loads = [
        Load("127.0.0.1:8010", clients=4, keep_alive=keep, rate=10, timeout=120).start()
        for keep in (False, True)
    ]
    try:
        install()
    finally:
        for load in loads:
            load.stop()
    reports = [load.join() for load in loads]
    # How many there are meanwhile is the matter of how long dpkg takes.
    reports += [
        Load("127.0.0.1:8010", clients=4, keep_alive=keep, requests=8, timeout=120).run()
        for keep in (False, True)
    ]
    for report in reports:
        assert report.lost == 0, report.examples
        assert report.ok
    after = shown("memunit@demo.service", "MainPID")
    assert after == before != "0"
    assert [file.read_text() for file in sorted(members.glob("payload/workers/*/cgroup.procs"))] == procs
    run("journalctl", "--sync")
    told = run("journalctl", f"_SYSTEMD_INVOCATION_ID={shown('memunit@demo.service', 'InvocationID')}")
    assert "The master has executed itself anew, version" in told
    assert get("/")[0] == 200
    assert shown("memunit@demo.service", "Result") == "success"


def test_an_upgrade_starts_nothing_and_changes_no_settings() -> None:
    file = Path("/etc/memunit/demo.toml")
    original = file.read_text()
    changed = original.replace("count = 2", "count = 1")
    assert changed != original
    file.write_text(changed)
    try:
        run("dpkg", "--force-confold", "-i", DEB)
        assert file.read_text() == changed
    finally:
        file.write_text(original)
    assert shown("memunit@demo.service", "ActiveState") == "inactive"
    assert refused()


def test_removing_stops_all_and_purging_leaves_nothing() -> None:
    catalog = run("journalctl", "--list-catalog")
    assert "memunit" in catalog
    run("systemctl", "enable", "--now", "memunit@demo.socket")
    run("systemctl", "enable", "memunit@demo.service")
    assert get("/")[0] == 200
    Path("/etc/memunit/mine.toml").write_text('[app]\nrun = "nowhere:app"\n')
    run("systemctl", "start", "memunit@mine.socket")
    drop_in = Path("/etc/systemd/system/memunit@mine.service.d/override.conf")
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nMemoryMax=1G\n")
    run("systemctl", "daemon-reload")
    assert Path("/var/lib/private/memunit/demo").is_dir()
    # The profiles of witnesses are memunit's own, as its findings are.
    for name in ("leaks/0.1.json", "witness/0.1-7.memray", "witness/0.2-8.heapprofile"):
        found = Path("/var/lib/private/memunit/demo") / name
        found.parent.mkdir(exist_ok=True)
        found.touch()

    remove("--remove")
    assert units() == []
    assert refused()
    assert not Path("/usr/lib/systemd/system/memunit@.service").exists()
    assert not Path("/usr/lib/python3/dist-packages/memunit").exists()
    assert not Path("/usr/share/memunit").exists()
    assert not Path("/run/memunit").exists()
    assert "memunit" not in run("journalctl", "--list-catalog")
    assert Path("/etc/memunit/mine.toml").exists()

    purge()
    assert units() == []
    # systemd forgets a unit without a file when it comes round.
    assert {shown(unit, "LoadState") for unit in units("--all")} <= {"not-found"}
    folders = ("/etc", "/usr", "/var/lib", "/var/cache", "/run", "/sys/fs/cgroup")
    left = run("find", *folders, "-xdev", "-iname", "*memunit*").splitlines()
    # The cgroup of a slice is systemd's to remove, and it does so when it comes round; the port is the machine's own.
    others = ("/system-memunit.slice", "/run/udev/")
    assert [path for path in left if not any(other in path for other in others)] == []
    processes = run("ps", "-eo", "args").splitlines()
    assert [line for line in processes if "dist-packages/memunit" in line or "bin/memunit" in line] == []
