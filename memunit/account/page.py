"""The report: one page that needs nothing else, and in which nothing is executed."""

import time
from collections.abc import Sequence

from memunit.account import leaks, series, svg
from memunit.account.facts import Finding
from memunit.account.lives import Account, Life, middle, quantile
from memunit.account.svg import text
from memunit.account.text import duration, plural
from memunit.core.quantity import format_size

_MOST_LIVES = 4000
_MOST_ROWS = 200
_WIDTH = 1120
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --dim: #667085; --line: #d5dae2; --back: #fff; --mem: #3b7dd4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ee; --dim: #98a2b3; --line: #394150; --back: #14181f; --mem: #6ea8fe; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 1120px;
  margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 2em 0 .4em; }
p, li { max-width: 50em; } .dim { color: var(--dim); }
.grid { display: grid; gap: 6px 12px; } svg { width: 100%; height: auto; display: block; direction: ltr; }
.scroll { overflow-x: auto; direction: rtl; } .scroll svg { min-width: 860px; }
.axis { stroke: var(--dim); } .tick { stroke: var(--line); stroke-width: .5; }
svg text { font: 10px system-ui, sans-serif; fill: var(--dim);
  paint-order: stroke; stroke: var(--back); stroke-width: 3px; stroke-linejoin: round; }
