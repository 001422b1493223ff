"""A pass of the master that fails in the middle of its actions: what is left for the master that goes on."""

from __future__ import annotations

from collections import deque
from typing import Any
from unittest.mock import MagicMock

import pytest

from memunit.core import policy
from memunit.core.actions import Action, NotifyReady, Send, Signal, Spawn
from memunit.core.model import WorkerId
from memunit.master.master import Master

WHO = WorkerId(0, 1)
TOLD = Send(WHO, Signal.TERM)
STARTED = Spawn(WorkerId(0, 2), 1, 30.0)


@pytest.mark.parametrize(
    ("actions", "fails", "left"),
    [
        ((NotifyReady(), TOLD, STARTED), TOLD, [TOLD, STARTED]),
        # The worker may be there, and would be started twice.
        ((NotifyReady(), STARTED, TOLD), STARTED, [TOLD]),
    ],
)
def test_what_has_failed_is_done_again_but_a_start(
    monkeypatch: pytest.MonkeyPatch, actions: tuple[Action, ...], fails: Action, left: list[Action]
) -> None:
    """Else a worker that was to stop would never hear of it, and be killed when its grace ends."""

    def do(action: Action) -> None:
        if action == fails:
            raise OSError("for once")

    monkeypatch.setattr(policy, "step", lambda state, facts, now: (state, actions, now + 1))
    master: Any = MagicMock(_facts=[], _actions=deque(), _do=do)
    with pytest.raises(OSError, match="for once"):
        Master._turn(master)
    assert list(master._actions) == left
