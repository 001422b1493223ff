"""Wait for an event with a deadline. No test sleeps, and none waits for ever."""

import os
import select
import time

from memunit.master.held import Child, End, reap

# It bounds a failure, and no pass: on two processors with other work beside, a start may take many seconds.
DEADLINE = 60.0


def wait_readable(descriptor: int, timeout: float = DEADLINE) -> None:
    """Return once `descriptor` is readable (a pidfd: once its process has ended); TimeoutError after
    `timeout` s.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(timeout * 1000):
        raise TimeoutError(f"descriptor {descriptor} was not readable within {timeout} s")


def read_line(descriptor: int, timeout: float = DEADLINE) -> str:
    """One line from a pipe, without its end; what has come so far when the pipe ends first."""
    until = time.monotonic() + timeout
    line = b""
    while not line.endswith(b"\n"):
        wait_readable(descriptor, max(0.0, until - time.monotonic()))
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line.decode().rstrip("\n")


def read_all(descriptor: int, timeout: float = DEADLINE) -> str:
    """Everything until the last writer has closed the pipe."""
    until = time.monotonic() + timeout
    text = b""
    while True:
        wait_readable(descriptor, max(0.0, until - time.monotonic()))
        block = os.read(descriptor, 65536)
        if not block:
            return text.decode()
        text += block


def wait_gone(pid: int, timeout: float = DEADLINE) -> None:
    """Return once `pid` has ended, be it a child or not (a zombie counts as ended)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        wait_readable(pidfd, timeout)
    finally:
        os.close(pidfd)


def wait_end(child: Child, timeout: float = DEADLINE) -> End:
    """Wait for the child's end, reap it and return how it ended."""
    wait_readable(child.pidfd, timeout)
    ends, _ = reap({child.pid: child}.get)
    return next(end for end in ends if end.pid == child.pid)
