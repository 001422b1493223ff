"""The core as the exploration calls it: one place that knows its names."""

from memunit.core.policy import step
from memunit.core.state import State, initial


def copied(state: State) -> State:
    """A state that `step` may take to pieces."""
    return state.copy()


__all__ = ["State", "copied", "initial", "step"]
