"""The record that outlives a master that fails to start."""

import json
import time
from pathlib import Path

import pytest

from memunit.master import proctree
from memunit.master.startlog import LONGEST_HOLD, Record, StartLog, asked_for, inherited_record
from tests.support import descriptors


def test_what_one_master_saves_the_next_one_loads(tmp_path: Path) -> None:
    record = Record(failures=3, retry_at=1234.5, exited_at=1200.25)
    assert StartLog(str(tmp_path)).load() is None
    assert StartLog(str(tmp_path)).save(record)
    assert StartLog(str(tmp_path)).load() == record
    assert [path.name for path in tmp_path.iterdir()] == ["starts.json"]
    StartLog(str(tmp_path)).clear()
    assert StartLog(str(tmp_path)).load() is None
    StartLog(str(tmp_path)).clear()


def test_one_descriptor_is_enough(tmp_path: Path) -> None:
    """It was saved as a record of no boot, and its successor began from zero: systemd started one a second."""
    record = Record(failures=3, retry_at=1234.5, exited_at=1200.25)
    log = StartLog(str(tmp_path))
    with descriptors.left(1):
        assert log.save(record)
    assert log.load() == record
    with descriptors.left(1):
        assert log.load() == record
    with descriptors.left(0):
        assert not log.save(record)


def test_without_a_directory_nothing_is_kept() -> None:
    log = StartLog(None)
    assert not log.save(Record(1, 0.0, 0.0))
    assert log.load() is None
    log.clear()


def test_a_directory_that_is_gone_is_no_error(tmp_path: Path) -> None:
    log = StartLog(str(tmp_path / "gone"))
    assert not log.save(Record(1, 0.0, 0.0))
    assert log.load() is None
    log.clear()


def test_a_failed_replace_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "starts.json").mkdir()
    log = StartLog(str(tmp_path))
    assert not log.save(Record(1, 0.0, 0.0))
    assert log.load() is None
    assert [path.name for path in tmp_path.iterdir()] == ["starts.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"failures": "many"},
        {"failures": -1},
        {"failures": None},
        {"retry_at": "NaN"},
        {"exited_at": 1e999},
        {"boot_id": "another boot"},
    ],
)
def test_a_record_that_makes_no_sense_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    log = StartLog(str(tmp_path))
    log.save(Record(1, 2.0, 3.0))
    path = tmp_path / "starts.json"
    sound = json.loads(path.read_text())
    path.write_text(json.dumps(sound | change))
    assert log.load() is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 4000, b'{"boot_id": 1}'])
def test_a_corrupt_file_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "starts.json").write_bytes(text)
    assert StartLog(str(tmp_path)).load() is None


@pytest.mark.parametrize(
    ("began", "person"),
    [
        pytest.param(99.5, False, id="before the end: another process's"),
        pytest.param(99.992, True, id="at once, the kernel rounding its start down"),
        pytest.param(100.5, True, id="half a second later"),
        pytest.param(100.99, False, id="systemd's own, rounded down"),
        pytest.param(115.0, False, id="systemd's own, on a machine that is busy"),
        pytest.param(160.0, False, id="a minute later"),
    ],
)
def test_a_start_sooner_than_systemds_own_is_a_persons(began: float, person: bool) -> None:
    assert asked_for(Record(failures=3, retry_at=600.0, exited_at=100.0), began=began) is person


def test_a_record_without_an_end_tells_nothing_about_who_starts() -> None:
    assert not asked_for(Record(failures=3, retry_at=600.0, exited_at=0.0), began=0.5)


@pytest.mark.parametrize(("wait", "left"), [(20.0, 20.0), (3600.0, LONGEST_HOLD), (-5.0, -5.0)])
def test_a_successor_is_held_for_a_minute_at_most(tmp_path: Path, wait: float, left: float) -> None:
    """A minute from its own start: the record may be of a clock that has long gone on, or of an hour's backoff."""
    now = time.monotonic()
    log = StartLog(str(tmp_path))
    record = Record(failures=9, retry_at=now + wait, exited_at=0.0)
    log.save(record)
    found = inherited_record(log, now)
    assert found is not None
    assert found.failures == 9
    assert found.retry_at == pytest.approx(now + left)
    assert log.load() == record


@pytest.mark.parametrize("systemds_own", [True, False])
def test_a_persons_own_start_forgets_the_record(tmp_path: Path, systemds_own: bool) -> None:
    """The one before has ended half a second before this process began, or so long before that systemd started it."""
    now = time.monotonic()
    began = now - proctree.process_age()
    log = StartLog(str(tmp_path))
    log.save(Record(failures=9, retry_at=now + 20.0, exited_at=began - (10.0 if systemds_own else 0.5)))
    assert (inherited_record(log, now) is not None) is systemds_own
    assert (log.load() is not None) is systemds_own
