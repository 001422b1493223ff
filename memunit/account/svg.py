"""Plain SVG of an account: every number is formatted here, and every text is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from memunit.account import series
from memunit.account.lives import Account, Life
from memunit.account.text import clean, duration
from memunit.core.quantity import format_size

# Each stands out from a white page and from a dark one.
COLOURS = {
    "memory-limit": "#bf8510",
    "memory-ceiling": "#d43b3b",
    "watchdog": "#a03bd4",
    "crash-exit": "#e0662f",
    "crash-signal": "#d3275c",
    "start-failed": "#8f6b4d",
    "start-timeout": "#a58a6f",
    "grace-expired": "#d43b9a",
    "pressure": "#a0921a",
    "max-age": "#4f8a8b",
    "requested": "#5b8c5a",
    "adopted": "#8a6fc1",
    "reload": "#3b7dd4",
    "scale-down": "#7f8fa6",
    "stop": "#8b9198",
}
BARS = 60
_OTHER = "#6b7280"
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 16, 20
# The width of one in the page's type, at most.
_LETTER = 7


def text(words: str) -> str:
    """Foreign text for HTML and SVG."""
    return escape(clean(words), quote=True)


def colour(cause: str) -> str:
    """Of a cause; a constant of ours, whatever the journal says."""
    return COLOURS.get(cause, _OTHER)


class Frame:
    """A drawing area: time from left to right, a quantity from 0 at the bottom to `most`."""

    def __init__(self, account: Account, most: float, width: int, height: int, label: str) -> None:
        self._since, self._span = account.since, max(1e-9, account.until - account.since)
        self._until = account.until
        self._most = most if most > 0 else 1.0
        self.width, self.height = width, height
        self._label = label
        self.parts: list[str] = []
        self._names: list[str] = []

    def x(self, at: float) -> float:
        """Of a time; what is outside stands at the edge."""
        share = min(1.0, max(0.0, (at - self._since) / self._span))
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Of a quantity."""
        share = min(1.0, max(0.0, value / self._most))
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def level(self, value: float, kind: str, name: str) -> None:
        """A line across, with its name."""
        y = self.y(value)
        self.parts.append(
            f'<line class="{kind}" x1="{_LEFT}" x2="{self.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        # Above what is drawn later.
        self._names.append(
            f'<text class="name" x="{self.width - _RIGHT}" y="{y - 3:.1f}">{text(name)}</text>'
        )

    def line(self, known: Sequence[tuple[float, float]], kind: str) -> None:
        """A path through points."""
        if len(known) == 1:
            known = [*known, known[0]]
        drawn = " ".join(
            f"{'L' if n else 'M'}{self.x(at):.1f} {self.y(value):.1f}" for n, (at, value) in enumerate(known)
        )
        self.parts.append(f'<path class="{kind}" d="{drawn}"/>')

    def dot(self, at: float, value: float, cause: str, title: str, radius: float = 3) -> None:
        """A mark in the colour of a cause, whose title a pointer shows."""
        self.parts.append(
            f'<circle cx="{self.x(at):.1f}" cy="{self.y(value):.1f}" r="{radius:g}" fill="{colour(cause)}">'
            f"<title>{text(title)}</title></circle>"
        )

    def block(self, at: float, until: float, low: float, high: float, cause: str, title: str) -> None:
        """A piece of a stacked bar."""
        x, y = self.x(at), self.y(high)
        width, height = max(1.0, self.x(until) - x - 1), self.y(low) - y
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour(cause)}">'
            f"<title>{text(title)}</title></rect>"
        )

    def done(self, name: str, title: str = "") -> str:
        """The picture, with its axes. `name` says to who can't see it what it is."""
        base = self.height - _BOTTOM
        axes = [f'<line class="axis" x1="{_LEFT}" x2="{self.width - _RIGHT}" y1="{base}" y2="{base}"/>']
        axes.append(f'<text class="scale" x="{_LEFT - 4}" y="{_TOP + 4}">{text(self._label)}</text>')
        axes.append(f'<text class="scale" x="{_LEFT - 4}" y="{base}">0</text>')
        for tick in series.ticks(self._since, self._until, max(2, (self.width - _LEFT) // 90)):
            x = self.x(tick)
            axes.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{base}"/>')
            label = series.clock(tick, self._span)
            middle = min(x, self.width - len(label) * _LETTER / 2)
            axes.append(f'<text class="time" x="{middle:.1f}" y="{base + 13}">{text(label)}</text>')
        if title:
            axes.append(f'<text class="title" x="{_LEFT + 4}" y="12">{text(title)}</text>')
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{text(name)}">'
            f"{''.join(axes)}{''.join(self.parts)}{''.join(self._names)}</svg>"
        )


def memory(
    account: Account,
    slot: int,
    lives: Iterable[Life],
    *,
    most: float,
    limit: int | None,
    ceiling: int | None,
    size: tuple[int, int],
) -> str:
    """The workers of one slot, one after the other: each its line, and the cause of its end as a mark."""
    frame, named = Frame(account, most, *size, format_size(int(most))), size[1] > 100
    if limit:
        frame.level(limit, "limit", f"limit {format_size(limit)}" if named else "")
    if ceiling:
        frame.level(ceiling, "ceiling", f"ceiling {format_size(ceiling)}" if named else "")
    for life in lives:
        known = series.points(life, account.until)
        if not known or known[-1][0] < account.since:
            continue
        frame.line(known, "memory")
        if life.ended is not None:
            held = f", {format_size(life.memory)}" if life.memory is not None else ""
            title = f"worker {life.name} (pid {life.pid}): {life.cause}{held} at {_when(life.ended)}"
            frame.dot(life.ended, known[-1][1], life.cause, title)
    return frame.done(f"memory of slot {slot}", f"slot {slot}")


def causes(account: Account, size: tuple[int, int], count: int = BARS) -> str:
    """How many ended, stacked by cause."""
    # The stop of the service is no recycle.
    rows = {cause: row for cause, row in series.by_cause(account, count).items() if cause != "stop"}
    sums = [sum(row[n] for row in rows.values()) for n in range(count)]
    most = max(sums, default=0)
    frame = Frame(account, most, *size, str(most))
    step = (account.until - account.since) / count
    low = [0] * count
    for cause, row in rows.items():
        for n, number in enumerate(row):
            if number:
                begin = account.since + n * step
                title = f"{number} {cause}, {_when(begin)} to {_when(begin + step)}"
                frame.block(begin, begin + step, low[n], low[n] + number, cause, title)
                low[n] += number
    return frame.done("workers that ended, by cause")


def drains(account: Account, grace: float | None, size: tuple[int, int]) -> str:
    """Each stop, and how long it took."""
    some = [life for life in account.ended(since=account.since) if life.drain is not None]
    longest = max((life.drain or 0.0 for life in some), default=0.0)
    near = grace is not None and grace <= 3 * longest
    most = max(longest, grace if near and grace is not None else 0.0) * 1.05
    frame = Frame(account, most, *size, duration(most))
    if near and grace is not None:
        frame.level(grace, "ceiling", f"grace {duration(grace)}")
    for life in some:
        title = f"worker {life.name} (pid {life.pid}): {life.cause}, {duration(life.drain or 0.0)} to stop"
        frame.dot(life.ended or 0.0, life.drain or 0.0, life.cause, title)
    return frame.done("time from the order to stop to the end")


def _when(at: float) -> str:
    return series.clock(at, 0)
