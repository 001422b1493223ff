"""The journal's catalog: it compiles, and explains each kind of entry and nothing else."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from memunit.core.model import Cause
from memunit.master import messages

ROOT = Path(__file__).resolve().parents[2]
CATALOG = ROOT / "units/memunit.catalog"
IDS = {name: value for name, value in vars(messages).items() if name.isupper() and isinstance(value, str)}


def compiled(root: Path, text: str) -> subprocess.CompletedProcess[str]:
    (root / "usr/lib/systemd/catalog").mkdir(parents=True)
    (root / "var/lib/systemd/catalog").mkdir(parents=True)
    (root / "usr/lib/systemd/catalog/memunit.catalog").write_text(text)
    return subprocess.run(
        ["journalctl", "--update-catalog", f"--root={root}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_compiles_silently_and_holds_each_id(tmp_path: Path) -> None:
    done = compiled(tmp_path, CATALOG.read_text())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    listed = subprocess.run(
        ["journalctl", "--list-catalog", f"--root={tmp_path}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert {line.split()[0] for line in listed.splitlines()} == set(IDS.values())


def test_a_malformed_one_would_not_compile(tmp_path: Path) -> None:
    assert compiled(tmp_path, "A text of no entry.\n" + CATALOG.read_text()).returncode != 0


def entries() -> dict[str, str]:
    parts = re.split(r"^-- ([0-9a-f]{32})$", CATALOG.read_text(), flags=re.MULTILINE)
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
    assert set(messages.END_BY_CAUSE) == {cause.value for cause in Cause}
    assert set(messages.END_BY_CAUSE.values()) == {
        value for name, value in IDS.items() if name.startswith("ENDED_")
    }


def test_only_fields_that_some_entry_has() -> None:
    """journalctl prints a field that an entry lacks as its bare name."""
    sources = "".join(
        path.read_text() for path in (ROOT / "memunit").rglob("*.py") if path.name != "messages.py"
    )
    fields = set(re.findall(r"@(\w+)@", CATALOG.read_text()))
    assert {name for name in fields if not re.search(rf"\b{name}\b", sources)} == set()


def test_the_planned_causes_are_explained() -> None:
    text = entries()[messages.ENDED_PLANNED]
    planned = {cause for cause, kind in messages.END_BY_CAUSE.items() if kind == messages.ENDED_PLANNED}
    assert set(re.findall(r"^  ([a-z-]+) {2,}", text, re.MULTILINE)) == planned
