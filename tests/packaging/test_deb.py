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
        timeout=180,
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
    assert "python3-uvicorn" in field(control, "Recommends")


def test_its_version_is_the_projects(control: Path) -> None:
    said = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert said is not None
    assert field(control, "Version") == said[1]


def test_it_has_every_module(tree: Path) -> None:
    packed = tree / "usr/lib/python3/dist-packages"
    here = {path.relative_to(ROOT) for path in (ROOT / "memunit").rglob("*.py")}
    assert {path.relative_to(packed) for path in packed.rglob("*.py")} == here
    assert (packed / "memunit/py.typed").exists()


@pytest.mark.parametrize(
    "path",
    [
        "etc/memunit/demo.toml",
        "usr/bin/memunit",
        "usr/lib/systemd/catalog/memunit.catalog",
        "usr/lib/systemd/system/memunit@.service",
        "usr/lib/systemd/system/memunit@.socket",
        "usr/lib/systemd/system/memunit@demo.socket.d/demo.conf",
        "usr/share/bash-completion/completions/memunit",
        "usr/share/doc/memunit/copyright",
        "usr/share/doc/memunit/examples/static-user.conf",
        "usr/share/doc/memunit/examples/strict.conf",
        "usr/share/man/man1/memunit.1.gz",
        "usr/share/man/man5/memunit.toml.5.gz",
        "usr/share/man/man5/memunit@.service.5.gz",
        "usr/share/man/man5/memunit@.socket.5.gz",
        "usr/share/memunit/demo/demo.py",
    ],
)
def test_it_has(tree: Path, path: str) -> None:
    assert (tree / path).exists()


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
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"memunit \d+\.\d+\.\d+\n", done.stdout)


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
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_build_is_the_same_to_the_byte(deb: Path, tmp_path: Path) -> None:
    subprocess.run(
        [ROOT / "packaging" / "build-deb", "-o", tmp_path],
        check=True,
        capture_output=True,
        timeout=420,
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


def maintain(control: Path, script: str, asked: Path, *arguments: str, booted: bool = True) -> list[str]:
    """Run a maintainer script in a root of its own, as far as it goes by paths; what it asked of systemd."""
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
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    calls = asked.read_text().splitlines()
    return [call for call in calls if not call.startswith("py")]


def test_a_first_install_reloads_systemd_and_starts_nothing(control: Path, asked: Path) -> None:
    assert maintain(control, "postinst", asked, "configure", "") == ["systemctl --system daemon-reload"]


def test_an_upgrade_restarts_what_runs(control: Path, asked: Path) -> None:
    assert maintain(control, "postinst", asked, "configure", "0.0.9") == [
        "systemctl --system daemon-reload",
        "deb-systemd-invoke try-restart memunit@*.service",
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
        "deb-systemd-invoke stop memunit@*.socket",
        "deb-systemd-invoke stop memunit@*.service",
        "deb-systemd-invoke reset-failed memunit@*",
    ]


def test_purging_takes_what_instances_have_left_and_nothing_else(control: Path, asked: Path) -> None:
    root = asked.parent / "root"
    ours = [
        "var/lib/private/memunit/demo/data",
        "var/cache/private/memunit/demo/data",
        "run/private/memunit/demo/starts.json",
        "etc/memunit/mine.toml",
        "etc/systemd/system/memunit@mine.service.d/override.conf",
        "etc/systemd/system/sockets.target.wants/memunit@mine.socket",
    ]
    others = [
        "var/lib/private/other/data",
        "etc/systemd/system/sockets.target.wants/ssh.socket",
        "etc/memunitx/file",
    ]
    for name in (*ours, *others):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    maintain(control, "postrm", asked, "purge")
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == sorted(others)
    assert [path for path in root.rglob("memunit*") if path.name != "memunitx"] == []


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
        [ROOT / "packaging" / "build-deb", "surplus"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 64
    assert "surplus" in done.stderr


# -- bash completion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["memunit", ""], {"run", "serve", "reload", "check", "--help", "--version"}),
        (["memunit", "run", "--met"], {"--metric"}),
        (["memunit", "run", "--metric", "u"], {"uss"}),
        (["memunit", "run", "--server", ""], {"asgi", "callable", "wsgi"}),
        (["memunit", "run", "--grace", ""], set()),
        (["memunit", "check", "--"], {"--help"}),
    ],
)
def test_completion_offers(words: list[str], offered: set[str]) -> None:
    script = (
        f"source {ROOT}/packaging/completion/memunit; "
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
        '_memunit; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, timeout=30)
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


def test_completion_knows_every_flag() -> None:
    from memunit.core.schema import KEYS

    text = (ROOT / "packaging/completion/memunit").read_text()
    missing = [
        key.option for key in KEYS if key.option != "--" and not re.search(rf"(?<![\w-]){key.option}\b", text)
    ]
    assert missing == []
    for key in KEYS:
        if key.choices:
            assert f'compgen -W "{" ".join(key.choices)}"' in text, key.path
