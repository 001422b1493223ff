"""All that is known of an instance at one moment, and the shape of what is wrong with it."""

import math
import signal
from collections.abc import Sequence

from memunit.account.lives import Account, Life
from memunit.account.text import clean, duration
from memunit.account.units import Unit
from memunit.core.problems import Problem
from memunit.core.quantity import QuantityError, parse_size
from memunit.core.settings import Settings
from memunit.records import dataclass, field

HOUR = 3600.0
DAY = 86400.0
WEEK = 7 * DAY
# Of an entry's own message, for a sentence: memunit's longest are whole.
KEPT = 500


@dataclass(slots=True)
class Finding:
    """One thing that is wrong, or was: `short` for a table, `text` for who asks why, `steps` to go.

    `rank` orders them: 0 nobody is served, 1 requests are lost, 2 something is going to be, 3 good to know, 4 all is
    well. `at` is when the trouble was last seen, in seconds of CLOCK_REALTIME. Its evidence are the printed lines of
    `life`, or those of every process of the instance until `printed_at`.
    """

    kind: str
    rank: int
    at: float
    short: str
    text: list[str]
    steps: list[str]
    life: Life | None = field(default=None, repr=False)
    printed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of an instance at one moment."""

    unit: Unit
    account: Account
    now: float
    file: str
    settings: Settings | None = None
    problems: Sequence[Problem] = ()
    silent: str = ""

    @property
    def name(self) -> str:
        """The instance's."""
        return self.unit.instance

    @property
    def limit(self) -> int | None:
        """The limit in force, in bytes: of `memunit set` or of the file; None for none."""
        return in_force(self.unit, self.settings)[0]

    @property
    def ceiling(self) -> int | None:
        """The ceiling in force, like `limit`."""
        return in_force(self.unit, self.settings)[1]

    def ago(self, at: float) -> str:
        """ "4 min ago"."""
        seconds = max(0.0, self.now - at)
        return f"{seconds:.0f} s ago" if seconds < 99.5 else f"{duration(seconds)} ago"


def in_force(unit: Unit, settings: Settings | None) -> tuple[int | None, int | None]:
    """(limit, ceiling) in bytes, None for none: set by a person until the next reload, else as the file says."""
    bounds = (settings.memory.limit, settings.memory.ceiling) if settings else (None, None)
    return _changed(unit, "memory.limit", bounds[0]), _changed(unit, "memory.ceiling", bounds[1])


def _changed(unit: Unit, setting: str, of_file: int | None) -> int | None:
    said = unit.changed.get(setting)
    try:
        return of_file if said is None else parse_size(said)
    except QuantityError:
        # A service may send systemd any status.
        return of_file


def sentence(message: str) -> str:
    """An entry's message, as a sentence among others."""
    text = clean(message, KEPT)
    return text if text.endswith(".") else f"{text}."


def how_signal(number: int) -> str:
    """ "SIGSEGV"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def check(name: str) -> str:
    """The command that looks at the file."""
    return f"memunit check {name}"


def size_of(size: int) -> str:
    """A size for a file: in whole steps of 10M, or of 1M where it is small."""
    step = 10 << 20 if size >= 100 << 20 else 1 << 20
    return f"{max(1, math.ceil(size / step)) * step >> 20}M"
