"""The .rpm, built by its spec and looked at by rpmlint, and the package for Arch; both from the sdist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "packaging/rpm/memunit.spec"


def out(*words: str | Path, **options: object) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=900, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def rpm(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("rpm")
    (top / "SOURCES").mkdir()
    shutil.copy(sdist, top / "SOURCES")
    words = ["--define", f"_topdir {top}", "--define", f"_dbpath {top}/db", "--define", f"_tmppath {top}"]
    # What it depends on is Fedora's to have.
    out("rpmbuild", "-bb", "--quiet", "--nodeps", *words, SPEC)
    (made,) = (top / "RPMS").rglob("*.rpm")
    return made


def test_the_rpm_holds_what_the_deb_does(rpm: Path, tree: Path) -> None:
    site = re.compile(r"^/usr/lib/python3(\.\d+)?/(site|dist)-packages/(?=memunit/)")
    theirs = {site.sub("", name) for name in out("rpm", "-qpl", rpm).splitlines()}
    ours = {
        site.sub("", re.sub(r"(/usr/share/(?:man|doc)/.*)\.gz$", r"\1", f"/{path.relative_to(tree)}"))
        for path in tree.rglob("*")
        # Another test may have run what is unpacked there.
        if (path.is_file() or path.is_symlink()) and path.suffix != ".pyc"
    }
    ours = {name.replace("/zsh/vendor-completions/", "/zsh/site-functions/") for name in ours}
    debians = (
        "/copyright",
        "/README.Debian",
        "/changelog",
        "dist-info/",
        "egg-info",
        ".rtupdate",
        "/usr/share/doc/memunit/CHANGELOG.md",
    )
    assert {name for name in ours - theirs if not any(each in name for each in debians)} == set()


def test_rpmlint_finds_nothing_new(rpm: Path) -> None:
    said = out("rpmlint", "--rpmlintrc", SPEC.with_name("memunit.rpmlintrc"), SPEC, rpm)
    assert "0 errors, 0 warnings" in said, said


def test_its_version_and_what_it_needs(rpm: Path) -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert out("rpm", "-qp", "--qf", "%{VERSION}", rpm) == version[1]
    needs = {line.split()[0] for line in out("rpm", "-qp", "--requires", rpm).splitlines()}
    assert {"python3-psutil", "python3-sdnotify", "python3-systemd", "systemd"} <= needs
    assert out("rpm", "-qp", "--configfiles", rpm).split() == ["/etc/memunit/demo.toml"]


@pytest.mark.parametrize("script", ["rpm/memunit.spec", "arch/memunit.install"])
def test_a_removal_leaves_no_more_in_run_than_that_of_the_deb(script: str) -> None:
    folders = re.compile(r"(?<=\s)/run/(?!systemd/system)[\w./*-]+")
    removal = re.compile(r"rm -rf (/run/(?:[^\\\n]|\\\n)*)")
    (ours,) = removal.findall((ROOT / "packaging/debian/memunit.postrm").read_text())
    (theirs,) = removal.findall((ROOT / "packaging" / script).read_text())
    assert folders.findall(f" {theirs}") == folders.findall(f" {ours}") != []


def test_the_package_for_arch(sdist: Path, tmp_path: Path) -> None:
    """package() as makepkg(8) calls it; what it has put there runs, with the generator's path made right."""
    source, packed = tmp_path / "src", tmp_path / "pkg"
    source.mkdir()
    out("tar", "-xzf", sdist, cwd=source)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python").symlink_to("/usr/bin/python3")
    script = (
        f'set -eu; . {ROOT}/packaging/arch/PKGBUILD; srcdir=$PWD; pkgdir={packed}; package; echo "$pkgver"'
    )
    path = f"{programs}:/usr/bin:/bin"
    version = out("bash", "-c", script, cwd=source, env={"PATH": path, "LC_ALL": "C.UTF-8"}).strip()
    assert sdist.name == f"memunit-{version}.tar.gz"
    (module,) = packed.rglob("memunit/__init__.py")
    site = module.parents[1]
    said = out("/usr/bin/python3", packed / "usr/bin/memunit", "--version", env={"PYTHONPATH": str(site)})
    assert version in said
    generator = (packed / "usr/lib/systemd/system-generators/memunit-generator").read_text()
    assert f'sys.path.append("/{site.relative_to(packed)}")' in generator
    names = {path.name for path in packed.rglob("*") if path.is_file()}
    assert {
        "memunit@.service",
        "memunit.1",
        "memunit-status.1",
        "_memunit",
        "memunit.fish",
        "LICENSE",
    } <= names
