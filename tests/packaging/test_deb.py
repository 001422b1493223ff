"""What is in the Debian package, and what its scripts do."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_lintian_has_nothing_to_say(deb: Path) -> None:
    done = subprocess.run(
        ["lintian", "--display-info", "--pedantic", "--no-tag-display-limit", "--allow-root", deb],
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_lintian_is_not_told_to_look_away(tree: Path) -> None:
    assert not (tree / "usr/share/lintian/overrides").exists()


def field(control: Path, name: str) -> str:
    text = (control / "control").read_text()
    found = re.search(rf"^{name}: (.*(?:\n .*)*)", text, re.MULTILINE)
    assert found is not None, text
    return found[1]


def test_it_depends_on_what_it_imports(control: Path) -> None:
    depends = {word.split()[0] for word in field(control, "Depends").split(", ")}
    assert depends == {"python3-psutil", "python3-sdnotify", "python3-systemd", "python3:any"}
    assert {"python3-prometheus-client", "python3-rich", "python3-uvicorn"} <= set(
        field(control, "Recommends").split(", ")
    )


def test_its_version_is_the_projects(control: Path) -> None:
    said = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert said is not None
    assert field(control, "Version") == said[1]


def test_it_has_every_module(tree: Path) -> None:
    packed = tree / "usr/lib/python3/dist-packages"
    here = {path.relative_to(ROOT) for path in (ROOT / "memunit").rglob("*.py")}
    assert {path.relative_to(packed) for path in packed.rglob("*.py")} == here
    assert (packed / "memunit/py.typed").exists()
    ours = ROOT / "memunit/worker/node"
    assert {file.name for file in (packed / "memunit/worker/node").iterdir()} == {
        f.name for f in ours.iterdir()
    }


@pytest.mark.parametrize(
    "path",
    [
        "etc/memunit/demo.toml",
        "usr/bin/memunit",
        "usr/lib/systemd/catalog/memunit.catalog",
        "usr/lib/systemd/catalog/memunit.zh_CN.catalog",
        "usr/lib/systemd/system/memunit-end@.service",
        "usr/lib/systemd/system/memunit-metrics@.service",
        "usr/lib/systemd/system/memunit-metrics@.socket",
        "usr/lib/systemd/system/memunit-varlink-metrics@.service",
        "usr/lib/systemd/system/memunit-varlink-metrics@.socket",
        "usr/lib/systemd/system/memunit@.service",
        "usr/lib/systemd/system/memunit@.socket",
        "usr/lib/systemd/system-generators/memunit-generator",
        "usr/share/bash-completion/completions/memunit",
        "usr/share/fish/vendor_completions.d/memunit.fish",
        "usr/share/zsh/vendor-completions/_memunit",
        "usr/share/doc/memunit/copyright",
        "usr/share/doc/memunit/README.md",
        "usr/share/doc/memunit/README.Debian",
        "usr/share/doc/memunit/docs/nginx.md",
        "usr/share/doc/memunit/examples/README.md",
        "usr/share/doc/memunit/examples/django/shop/settings.py",
        "usr/share/doc/memunit/examples/flask/shop.toml",
        "usr/share/doc/memunit/examples/node/server.js",
        "usr/share/doc/memunit/examples/static-user.conf",
        "usr/share/doc/memunit/examples/strict.conf",
        "usr/share/man/man1/memunit.1.gz",
        "usr/share/man/man1/memunit-status.1.gz",
        "usr/share/man/man5/memunit.toml.5.gz",
        "usr/share/man/man8/memunit-generator.8.gz",
        "usr/share/man/man5/memunit@.service.5.gz",
        "usr/share/man/man5/memunit@.socket.5.gz",
        "usr/share/memunit/demo/demo.py",
    ],
)
def test_it_has(tree: Path, path: str) -> None:
    assert (tree / path).exists()


def test_it_has_every_page_and_every_example(tree: Path) -> None:
    """The README is followed from the package: nothing that it names is missing, or packed so that it can't be read."""
    place = tree / "usr/share/doc/memunit"
    for folder in ("docs", "examples", "units/examples"):
        # By their names, for git need not be there: what a build or a run of an example leaves is none of them.
        for path in (ROOT / folder).rglob("*"):
            made = path.suffix == ".pyc" or path == ROOT / "examples/c/server"
            if path.is_file() and not made and path.name != ".gitignore":
                packed = place / str(path.relative_to(ROOT)).removeprefix("units/")
                assert packed.read_bytes() == path.read_bytes(), packed


