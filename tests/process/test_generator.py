"""memunit-generator as systemd starts it: the program of units/, its drop-ins read by systemd-analyze(1)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import unitfuzz, unitroot
from tests.support.unitroot import drop_in, generate, verify

SECONDS = int(os.environ.get("MEMUNIT_FUZZ", "0"))
GOOD = """
[app]
run = "shop.web:app"
[socket]
listen = ["127.0.0.1:8000", "[::1]:8001", "8002", "/run/a b%c/\\"x\\"$y.sock", "@shop", "vsock::8000"]
mode = "0660"
user = "root"
[memory]
ceiling = "600M"
[service]
user = "root"
environment_files = ["-/etc/a b.env", "/etc/%n/*.env"]
credentials = { key = "/etc/100%", other = "/etc/a:b c" }
writable = ["/srv/a \\"b\\" 'c'", "-/srv/$HOME"]
umask = "0027"
network = "local"
watchdog = "1min"
[stop]
grace = "6min"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with our units; the files of instances are in "source"."""
    (tmp_path / "source").mkdir()
    return unitroot.make(tmp_path)


def run(root: Path, **files: str | bytes) -> str:
    """Write files of instances, older than a moment, and run the generator on all; what it says."""
    for name, text in files.items():
        path = root / "source" / f"{name}.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = generate(root, root / "source")
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def test_systemd_understands_each_line(root: Path) -> None:
    assert run(root, shop=GOOD) == ""
    assert drop_in(root, "memunit@shop.socket").count("\nListenStream=") == 7
    assert verify(root, ["memunit@shop.service", "memunit@shop.socket"]) == ""


def test_systemd_would_speak_up(root: Path) -> None:
    """The test above can fail: what is escaped for no parser is heard of, in this very place."""
    run(root, shop=GOOD)
    path = root / "etc/systemd/system/memunit@shop.service.d/0-memunit.conf"
    path.write_text(path.read_text().replace("%%n", "%Q").replace('"-/srv/$HOME"', '"/srv/a'))
    said = verify(root, ["memunit@shop.service"])
    assert "EnvironmentFile=" in said or "specifiers" in said
    assert "Failed to extract first word" in said


def test_the_exporter_of_metrics_has_the_user_of_the_service(root: Path) -> None:
    """The master answers nobody else but root."""
    service = '[app]\nrun = "a:b"\n[service]\n'
    run(
        root,
        shop=f'{service}user = "root"\ngroup = "daemon"\n',
        own=f'{service}user = "dynamic"\n',
        plain='[app]\nrun = "a:b"\n',
    )

    def said(name: str) -> list[str]:
        lines = drop_in(root, f"memunit-metrics@{name}.service").splitlines()
        return [line for line in lines if not line.startswith("#")]

    static = ["[Service]", "DynamicUser=no", "User=root", "RemoveIPC=no", "Group=daemon"]
    assert said("shop") == static
    assert said("own") == ["[Service]", "User=memunit-own"]
    assert said("plain") == []
    for kind in ("memunit-metrics", "memunit-varlink-metrics"):
        assert verify(root, [f"{kind}@shop.service", f"{kind}@own.socket"]) == ""
    of_report = drop_in(root, "memunit-varlink-metrics@shop.service")
    assert of_report == drop_in(root, "memunit-metrics@shop.service")
    # What was kept of the last run says the same.
    run(root)
    assert said("shop") == static


def test_a_file_without_a_word_for_systemd(root: Path) -> None:
    run(root, shop='[app]\nrun = "a:b"\n')
    assert drop_in(root, "memunit@shop.socket") == ""
    assert "TimeoutStopSec=1min" in drop_in(root, "memunit@shop.service")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[app\n", "line 1"),
        (b"\xff", "is not UTF-8"),
        (b"\0" * 10, "line 1"),
        ("[" * 5000, "is it TOML?"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("x = 1\n" * 2, "the file has the key x twice"),
        ("#" * (1 << 21), "has more than 1M"),
        ('[app]\nrun = "a:b"\n[socket]\nlisten = ["$HOME %n"]\n', "is not a port"),
    ],
)
def test_a_broken_file_is_told_by_its_socket_and_harms_no_other(
    root: Path, text: str | bytes, why: str
) -> None:
    said = run(root, broken=text, shop=GOOD, other='[app]\nrun = "a:b"\n[socket]\nlisten = ["9"]\n')
    assert why in said
    told = drop_in(root, "memunit@broken.socket")
    assert why in told
    assert drop_in(root, "memunit@broken.service") == ""
    assert "ListenStream=9\n" in drop_in(root, "memunit@other.socket")
    assert verify(root, ["memunit@broken.socket", "memunit@shop.service", "memunit@other.service"]) == ""
    (command,) = [line for line in told.splitlines() if line.startswith("ExecStartPre=")]
    assert command.endswith('systemctl start memunit@broken.socket"')


def test_a_broken_file_leaves_what_it_said_before(root: Path) -> None:
    """Else a daemon-reload beside a file that is being edited would close the sockets of a service that runs."""
    run(root, shop=GOOD)
    before = {kind: drop_in(root, f"memunit@shop.{kind}") for kind in ("socket", "service")}
    for text in ("[app\n", GOOD.replace("8000", "99999")):
        assert "memunit@shop: " in run(root, shop=text)
        for kind, whole in before.items():
            now = drop_in(root, f"memunit@shop.{kind}")
            assert "can't be used now" in now
            assert [line for line in now.splitlines() if "=" in line and line[0] != "#"] == [
                line for line in whole.splitlines() if "=" in line and line[0] != "#"
            ]
        assert verify(root, ["memunit@shop.service"]) == ""
    assert run(root, shop=GOOD) == ""
    assert {kind: drop_in(root, f"memunit@shop.{kind}") for kind in before} == before


def test_an_app_that_is_missing_is_the_services_affair(root: Path) -> None:
    """It tries again by itself when the file is mended, and clients wait in the socket: memunit serve says why."""
    run(root, shop='[socket]\nlisten = ["9"]\n[memory]\nlimit = 3\n')
    assert "ListenStream=9\n" in drop_in(root, "memunit@shop.socket")
    assert "ExecStartPre" not in drop_in(root, "memunit@shop.socket")


def test_what_is_no_file_of_an_instance(root: Path) -> None:
    source = root / "source"
    for name in ("a b.toml", "x.toml~", ".x.toml", "-x.toml", "a:b.toml", f"{'n' * 81}.toml"):
        (source / name).write_text(GOOD)
    (source / "shop.env").write_text("A=b\n")
    (source / "folder.toml").mkdir()
    os.mkfifo(source / "fifo.toml")
    (source / "gone.toml").symlink_to("/nowhere")
    said = run(root, **{"a\\x2db": GOOD, "sh.op@1": GOOD})
    units = {folder.name for folder in (root / "etc/systemd/system").iterdir()}
    assert units == {
        *(f"memunit@{name}.{kind}.d" for name in ("a\\x2db", "sh.op@1") for kind in ("socket", "service")),
        *(f"memunit@{name}.socket.d" for name in ("folder", "fifo", "gone")),
        *(f"memunit-metrics@{name}.service.d" for name in ("a\\x2db", "sh.op@1")),
        *(f"memunit-varlink-metrics@{name}.service.d" for name in ("a\\x2db", "sh.op@1")),
    }
    assert "is not a regular file" in said
    assert verify(root, ["memunit@a\\x2db.service", "memunit@sh.op@1.service", "memunit@fifo.socket"]) == ""


def test_no_folder_is_no_instance(root: Path) -> None:
    (root / "source").rmdir()
    done = generate(root, root / "source")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


EXAMPLES = unitroot.ROOT / "examples"


def again(root: Path) -> bool:
    """Run the generator once more; whether it has loaded its parser."""
    words = ["--from", root / "source", "--runtime", root / "run/memunit", "--keep", root / "kept"]
    words.append(root / "etc/systemd/system")
    shutil.rmtree(root / "etc/systemd/system")
    (root / "etc/systemd/system").mkdir()
    done = subprocess.run(
        ["/usr/bin/python3", "-IS", "-X", "importtime", *map(str, (*unitroot.entry(root), *words))],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return "tomllib" in done.stderr


def test_what_is_as_it_was_is_not_read_again(root: Path) -> None:
    """A file that was written within two seconds always is: these are links to old ones."""
    link = root / "source/shop.toml"
    link.symlink_to(EXAMPLES / "demo/demo.toml")
    run(root)
    first = drop_in(root, "memunit@shop.service")
    assert "\nMemoryMax=" in first
    assert not again(root)
    assert drop_in(root, "memunit@shop.service") == first
    # Another file.
    link.unlink()
    link.symlink_to(EXAMPLES / "sh/sh.toml")
    assert again(root)
    second = drop_in(root, "memunit@shop.service")
    assert second != first
    # What was kept is gone, or was written by another version.
    kept = root / "kept"
    (kept / "shop.service").unlink()
    assert again(root)
    assert not again(root)
    index = kept / "index"
    index.write_text("0.0.1" + index.read_text().removeprefix("0.1.0"))
    assert again(root)
    assert not again(root)
    # A second instance is read, and a third that can't be used is read each time.
    (root / "source/bad.toml").symlink_to(EXAMPLES / "README.md")
    assert again(root)
    assert again(root)
    assert drop_in(root, "memunit@shop.service") == second
    assert "ExecStartPre" in drop_in(root, "memunit@bad.socket")
    # Nothing is left of what has no file any more.
    link.unlink()
    again(root)
    assert [file.name for file in kept.iterdir()] == ["index"]
    assert not (root / "etc/systemd/system/memunit@shop.service.d").exists()


def test_what_was_kept_says_since_when(root: Path) -> None:
    run(root, shop=GOOD)
    kept = root / "kept/shop.socket"
    os.utime(kept, (1, 1))
    run(root, shop=GOOD + "# a comment\n")
    assert kept.stat().st_mtime == 1
    run(root, shop=GOOD.replace("8002", "8003"))
    assert kept.stat().st_mtime > 1


def test_the_link_of_a_dynamic_user_is_not_in_the_way_of_a_static_one(root: Path) -> None:
    """systemd leaves it in /run/memunit at a stop, and would end the next start with 233/RUNTIME_DIRECTORY."""
    link = root / "run/memunit/shop"
    link.parent.mkdir(parents=True)
    link.symlink_to("../private/memunit/shop")
    run(root, shop='[app]\nrun = "a:b"\n[service]\nuser = "dynamic"\n')
    assert link.is_symlink()
    run(root, shop='[app]\nrun = "a:b"\n[service]\nuser = "root"\n')
    assert not link.is_symlink()
    target = root / "run/private/memunit/shop"
    target.mkdir(parents=True)
    link.symlink_to(target)
    run(root, shop='[app]\nrun = "a:b"\n[service]\nuser = "root"\n')
    assert link.is_symlink()


def test_a_disk_that_is_full_costs_what_could_not_be_written(root: Path) -> None:
    """One folder that can't be made, in the place of a whole file system that can't be written."""
    (root / "source/shop.toml").write_text(GOOD)
    (root / "source/other.toml").write_text(GOOD)
    normal = root / "normal"
    normal.mkdir()
    (normal / "memunit@shop.socket.d").write_text("")
    words = ["--from", root / "source", "--keep", root / "kept", normal]
    done = subprocess.run(
        [*map(str, (*unitroot.entry(root), *words))], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 71
    assert "memunit@shop: " in done.stderr
    assert "can't be written" in done.stderr
    assert (normal / "memunit@other.socket.d/0-memunit.conf").exists()


def test_what_can_not_be_written_has_a_place(root: Path) -> None:
    """A failed write(2) names no file: "None" was told in its place."""
    (root / "source/shop.toml").write_text(GOOD)
    words = ["--from", root / "source", "--keep", root / "kept", root / "normal"]
    done = subprocess.run(
        ["prlimit", "--fsize=0", *map(str, (*unitroot.entry(root), *words))],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 71
    assert f"memunit@shop: {root}/normal: can't be written: File too large" in done.stderr


@pytest.mark.parametrize("words", [[], ["a", "b"], ["--nonsense"], ["a", "b", "c", "d"]])
def test_a_wrong_command_line(root: Path, words: list[str]) -> None:
    done = subprocess.run(
        [*map(str, (*unitroot.entry(root), *words))],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=root,
    )
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("usage: memunit-generator ")


def test_hostile_files(root: Path) -> None:
    """MEMUNIT_FUZZ=300 tests/run process -- -k hostile_files is the long form: five minutes."""
    assert unitfuzz.fuzz(root, batches=5, seconds=SECONDS) == []
