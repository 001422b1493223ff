"""Which user an instance is (FIELD B19): with own-user.conf, the app of one can't reach the workers of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.booted.support import Instance, light, run

pytestmark = pytest.mark.native
EXAMPLE = Path("/usr/share/doc/memunit/examples/own-user.conf")


def uid(pid: int) -> int:
    """The user of a process."""
    return Path(f"/proc/{pid}").stat().st_uid


def kills(one: Instance, other: Instance) -> bool:
    """Whether a process of `one` may send a signal to a worker of `other` (0: it is only asked)."""
    (target,) = other.workers().values()
    words = ("setpriv", f"--reuid={uid(one.master())}", "--clear-groups", "kill", "-0", str(target))
    return run(*words, check=False).returncode == 0


def test_an_instance_has_a_user_of_its_own_by_the_example() -> None:
    """And without it all share one: said in the example, and in memunit@.service(5)."""
    own = "".join(
        line for line in EXAMPLE.read_text().splitlines(keepends=True) if not line.startswith(("#", "["))
    )
    with (
        Instance("alone", light(count=1), service=own) as alone,
        Instance("first", light(count=1)) as first,
        Instance("second", light(count=1)) as second,
    ):
        for instance in (alone, first, second):
            instance.start()
            instance.settle()
        assert uid(first.master()) == uid(second.master()) != uid(alone.master())
        assert kills(first, second)
        assert not kills(first, alone)
        assert not kills(alone, first)
        # systemd gives its directories to the new user (257 by an ID-mapped mount): it starts with them again.
        alone.systemctl("restart")
        alone.ask()


def test_names_that_are_no_users_still_start() -> None:
    """Why the template itself does not say User=memunit-%i."""
    with Instance("Shop.example-with-a-long-name-of-its-own", light(count=1)) as instance:
        instance.start()
        instance.ask()
    own = "User=memunit-%i\n"
    with Instance("Shop.example", light(count=1), service=own) as instance:
        instance.listen()
        assert instance.systemctl("start", check=False).returncode != 0