def test_the_links_of_its_pages_lead_somewhere(tree: Path) -> None:
    place = tree / "usr/share/doc/memunit"
    pages = sorted(place.rglob("*.md"))
    assert len(pages) > 8
    for page in pages:
        text = page.read_text()
        linked = {page.parent / path for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)}
        named = {place / path for path in re.findall(r"\b((?:docs|examples)/[\w./@-]*\w)", text)}
        named |= {tree / path for path in re.findall(r"/(usr/share/doc/memunit/[\w./@-]*\w)", text)}
        missing = [path for path in (linked | named) if not path.exists()]
        # A folder of the app's own, in a sentence about a command that is run in it.
        assert missing == [], page


def test_the_manual_names_files_that_are_there(tree: Path) -> None:
    for page in (ROOT / "packaging/man").iterdir():
        for path in re.findall(r"/(usr/share/doc/memunit/[\w./@-]*\w)", page.read_text()):
            assert (tree / path).exists(), (page, path)


def test_it_has_no_files_elsewhere(tree: Path) -> None:
    top = {str(path.relative_to(tree)) for path in tree.iterdir()}
    assert top == {"etc", "usr"}
    assert [path for path in tree.rglob("*") if path.name in ("__pycache__", "tests", "packaging")] == []


def test_the_settings_are_conffiles(control: Path, tree: Path) -> None:
    listed = set((control / "conffiles").read_text().split())
    assert listed == {f"/{path.relative_to(tree)}" for path in (tree / "etc").rglob("*") if path.is_file()}


def test_everybody_may_read_all_and_only_root_may_write(tree: Path) -> None:
    for path in tree.rglob("*"):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode in ((0o755,) if path.is_dir() else (0o644, 0o755)), path


def test_the_program_runs_from_the_package(tree: Path) -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-P", tree / "usr/bin/memunit", "--version"],
        check=False,
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(tree / "usr/lib/python3/dist-packages"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"memunit \d+\.\d+\.\d+\n", done.stdout)


