"""What a command ends with when it meets an exception that nobody else has caught."""

from __future__ import annotations

import errno
import os

import pytest

from memunit.cli.main import main


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("path", ["/sys/fs/cgroup/x", None])
def test_too_few_descriptors_are_no_fault_of_memunit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, path: str | None
) -> None:
    """A service with a small LimitNOFILE= ended with a traceback and status 70, and each start again."""
    why = os.strerror(number)

    def start(*_: object) -> int:
        raise OSError(number, why, path)

    monkeypatch.setattr("memunit.cli.main._start", start)
    assert main(["serve", "shop"]) == 71
    place = f"{path}: " if path else ""
    remedy = "raise LimitNOFILE= of the unit, or ulimit -n"
    assert capsys.readouterr().err == f"memunit: {place}{why}; {remedy}\n"


def test_another_error_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def start(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("memunit.cli.main._start", start)
    assert main(["serve", "shop"]) == 70
    assert "Traceback" in capsys.readouterr().err
