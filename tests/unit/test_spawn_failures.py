"""What a system call has failed of, in one clause."""

from __future__ import annotations

import errno
import os

import pytest

from memunit.master import spawn


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EMFILE, "pipe: Too many open files (LimitNOFILE= of the unit)"),
        (errno.ENFILE, "pipe: Too many open files in system (fs.file-max of the machine)"),
        (errno.ENOENT, "pipe: No such file or directory"),
    ],
)
def test_what_is_used_up_is_named_with_its_key(number: int, said: str) -> None:
    assert spawn.describe(OSError(number, os.strerror(number), "pipe")) == said
    assert spawn.fork_failure(number) == said.replace("pipe", "fork")