def test_the_generator_runs_from_the_package(tree: Path, tmp_path: Path) -> None:
    """The demo's file is all that says where the demo listens."""
    program = tree / "usr/lib/systemd/system-generators/memunit-generator"
    assert program.stat().st_mode & 0o777 == 0o755
    text = program.read_text()
    # The package has memunit where the program looks for it, and no other Python, nor a variable, changes that.
    assert text.startswith("#!/usr/bin/python3 -IS\n")
    assert 'sys.path.append("/usr/lib/python3/dist-packages")' in text
    copy = tmp_path / "memunit-generator"
    copy.write_text(text.replace("/usr/lib/python3", f"{tree}/usr/lib/python3"))
    copy.chmod(0o755)
    normal = tmp_path / "normal"
    normal.mkdir()
    words = ["--from", tree / "etc/memunit", "--keep", tmp_path / "kept", normal]
    done = subprocess.run(
        [str(each) for each in (copy, *words)],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPYCACHEPREFIX": "/x"},
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    said = (normal / "memunit@demo.socket.d/0-memunit.conf").read_text()
    assert "ListenStream=\nListenStream=127.0.0.1:8010\n" in said


def test_its_settings_are_good_where_it_is_installed(tree: Path, tmp_path: Path) -> None:
    """The demo's file names a folder of the installed system: the same with the unpacked one has to pass."""
    installed = "/usr/share/memunit/demo"
    text = (tree / "etc/memunit/demo.toml").read_text()
    assert f'directory = "{installed}"' in text
    file = tmp_path / "demo.toml"
    file.write_text(text.replace(installed, f"{tree}{installed}"))
    done = subprocess.run(
        [sys.executable, "-m", "memunit.cli.main", "check", file],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_build_is_the_same_to_the_byte(deb: Path, tmp_path: Path) -> None:
    subprocess.run(
        [ROOT / "packaging" / "build-deb", "-o", tmp_path],
        check=True,
        capture_output=True,
        timeout=900,
        env={**os.environ, "TZ": "Pacific/Kiritimati"},
    )
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (deb, tmp_path / deb.name)]
    assert digests[0] == digests[1]


# -- maintainer scripts, with systemctl and its like replaced by ones that say what they were asked --------------


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """A log of calls; the folder beside it, first in PATH, has the programs that write it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "asked"
    log.touch()
    for name in ("systemctl", "deb-systemd-invoke", "py3compile", "py3clean", "pypy3compile"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nset -f\necho "{name}" $* >> {log}\n')
        program.chmod(0o755)
    return log


def running(asked: Path, *, too_old: str) -> None:
    """Have two instances run, of which one has a master that can't execute another program."""
    for instance in ("a", "b"):
        runtime = asked.parent / "root/run/memunit" / instance
        runtime.mkdir(parents=True)
        os.mknod(runtime / "control", stat.S_IFSOCK | 0o600)
    # What a stopped one leaves behind it.
    (asked.parent / "root/run/memunit/c").mkdir()
    program = asked.parent / "bin/memunit"
    program.write_text(f"#!/bin/sh\necho memunit $* >> {asked}\ntest $3 != {too_old}\n")
    program.chmod(0o755)


def maintain(
    control: Path, script: str, asked: Path, *arguments: str, booted: bool = True, says: str = ""
) -> list[str]:
    """Run a maintainer script in a root of its own, as far as it goes by paths; what it asked of systemd.

    `says` is a part of what it prints, if it prints anything.
    """
    text = (control / script).read_text()
    root = asked.parent / "root"
    (root / "run").mkdir(parents=True, exist_ok=True)
    if booted:
        (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    moved = re.sub(r"(?<=[\s\"'])/(run|var|etc)/", rf"{root}/\1/", text)
    copy = asked.parent / script
    copy.write_text(moved)
    path = f"{asked.parent / 'bin'}:/usr/bin:/bin"
    done = subprocess.run(
        ["/bin/sh", "-eu", copy, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": path},
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert says in done.stdout if says else not done.stdout
    calls = asked.read_text().splitlines()
    return [call for call in calls if not call.startswith("py")]


def test_a_first_install_reloads_systemd_and_starts_nothing(control: Path, asked: Path) -> None:
    assert maintain(control, "postinst", asked, "configure", "") == ["systemctl --system daemon-reload"]


def test_an_upgrade_executes_each_master_anew_and_restarts_one_that_can_not(
    control: Path, asked: Path
) -> None:
    running(asked, too_old="memunit@a.service")
    assert maintain(control, "postinst", asked, "configure", "0.0.9") == [
        "systemctl --system daemon-reload",
        "memunit reexec -- memunit@a.service",
        "deb-systemd-invoke try-restart memunit@a.service",
        "memunit reexec -- memunit@b.service",
    ]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("postinst", ("configure", "0.0.9")),
        ("prerm", ("remove",)),
        ("postrm", ("remove",)),
        ("postrm", ("purge",)),
    ],
)
def test_without_systemd_nothing_is_asked(
    control: Path, asked: Path, script: str, arguments: tuple[str, ...]
) -> None:
    assert maintain(control, script, asked, *arguments, booted=False) == []


def test_the_old_package_leaves_all_running_on_an_upgrade(control: Path, asked: Path) -> None:
    assert maintain(control, "prerm", asked, "upgrade", "0.2.0") == []


def test_removing_stops_the_sockets_before_the_services(control: Path, asked: Path) -> None:
    assert maintain(control, "prerm", asked, "remove") == [
        "deb-systemd-invoke stop memunit@*.socket memunit-*metrics@*.socket",
        "deb-systemd-invoke stop memunit-*metrics@*.service",
        "deb-systemd-invoke stop memunit@*.service",
        "deb-systemd-invoke stop memunit-end@*.service",
        "deb-systemd-invoke reset-failed memunit@* memunit-*metrics@*",
    ]


def test_purging_takes_what_instances_have_left_and_nothing_else(control: Path, asked: Path) -> None:
    root = asked.parent / "root"
    ours = [
        "var/cache/private/memunit/demo/data",
        "run/private/memunit/demo/starts.json",
        "run/memunit-generator/demo.socket",
        "etc/memunit/mine.toml",
        "etc/systemd/system/memunit@mine.service.d/override.conf",
        "etc/systemd/system/sockets.target.wants/memunit@mine.socket",
        "etc/systemd/system/memunit-metrics@mine.socket.d/metrics-port.conf",
        "etc/systemd/system/sockets.target.wants/memunit-metrics@mine.socket",
        "run/memunit-metrics/mine.sock",
        "etc/systemd/system/memunit-varlink-metrics@mine.socket.d/name.conf",
        "etc/systemd/system/sockets.target.wants/memunit-varlink-metrics@mine.socket",
        "run/systemd/report/io.memunit.mine",
    ]
    others = [
        "var/lib/private/other/data",
        "etc/systemd/system/sockets.target.wants/ssh.socket",
        "etc/memunitx/file",
        "run/systemd/report/io.systemd.Network",
    ]
    for name in (*ours, *others):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    # Apps that have kept nothing: of a dynamic user, and of a static one.
    empty = root / "var/lib/private/memunit/demo"
    empty.mkdir(parents=True)
    (root / "var/lib/memunit/mine").mkdir(parents=True)
    (root / "var/lib/memunit/demo").symlink_to(empty)
    maintain(control, "postrm", asked, "purge")
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == sorted(others)
    assert [path for path in root.rglob("memunit*") if path.name != "memunitx"] == []


def test_no_state_of_an_app_is_ever_deleted(control: Path, asked: Path) -> None:
    """FIELD C15: of a dynamic user, of a static one, in a folder or hidden in one; what is left is said."""
    root = asked.parent / "root"
    states = [
        "var/lib/private/memunit/shop/db.sqlite",
        "var/lib/memunit/mine/uploads/a.png",
        "var/lib/memunit/old/.hidden",
        "var/lib/memunit/by hand",
    ]
    for name in states:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("dear")
    private = root / "var/lib/private/memunit"
    (private / "empty").mkdir()
    for name in ("shop", "empty"):
        (root / "var/lib/memunit" / name).symlink_to(private / name)
    maintain(control, "postrm", asked, "purge", says="/var/lib/memunit is not removed")
    assert [(root / name).read_text() for name in states] == ["dear"] * len(states)
    assert (root / "var/lib/memunit/shop/db.sqlite").exists()
    left = {path.name for path in (root / "var/lib/memunit").iterdir()}
    assert left == {"shop", "mine", "old", "by hand"}
    # Once more, as by "dpkg --purge" after "apt remove".
    maintain(control, "postrm", asked, "purge", says="is not removed")
    assert (root / states[0]).read_text() == "dear"


def test_removing_keeps_what_purging_takes(control: Path, asked: Path) -> None:
    root = asked.parent / "root"
    kept = ("etc/memunit/mine.toml", "var/lib/private/memunit/demo/data")
    for name in kept:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    maintain(control, "postrm", asked, "remove")
    assert all((root / name).exists() for name in kept)


# -- build-deb ---------------------------------------------------------------------------------------------------


def test_build_deb_refuses_what_it_does_not_know() -> None:
    done = subprocess.run(
        [ROOT / "packaging" / "build-deb", "surplus"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 64
    assert "surplus" in done.stderr
