"""Run a test's body in a process of its own, where it may change what belongs to the whole process."""

import os
import sys
import traceback
from collections.abc import Callable

from tests.support.wait import read_all


def isolated(body: Callable[[], object]) -> None:
    """Run `body` in a forked child; AssertionError with its traceback when it raises."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            body()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-60000:])
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writer)
    try:
        report = read_all(reader)
    finally:
        os.close(reader)
        _, status = os.waitpid(pid, 0)
    assert status == 0, report or f"it ended with wait status {status}"
