"""The manual page of each command, made from memunit(1) and from the help of the command.

    python3 packaging/lib/manuals.py            write the pages to packaging/man
    python3 packaging/lib/manuals.py --check    say whether they are those; exit status 1 if not

memunit(1) gives the synopsis and the description, and the page of `run` its list of options. The help gives the options
of the other commands, the examples and the exit codes. The pages are in the tree, as completions are, so a wheel, a
package or a checkout has them without a step of its build. A test does the second of the above.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).parent))

from completions import Option, commands, renew  # noqa: E402

from memunit.cli import flags, main  # noqa: E402

PLACE = ROOT / "packaging" / "man"
_NOTE = '.\\" made by packaging/lib/manuals.py from memunit.1 and the help of the command; change those'
# Without an argparse parser: at each systemctl reload, its import would take longer than the command itself.
_PLAIN = ("reload", "reexec")
_SEE = ("memunit(1)", "memunit.toml(5)", "memunit@.service(5)")


@dataclass(frozen=True)
class Manual:
    """memunit(1), taken apart: the arguments of .TH, and what each command has in it, as lines of man(7)."""

    head: str
    synopses: dict[str, str]
    entries: dict[str, str]
    shared: list[str]
    options: str


def manual() -> Manual:
    """Read it."""
    text = (PLACE / "memunit.1").read_text()
    sections = dict(re.findall(r"^\.SH ([^\n]+)\n(.*?)(?=^\.SH |\Z)", text, re.M | re.S))
    synopses = {}
    for block in re.findall(r"^\.SY memunit\n(.*?)^\.YS\n", sections["SYNOPSIS"], re.M | re.S):
        if found := re.match(r"\.B (\w+)\n", block):
            synopses[found[1]] = block[found.end() :]
    listed, *shared = re.split(r"^\.PP\n", sections["COMMANDS"], flags=re.M)
    entries = {}
    for item in re.split(r"^\.TP\n", listed, flags=re.M)[1:]:
        title, _, body = item.partition("\n")
        found = re.search(r"memunit (\w+)", title)
        assert found is not None, title
        entries[found[1]] = body
    head = re.match(r'\.TH MEMUNIT 1 (".*")\n', text)
    assert head is not None
    options = sections["OPTIONS"]
    return Manual(head[1], synopses, entries, shared, options[options.index(".SS ") :])


def page(whole: Manual, name: str, summary: str, options: tuple[Option, ...]) -> str:
    """The page of one command."""
    told = _told(name)
    parts = [
        f".TH MEMUNIT\\-{name.upper()} 1 {whole.head}\n{_NOTE}\n.SH NAME\nmemunit\\-{name} \\- {_text(summary)}\n",
        f".SH SYNOPSIS\n.SY memunit\n.B {name}\n{whole.synopses[name]}.YS\n",
        f".SH DESCRIPTION\n{_description(whole, name)}",
        ".SH OPTIONS\n" + (whole.options if name == "run" else ""),
    ]
    if name != "run":
        parts += [_option(each) for each in options]
    if "keys" in told:
        parts.append(".SH KEYS\n" + "".join(map(_row, told["keys"])))
    parts.append(".SH EXAMPLES\n" + "".join(map(_row, told["examples"])))
    codes = re.split(r"[,;] (?=\d+ )", " ".join(told["exit codes"]))
    parts.append(".SH EXIT STATUS\n" + "".join(_code(each) for each in codes))
    parts.append(".SH SEE ALSO\n" + _see("".join(parts)))
    return "".join(parts)


def _description(whole: Manual, name: str) -> str:
    """Its entry, and each paragraph after the entries that begins with a list of commands with this one in it."""
    about = whole.entries[name].replace("\n.IP\n", "\n.PP\n")
    for paragraph in whole.shared:
        if name in re.findall(r"[a-z]+", paragraph.partition("\n")[0].removeprefix(".BR")):
            about += f".PP\n{paragraph}"
    return about


def _told(name: str) -> dict[str, list[str]]:
    """The parts of the help that have a title at the margin: "examples", "exit codes", "keys"."""
    module = importlib.import_module(main._COMMANDS[name][0])
    made = None if name in _PLAIN else flags.parser() if name == "run" else module.parser()
    text = str(module.HELP if made is None else made.epilog)
    found: dict[str, list[str]] = {}
    for part in text.split("\n\n"):
        title, colon, rest = part.partition(":")
        if colon and re.fullmatch(r"[a-z ]+", title):
            found[title] = rest.strip("\n").splitlines() if rest.startswith("\n") else rest.split("\n")
    return found


def _row(line: str) -> str:
    """A command or keys, two spaces, and what it does; or a command alone."""
    typed, _, text = line.strip().partition("   ") if "   " in line.strip() else line.strip().partition("  ")
    return f".TP\n.B {_typed(typed)}\n{_sentence(text) if text.strip() else ''}"


def _option(option: Option) -> str:
    names = ", ".join(f"\\fB{_typed(each)}\\fR" for each in option.names)
    value = f" \\fI{_text(option.metavar)}\\fR" if option.metavar else ""
    return f".TP\n{names}{value}\n{_sentence(option.help)}"


def _code(said: str) -> str:
    number, _, text = said.strip().partition(" ")
    return f".TP\n.B {number}\n{_sentence(text)}"


def _sentence(text: str) -> str:
    """With a capital at its beginning and a full stop at its end, which comes before "[2s]"."""
    text, bracket, default = text.strip().partition(" [")
    text = text if text.startswith("memunit") else text[0].upper() + text[1:]
    return _text(f"{text.rstrip('.')}.{bracket}{default}") + "\n"


def _text(text: str) -> str:
    """Prose for roff: an option keeps its hyphens, and a line that is no request is not taken for one."""
    text = re.sub(r"(?<![\w-])--?(?=\w)", lambda found: "\\-" * len(found[0]), text.replace("\\", "\\e"))
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _typed(text: str) -> str:
    """What is typed, to the letter. A quote would begin an argument of the request."""
    return text.strip().replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")


def _see(text: str) -> str:
    named = re.findall(r"^\.BR ([\w.@\\-]+) \((\d)\)", text, re.M)
    found = {f"{title}({section})".replace("\\-", "-") for title, section in named} - set(_SEE)
    pages = [*_SEE, *sorted(found)]
    lines = [re.sub(r"(.*)\((\d)\)", r".BR \1 (\2)", each).replace("-", "\\-") for each in pages]
    return ",\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Each page with what belongs in it."""
    whole = manual()
    return {
        PLACE / f"memunit-{each.name}.1": page(whole, each.name, each.help, each.options)
        for each in commands()
    }


def entry() -> int:
    """Entry point."""
    made = files()
    return renew(made, "manuals.py", [path for path in PLACE.glob("memunit-*.1") if path not in made])


if __name__ == "__main__":
    sys.exit(entry())
