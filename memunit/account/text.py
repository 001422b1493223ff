"""Text that others have written, made fit for a terminal, a table and a page.

The journal carries what an app prints and says. An escape sequence in it could rename a terminal's title, hide a line
or type for whoever reads; U+202E turns the rest of a line round.
"""

_NAMED = {"\t": "  ", "\n": "\\n", "\r": "\\r"}


def clean(text: str, most: int = 0) -> str:
    """`text` on one line: what is not printable stands as an escape. Cut to `most` characters, if that is not 0."""
    if text.isprintable() and (not most or len(text) <= most):
        return text
    shown = "".join(
        each if each.isprintable() else _NAMED.get(each) or _escape(each) for each in text[: most or None]
    )
    if most and (len(text) > most or len(shown) > most):
        return shown[: most - 3] + "..."
    return shown


def lines(text: str, most: int = 0) -> list[str]:
    """The lines of `text`, each as by clean()."""
    return [clean(line, most) for line in text.split("\n")]


def _escape(character: str) -> str:
    number = ord(character)
    return (
        f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
    )


def duration(seconds: float) -> str:
    """A time that has passed, in its largest units: "0.12 s", "42 s", "4 min", "3 h 10 min", "2 days"."""
    if seconds < 0.995:
        return f"{max(0.0, seconds):.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{hours} h"
    return f"{round(seconds / 86400)} days"


def plural(count: int, noun: str) -> str:
    """ "1 worker", "2 workers"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