svg .scale, svg .name { text-anchor: end; } svg .time { text-anchor: middle; }
svg .title { font-weight: 600; fill: var(--ink); }
.memory { fill: none; stroke: var(--mem); stroke-width: 1.4; stroke-linejoin: round; }
.limit { stroke: #bf8510; stroke-dasharray: 5 3; } .ceiling { stroke: #d43b3b; stroke-dasharray: 5 3; }
.legend span { display: inline-block; margin-right: 1.2em; white-space: nowrap; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9em; width: 100%; }
th, td { text-align: left; padding: .25em .8em .25em 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child, .ends td:nth-child(4), .ends td span { white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; } td.h, td.m { overflow-wrap: anywhere; }
td.m { min-width: 24em; } td.h:not(:empty) { min-width: 9em; }
.finding { border-left: 4px solid var(--line); padding: .1em 0 .1em 1em; margin: 1em 0; }
.rank0, .rank1 { border-color: #d43b3b; } .rank2 { border-color: #bf8510; } .rank4 { border-color: #5b8c5a; }
@media (max-width: 640px) { td:first-child { white-space: normal; } td.m, td.h:not(:empty) { min-width: 0; }
  .leaks tr > :nth-child(n+3):nth-child(-n+6), .ends tr > :nth-child(2), .ends tr > :nth-child(3),
  .ends tr > :nth-child(n+5):nth-child(-n+7) { display: none; } }
"""


def page(
    account: Account,
    findings: Sequence[Finding],
    *,
    limit: int | None,
    ceiling: int | None,
    grace: float | None,
    version: str,
    status: str = "",
) -> str:
    """The whole page, as text of HTML. `status` is what the instance says of itself now."""
    since, until = _stamp(account.since), _stamp(account.until)
    zone = time.strftime("%Z", time.localtime(account.until))
    span = duration(account.until - account.since)
    head = f"memunit: {text(account.instance)}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            # Of what the journal carries nothing is executed, even if something should get past the escaping.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{head}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{head}</h1>",
            f'<p class="dim">{since} to {until} {text(zone)} ({span}), from the journal; memunit {text(version)}</p>',
            *([f"<p>Its status: {text(status)}</p>"] if status else []),
            *_findings(findings),
            *_memory(account, limit, ceiling),
            *_causes(account),
            *_drains(account, grace),
            *_leaks(account),
            *_table(account),
            "</body></html>",
            "",
        ]
    )


def _findings(findings: Sequence[Finding]) -> list[str]:
    parts = ["<h2>At the end of this time</h2>"]
    for each in findings:
        # The reader of this page need not make it.
        steps = [step for step in each.steps if not step.startswith("memunit report ")]
        listed = "".join(f"<li>{text(step)}</li>" for step in steps)
        told = "".join(f"<p>{text(line)}</p>" for line in each.text)
        short = f"<p><strong>{text(each.short)}</strong></p>" if each.short else ""
        parts.append(f'<div class="finding rank{int(each.rank)}">{short}{told}<ul>{listed}</ul></div>')
    return parts


def _memory(account: Account, limit: int | None, ceiling: int | None) -> list[str]:
    drawn = account.lives[-_MOST_LIVES:]
    slots: dict[int, list[Life]] = {}
    for life in drawn:
        known = series.points(life, account.until)
        if known and known[-1][0] >= account.since:
            slots.setdefault(life.slot, []).append(life)
    parts = ["<h2>Memory of each worker</h2>"]
    if not slots:
        return [*parts, '<p class="dim">The journal has no memory of any worker in this time.</p>']
    seen = [
        size for lives in slots.values() for life in lives for _, size in series.points(life, account.until)
    ]
    most = max([limit or 0, ceiling or 0, *seen]) * 1.08
    size = (_WIDTH, 190) if len(slots) <= 4 else (365, 120) if len(slots) <= 15 else (271, 84)
    parts.append(
        '<p class="dim">Each slot has a picture, and each worker a line. The line ends at the memory that the '
        "journal has "
        "of the worker's end, or that the kernel reports of a running worker. Before that point the line is straight, "
        "and its slope is the worker's growth if that is known. "
        f"{_bound('Limit', limit)}{_bound('Ceiling', ceiling)}</p>"
    )
    if len(account.lives) > len(drawn):
        parts.append(f'<p class="dim">The last {len(drawn)} of {len(account.lives)} workers are drawn.</p>')
    if size[0] == _WIDTH:
        parts.append('<div class="scroll">')
    else:
        # As many beside each other as can be read.
        columns = f"repeat(auto-fill, minmax(min(100%, {size[0]}px), 1fr))"
        parts.append(f'<div class="grid" style="grid-template-columns: {columns}">')
    parts += [
        svg.memory(account, slot, lives, most=most, limit=limit, ceiling=ceiling, size=size)
        for slot, lives in sorted(slots.items())
    ]
    return [*parts, "</div>", _legend({life.cause for life in drawn if life.cause})]


def _bound(name: str, size: int | None) -> str:
    return f"{name}: {format_size(size)}. " if size else ""


def _legend(causes: set[str]) -> str:
    parts = [
        f'<span><i style="background: {svg.colour(cause)}"></i>{text(cause)}</span>'
        for cause in sorted(causes)
    ]
    return f'<p class="legend">{"".join(parts)}</p>'


def _causes(account: Account) -> list[str]:
    counts = account.counts(account.since)
    parts = ["<h2>Recycles by cause</h2>"]
    if not counts:
        return [*parts, '<p class="dim">No worker has ended in this time.</p>']
    told = ", ".join(f"{count} {text(cause)}" for cause, count in counts.items())
    bar = duration((account.until - account.since) / svg.BARS)
    drawn = _scrolled(svg.causes(account, (_WIDTH, 190)))
    return [*parts, f"<p>{told}. A bar is {bar}.</p>", drawn, _legend(set(counts))]


def _drains(account: Account, grace: float | None) -> list[str]:
    values = account.drains(account.since)
    parts = ["<h2>Drain times</h2>"]
    if not values:
        return [*parts, '<p class="dim">No worker was told to stop in this time.</p>']
    told = (
        f"{plural(len(values), 'stop')}: median {duration(middle(values))}, nine of ten within "
        f"{duration(quantile(values, 0.9))}, longest {duration(max(values))}."
    )
    return [*parts, f"<p>{told}</p>", _scrolled(svg.drains(account, grace, (_WIDTH, 190)))]


def _scrolled(picture: str) -> str:
    """A picture that a narrow window shows from its end: what is newest."""
    return f'<div class="scroll">{picture}</div>'


def _leaks(account: Account) -> list[str]:
    found = leaks.examined(account)
    if not found:
        return []
    parts = ["<h2>What grows</h2>", f"<p>{plural(len(found), 'worker')} examined at the end.</p>"]
    head = "<th>Verdict</th><th>Holder</th><th class=n>A worker</th><th class=n>An hour</th><th class=n>Found in</th>"
    parts.append(f'<div class="wide"><table class="leaks"><tr>{head}<th>Route</th><th>Example</th></tr>')
    for leak in leaks.merged(found):
        hour = "" if not leak.per_hour else format_size(leak.per_hour)
        numbers = [format_size(leak.size) if leak.size else "", hour, f"{len(leak.found)} of {leak.workers}"]
        verdict = leak.kind if leak.kind == leak.verdict else f"{leak.kind}: {leak.verdict}"
        name = leak.holder + (f" ({leak.type})" if leak.type else "")
        parts.append(
            f"<tr><td>{text(verdict)}</td><td class=h>{text(name)}</td>"
            + "".join(f"<td class=n>{text(each)}</td>" for each in numbers)
            + f"<td class=h>{text(leak.by)}</td><td class=m>{text(leak.example.message)}</td></tr>"
        )
    return [*parts, "</table></div>"]


def _table(account: Account) -> list[str]:
    ended = account.ended(since=account.since)
    if not ended:
        return []
    some = ended[-_MOST_ROWS:]
    parts = [f"<h2>{'The last ' if len(some) < len(ended) else ''}{plural(len(some), 'end')}</h2>"]
    head = "<th>When</th><th>Worker</th><th class=n>Pid</th><th>Cause</th><th class=n>Lived</th><th class=n>Held</th>"
    parts.append(
        f'<div class="wide"><table class="ends"><tr>{head}<th class=n>To stop</th><th>Message</th></tr>'
    )
    for life in reversed(some):
        numbers = [
            duration(life.uptime) if life.uptime is not None else "",
            format_size(life.memory) if life.memory is not None else "",
            duration(life.drain) if life.drain is not None else "",
        ]
        cells = [f"<td class=n>{text(each)}</td>" for each in numbers]
        parts.append(
            f"<tr><td>{_in_two(life.ended or 0.0)}</td><td>{text(life.name)}</td><td class=n>{int(life.pid)}</td>"
            f'<td><i style="color: {svg.colour(life.cause)}">&#9679;</i> {text(life.cause)}</td>{"".join(cells)}'
            f"<td class=m>{text(life.message)}</td></tr>"
        )
    return [*parts, "</table></div>"]


def _in_two(at: float) -> str:
    """A time that breaks between date and time of day alone."""
    date, clock = _stamp(at).split()
    return f"<span>{date}</span> <span>{clock}</span>"


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
