"""What is wrong with a configuration: one shape for all that parse, check or prepare one."""

from collections.abc import Iterable

from memunit.records import dataclass

_LONGEST = 1500  # a file of 1 MiB can be one value, and journald takes 48K a line
COMMAND_LINE = "command line"  # the source of settings that were typed and not read from a file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: where (`source`, `key`; "" for the whole of it), what is wrong, what to do."""

    source: str
    key: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        """One line of a bounded length: source, key, what is wrong, and after a semicolon the remedy."""
        text = ": ".join(part for part in (self.source, self.key, self.message) if part)
        line = f"{text}; {self.remedy}" if self.remedy else text
        if len(line) > _LONGEST:
            line = f"{line[:_LONGEST]}..."
        return "".join(c if c.isprintable() else "?" for c in line)


class SettingsError(Exception):
    """A configuration that can't be used; `problems` has everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
