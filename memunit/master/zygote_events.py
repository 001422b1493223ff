"""The events of a zygote for its master: the workers that it has forked, or why none comes."""

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from memunit.master.child import Launch
from memunit.master.held import Child
from memunit.records import dataclass

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class ZygoteId:
    """The `number`th zygote of a revision of the configuration."""

    revision: int
    number: int


@dataclass(frozen=True, slots=True)
class Forked(Generic[Name]):
    """A worker that was asked for is our child now."""

    name: Name
    zygote: ZygoteId
    child: Child
    signum: int
    """A signal that was meant for it meanwhile, 0 for none."""


@dataclass(frozen=True, slots=True)
class Refused(Generic[Name]):
    """A worker that was asked for will not come."""

    name: Name
    why: str


@dataclass(frozen=True, slots=True)
class Apart(Generic[Name]):
    """A worker that was asked for is to be started by exec, and imports the app for itself."""

    name: Name
    launch: Launch


@dataclass(frozen=True, slots=True)
class Declined:
    """The app's import has left behind what a fork breaks: no worker is forked from it."""

    hazards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """The app's import has left something behind that a fork does not get along with."""

    text: str


@dataclass(frozen=True, slots=True)
class Imported:
    """The zygote has imported the app."""

    zygote: ZygoteId


Event = Imported | Forked[Any] | Refused[Any] | Apart[Any] | Declined | Warned
