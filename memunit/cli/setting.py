"""`memunit set INSTANCE [KEY=VALUE...]`: change settings of a running instance until its next reload, or show these.

Exit codes: 0 done, 64 wrong command line or a value that can't be used, 69 not running, or a master that does not
answer, 77 neither root nor the service's own user.
"""

from collections.abc import Sequence

from memunit.cli import linked
from memunit.cli.failing import instance_named
from memunit.cli.link import Link
from memunit.cli.terminal import as_json, emit
from memunit.cli.usage import Parser, fail
from memunit.core.adjusting import FIELDS

_PROGRAM = "memunit set"
_DESCRIPTION = f"""\
Change settings of a running instance, until its next reload or restart. A change applies to the running workers too.
Without a setting, show the changes. These settings can be changed:
  {", ".join(list(FIELDS)[:4])},
  {", ".join(list(FIELDS)[4:])}"""
_EPILOG = """\
examples:
  memunit set shop memory.limit=500M                  change the limit
  memunit set shop memory.limit=1G memory.ceiling=2G  change both at once
  memunit set shop                                    show what differs from the file"""


def parser() -> Parser:
    """What may be typed after its name."""
    made = linked.asker("set", _DESCRIPTION, _EPILOG)
    made.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="a setting, as in memunit.toml(5)")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    settings: dict[str, str] = {}
    for word in chosen.settings:
        key, equals, value = word.partition("=")
        if not (key and equals):
            fail(f'"{word[:60]}" is no setting; say KEY=VALUE, as memory.limit=500M', _PROGRAM)
        # As it stands in the file: quotes that the shell has left.
        settings[key.strip()] = value.strip().strip('"')

    def work(link: Link) -> int:
        if settings:
            found = link.call("Set", {"settings": settings})["settings"]
        else:
            found = link.call("Describe")["instance"]["settings"]
        if chosen.json:
            return emit(as_json(found))
        if not found:
            return emit(f"{instance}: all is as the file says\n")
        lines = [f"{key} = {value}\n" for key, value in found.items()]
        return emit(f"{instance}: until the next reload\n" + "".join(f"  {line}" for line in lines))

    return linked.run(instance, work)
