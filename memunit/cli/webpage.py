"""`memunit report INSTANCE -o FILE`: what `memunit history` tells, as one page for a browser.

Exit codes: 0 the page is written; 64 wrong command line; 69 no such instance, or no journal; 74 the page could not be
written; 77 the journal may not be read.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from memunit import __version__
from memunit.account.facts import Facts
from memunit.account.findings import diagnose
from memunit.account.page import page
from memunit.cli.failing import Failed, instance_named, say
from memunit.cli.history import as_values, bounds, gathered
from memunit.cli.reading import reader, settings_of, since
from memunit.cli.terminal import as_json, emit
from memunit.cli.usage import Parser, fail
from memunit.core.exitcodes import EX_IOERR, OK

_PROGRAM = "memunit report"
_DESCRIPTION = """\
Write one page for a browser, which needs no other file: the memory of each worker over time with limit and ceiling,
recycles by cause, drain times, the last ends, and the troubles with their remedies."""
_EPILOG = """\
examples:
  memunit report shop -o report.html
  memunit report shop --since "3 days" -o report.html
  ssh host sudo memunit report shop > report.html

exit codes: 0 written, 64 wrong command line, 69 no such instance or no journal, 74 can't write the page,
77 may not read the journal"""


def parser() -> Parser:
    """What may be typed after its name."""
    made = reader("report", _DESCRIPTION, _EPILOG)
    made.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the file; - is standard output, the default if that is not a terminal",
    )
    made.add_argument("--since", metavar="TIME", help='the start of the time span: 2h, "3 days", 14:30 [24h]')
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code. Raises SystemExit for wrong arguments and for --help."""
    chosen = parser().parse_args(arguments)
    instance = instance_named(chosen.instance, _PROGRAM)
    output = chosen.output or ("" if sys.stdout.isatty() and not chosen.json else "-")
    if not output:
        fail("a page is for a browser; say -o report.html", _PROGRAM)
    now = time.time()
    begin = since(chosen.since, now, _PROGRAM)
    try:
        account, settings, unit = gathered(instance, chosen.journal, begin, now)
    except Failed as failed:
        return failed.tell()
    limit, ceiling = bounds(account, settings, unit)
    if chosen.json:
        return _write(as_json(as_values(account, limit, ceiling)), output)
    file, read, problems = settings_of(instance)
    facts = Facts(unit, account, account.until, file, read, () if chosen.journal else problems)
    text = page(
        account,
        diagnose(facts),
        limit=limit,
        ceiling=ceiling,
        grace=settings.stop.grace if settings else None,
        version=__version__,
        status=unit.status or (f"{unit.active} ({unit.sub})" if unit.known else ""),
    )
    return _write(text, output)


def _write(text: str, output: str) -> int:
    if output == "-":
        return emit(text, what="the page")
    path = Path(output)
    try:
        if path.exists() and not path.is_file():
            # A pipe, a device: there is nothing to put in its place.
            path.write_text(text)
            return OK
        # In one step: whoever looks at it has the old page or the new one.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                mask = os.umask(0)
                os.umask(mask)
                os.fchmod(file.fileno(), 0o666 & ~mask)
            Path(name).rename(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        say(f"{output}: the page can't be written: {error.strerror or error}; say -o with another place")
        return EX_IOERR
    return OK
