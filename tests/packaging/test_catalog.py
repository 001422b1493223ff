"""The journal's catalog: it compiles, and explains each kind of entry and nothing else."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from memunit.core.messages import END_BY_CAUSE, ENDS, Message
from memunit.core.model import Cause

ROOT = Path(__file__).resolve().parents[2]
CATALOG = ROOT / "units/memunit.catalog"
CHINESE = ROOT / "units/memunit.zh_CN.catalog"
IDS = {message.name: message.id for message in Message}


def compiled(root: Path, text: str, name: str = CATALOG.name) -> subprocess.CompletedProcess[str]:
    (root / "usr/lib/systemd/catalog").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/systemd/catalog").mkdir(parents=True, exist_ok=True)
    (root / "usr/lib/systemd/catalog" / name).write_text(text)
    return subprocess.run(
        ["journalctl", "--update-catalog", f"--root={root}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_it_compiles_silently_and_holds_each_id(tmp_path: Path) -> None:
    done = compiled(tmp_path, CATALOG.read_text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listed = subprocess.run(
        ["journalctl", "--list-catalog", f"--root={tmp_path}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout
    assert {line.split()[0] for line in listed.splitlines()} == set(IDS.values())


def test_a_malformed_one_would_not_compile(tmp_path: Path) -> None:
    assert compiled(tmp_path, "A text of no entry.\n" + CATALOG.read_text()).returncode != 0


def entries(catalog: Path = CATALOG) -> dict[str, str]:
    parts = re.split(r"^-- ([0-9a-f]{32})$", catalog.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_id_is_there_once() -> None:
    """A second entry of an ID would silently win or lose."""
    found = Counter(re.findall(r"^-- (\S+)$", CATALOG.read_text(), re.MULTILINE))
    assert found == Counter(IDS.values())
    assert len(set(IDS.values())) == len(IDS)


@pytest.mark.parametrize("name", sorted(IDS))
def test_each_entry_says_what_it_has_to(name: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", IDS[name])
    head, _, body = entries()[IDS[name]].strip().partition("\n\n")
    assert {line.split(":")[0] for line in head.splitlines()} == {
        "Subject",
        "Defined-By",
        "Support",
        "Documentation",
    }
    assert "Defined-By: memunit\n" in head
    assert "@MEMUNIT_INSTANCE@" in head.splitlines()[0]
    assert len(body.split()) >= 20


def test_each_cause_has_an_id() -> None:
    assert set(END_BY_CAUSE) == set(Cause)
    assert {message for message in Message if message.name.startswith("ENDED_")} == ENDS


def test_only_fields_that_some_entry_has() -> None:
    """journalctl prints a field that an entry lacks as its bare name."""
    sources = "".join(
        path.read_text() for path in (ROOT / "memunit").rglob("*.py") if path.name != "messages.py"
    )
    fields = set(re.findall(r"@(\w+)@", CATALOG.read_text()))
    assert {name for name in fields if not re.search(rf"\b{name}\b", sources)} == set()


def test_the_planned_causes_are_explained() -> None:
    text = entries()[Message.ENDED_PLANNED.id]
    planned = {cause.value for cause, kind in END_BY_CAUSE.items() if kind is Message.ENDED_PLANNED}
    assert set(re.findall(r"^  ([a-z-]+) {2,}", text, re.MULTILINE)) == planned


def test_both_languages_compile_and_are_listed(tmp_path: Path) -> None:
    """Of one identifier in two languages, journalctl shows that of the reader."""
    alone = compiled(tmp_path, CHINESE.read_text(), CHINESE.name)
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, "", "")
    both = compiled(tmp_path, CATALOG.read_text())
    assert (both.returncode, both.stdout, both.stderr) == (0, "", "")
    words = ["journalctl", "--list-catalog", f"--root={tmp_path}"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True, timeout=300).stdout
    assert {line.split()[0] for line in listed.splitlines()} == set(IDS.values())
    # Both are in what was compiled, each under its language.
    database = (tmp_path / "var/lib/systemd/catalog/database").read_bytes()
    assert b"zh_CN" in database
    assert "的 master 已启动".encode() in database
    assert b"has started" in database


@pytest.mark.parametrize("name", sorted(IDS))
def test_each_entry_is_there_in_chinese_with_the_same_fields(name: str) -> None:
    ours, theirs = entries()[IDS[name]], entries(CHINESE)[IDS[name]]
    assert set(re.findall(r"@(\w+)@", ours)) == set(re.findall(r"@(\w+)@", theirs))
    head, _, body = theirs.strip().partition("\n\n")
    # All but the subject is the same: who, and where more is to be read.
    assert head.splitlines()[1:] == ours.strip().partition("\n\n")[0].splitlines()[1:]
    assert re.search(r"[\u4e00-\u9fff]", head.splitlines()[0])
    assert len(re.findall(r"[\u4e00-\u9fff]", body)) >= 20
    # What a person types or looks for is the same in both: keys, commands, units.
    commands = r'"((?:memunit|systemctl|journalctl|coredumpctl) [^"]*)"'
    said = {" ".join(command.split()) for command in re.findall(commands, ours)}
    assert said == {
        " ".join(command.split())
        for command in re.findall(r"“((?:memunit|systemctl|journalctl|coredumpctl) [^”]*)”", theirs)
    }


def test_there_is_no_other_entry_in_chinese() -> None:
    found = Counter(re.findall(r"^-- (\S+)$", CHINESE.read_text(), re.MULTILINE))
    assert found == Counter(IDS.values())
