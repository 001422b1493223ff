"""The completions for bash, zsh and fish, made from the parsers of the commands themselves.

    python3 packaging/lib/completions.py            write them to packaging/completion
    python3 packaging/lib/completions.py --check    say whether they are those; exit status 1 if not

A unit test does the second.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from memunit.cli import flags, main  # noqa: E402
from memunit.core.schema import KEYS, Key, Kind  # noqa: E402

PLACE = ROOT / "packaging" / "completion"
# Commands without options of their own: they have one argument.
_PLAIN = ("serve", "reload", "reexec")
_NOTE = "made by packaging/lib/completions.py from the commands' own options; change those"


@dataclass(frozen=True)
class Option:
    """One option: its names, whether a word follows, what that is, the help, and the word for the value."""

    names: tuple[str, ...]
    takes: str
    words: tuple[str, ...]
    help: str
    metavar: str = ""


@dataclass(frozen=True)
class Command:
    """One command: its options and what its other words are: "instance", "file" and the like, "" for none."""

    name: str
    help: str
    options: tuple[Option, ...]
    arguments: tuple[str, ...]
    repeated: bool = False


def commands() -> list[Command]:
    """All of them, from the program's own table."""
    return [_command(name, module, text) for name, (module, text) in main._COMMANDS.items()]


def _command(name: str, module: str, text: str) -> Command:
    helps = Option(("-h", "--help"), "", (), "print a summary")
    if name in _PLAIN:
        return Command(name, text, (helps,), ("instance",))
    made: argparse.ArgumentParser
    made = flags.parser() if name == "run" else importlib.import_module(module).parser()
    options = [_option(each) for each in made._actions if each.option_strings]
    words = [each for each in made._actions if not each.option_strings]
    arguments = tuple(_argument(each) for each in words)
    return Command(name, text, tuple(options), arguments, any(each.nargs in ("*", "+") for each in words))


def _argument(action: argparse.Action) -> str:
    if name := {
        "INSTANCE|FILE": "instance-or-file",
        "FILE|INSTANCE": "instance-or-file",
        "FOLDER": "folder",
        "INSTANCE": "instance",
    }.get(str(action.metavar)):
        return name
    return ""


def _option(action: argparse.Action) -> Option:
    key = next((each for each in KEYS if each.path == action.dest), None)
    names = tuple(action.option_strings)
    text = re.sub(r"\s+", " ", (action.help or "").replace("%%", "%"))
    if action.nargs == 0:
        return Option(names, "", (), text)
    if action.dest == "config":
        return Option(names, "instance-or-file", (), text, str(action.metavar))
    takes, words = _of_key(key) if key else _of_metavar(str(action.metavar), action)
    return Option(names, takes, words, text, str(action.metavar))


def _of_key(key: Key) -> tuple[str, tuple[str, ...]]:
    if key.choices:
        return "words", key.choices
    if key.kind is Kind.SWITCH:
        return "words", ("auto", "true", "false")
    if key.kind is Kind.COUNT:
        return "words", ("auto",)
    if key.kind is Kind.PATH:
        return ("folder" if key.name == "directory" else "file"), ()
    if key.kind is Kind.ADDRESSES:
        return "file", ()
    if key.kind is Kind.ACCOUNT:
        return ("user" if key.name == "user" else "group"), ()
    return "nothing", ()


def _of_metavar(metavar: str, action: argparse.Action) -> tuple[str, tuple[str, ...]]:
    if action.choices:
        return "words", tuple(map(str, action.choices))
    if "INSTANCE" in metavar:
        return "instance-or-file", ()
    return ("file", ()) if metavar in ("FILE", "PATH") else ("nothing", ())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# -- bash ----------------------------------------------------------------------------------------------------------

_BASH_HEAD = """\
# bash completion for memunit(1)                          -*- shell-script -*-
# {note}

_memunit() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}} i
    COMPREPLY=()
    # "=" parts words (COMP_WORDBREAKS): of --ready=no there are three.
    if [[ $cur == = && $prev == --* ]]; then
        cur=
    elif [[ $prev == = && $COMP_CWORD -gt 2 ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "{names} --help --version" -- "$cur")
        return
    fi
    # After a bare "--" comes a command with arguments of its own.
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [[ ${{COMP_WORDS[i]}} == -- && ($command == run || $command == new) ]]; then
            if ((i == COMP_CWORD - 1)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$cur")
            fi
            compopt -o default
            return
        fi
    done
    case $command in
{cases}
    esac
}}

_memunit_instances() {{
    local file
    for file in /etc/memunit/*.toml; do
        file=${{file##*/}}
        [[ $file == "*.toml" ]] || echo "${{file%.toml}}"
    done
}}
"""
_BASH_TAKES = {
    "instance": ['mapfile -t COMPREPLY < <(compgen -W "$(_memunit_instances)" -- "$cur")'],
    "instance-or-file": [
        'mapfile -t COMPREPLY < <(compgen -W "$(_memunit_instances)" -- "$cur")',
        "compopt -o default",
    ],
    "folder": ['mapfile -t COMPREPLY < <(compgen -d -- "$cur")', "compopt -o filenames"],
    "file": ["compopt -o default"],
    "user": ['mapfile -t COMPREPLY < <(compgen -u -- "$cur")'],
    "group": ['mapfile -t COMPREPLY < <(compgen -g -- "$cur")'],
    "nothing": [],
    "": [],
}


def bash(every: list[Command]) -> str:
    """The functions, one for each command."""
    cases = "\n".join(f"        {each.name}) _memunit_{each.name} ;;" for each in every)
    parts = [_BASH_HEAD.format(note=_NOTE, names=" ".join(each.name for each in every), cases=cases)]
    parts += [_bash_command(each) for each in every]
    return "\n".join([*parts, "complete -F _memunit memunit\n"])


def _bash_command(command: Command) -> str:
    lines = [f"_memunit_{command.name}() {{", "    case $prev in"]
    for option in command.options:
        if option.takes:
            lines.append(f"        {' | '.join(option.names)})")
            lines += [f"            {line}" for line in _bash_takes(option)]
            lines += ["            return", "            ;;"]
    if lines[-1] == "    case $prev in":
        lines.pop()
    else:
        lines.append("    esac")
    names = " ".join(name for option in command.options for name in option.names if name.startswith("--"))
    bare = " --" if command.name in ("run", "new") else ""
    shown = [f'mapfile -t COMPREPLY < <(compgen -W "{names}{bare}" -- "$cur")']
    if not command.arguments:
        lines += [f"    {line}" for line in shown]
    else:
        first = command.arguments[0]
        lines += ["    if [[ $cur == -* ]]; then", f"        {shown[0]}", "        return", "    fi"]
        takes = [*_BASH_TAKES[first]]
        others = command.arguments[1:]
        if command.repeated or not others:
            lines += [f"    {line}" for line in takes]
        else:
            lines += ["    if ((COMP_CWORD == 2)); then", *(f"        {line}" for line in takes)]
            later = _BASH_TAKES[others[0]]
            if later:
                lines += ["    else", *(f"        {line}" for line in later)]
            lines.append("    fi")
    return "\n".join([*lines, "}", ""])


def _bash_takes(option: Option) -> list[str]:
    if option.takes == "words":
        return [f'mapfile -t COMPREPLY < <(compgen -W "{" ".join(option.words)}" -- "$cur")']
    return _BASH_TAKES[option.takes]


# -- zsh -----------------------------------------------------------------------------------------------------------

_ZSH_TAKES = {
    "instance": "_memunit_instances",
    "instance-or-file": "_memunit_instances_or_files",
    "folder": "_files -/",
    "file": "_files",
    "user": "_users",
    "group": "_groups",
    "nothing": " ",
    "": " ",
}
_ZSH_HEAD = """\
#compdef memunit
# {note}

_memunit_instances() {{
    local -a instances
    instances=(/etc/memunit/*.toml(N:t:r))
    _describe instance instances
}}

_memunit_instances_or_files() {{
    _alternative 'instances:instance:_memunit_instances' 'files:file:_files -g "*.toml"'
}}

_memunit() {{
    local -a commands
    local curcontext=$curcontext state line
    commands=(
{commands}
    )
    _arguments -C '(- *)'{{-h,--help}}'[print a summary]' '(- *)'{{-V,--version}}'[print the version]' \\
        '1:command:->command' '*::argument:->argument' && return
    case $state in
        command) _describe command commands ;;
        argument)
            case $words[1] in
{cases}
            esac
            ;;
    esac
}}

_memunit "$@"
"""


def zsh(every: list[Command]) -> str:
    """One function with a case for each command."""
    shown = "\n".join(f"        {_quoted(f'{each.name}:{each.help}')}" for each in every)
    cases = "\n".join(_zsh_command(each) for each in every)
    return _ZSH_HEAD.format(note=_NOTE, commands=shown, cases=cases)


def _zsh_command(command: Command) -> str:
    specs = []
    for option in command.options:
        text = option.help.replace("[", "(").replace("]", ")").replace(":", "\\:")
        takes = ""
        if option.takes:
            what = f"({' '.join(option.words)})" if option.takes == "words" else _ZSH_TAKES[option.takes]
            takes = f":{option.takes}:{what}"
        for name in option.names:
            specs.append(_quoted(f"{name}{'=' if takes and name.startswith('--') else ''}[{text}]{takes}"))
    for number, argument in enumerate(command.arguments, 1):
        place = "*" if command.repeated else str(number)
        specs.append(_quoted(f"{place}:{argument or 'word'}:{_ZSH_TAKES[argument]}"))
    if command.name in ("run", "new"):
        specs.append("'*::command:_normal'")
    joined = " \\\n                        ".join(specs)
    return (
        f"                {command.name})\n                    _arguments -s {joined}\n                    ;;"
    )


# -- fish ----------------------------------------------------------------------------------------------------------

_FISH_HEAD = """\
# fish completion for memunit(1)
# {note}

function __memunit_instances
    for file in /etc/memunit/*.toml
        string replace -r '.*/(.*)\\.toml$' '$1' -- $file
    end
end

complete -c memunit -f
complete -c memunit -n __fish_use_subcommand -s h -l help -d 'print a summary'
complete -c memunit -n __fish_use_subcommand -s V -l version -d 'print the version'
"""
_FISH_TAKES = {
    "instance": "-x -a '(__memunit_instances)'",
    "instance-or-file": "-r -F -a '(__memunit_instances)'",
    "folder": "-x -a '(__fish_complete_directories)'",
    "file": "-r -F",
    "user": "-x -a '(__fish_complete_users)'",
    "group": "-x -a '(__fish_complete_groups)'",
    "nothing": "-x",
}


def fish(every: list[Command]) -> str:
    """One line an option."""
    lines = [_FISH_HEAD.format(note=_NOTE)]
    for command in every:
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        lines.append(
            f"complete -c memunit -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}"
        )
        for argument in command.arguments[: 2 if command.name == "new" else 1]:
            takes = _FISH_TAKES[argument or "nothing"].removeprefix("-x ").removeprefix("-r ")
            lines.append(f"complete -c memunit {seen} {takes}")
        for option in command.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
                if name != "--"
            )
            takes = ""
            if option.takes:
                words = _quoted(" ".join(option.words))
                takes = f"-x -a {words}" if option.takes == "words" else _FISH_TAKES[option.takes]
            parts = ["complete -c memunit", seen, names, takes, f"-d {_quoted(option.help)}"]
            lines.append(" ".join(part for part in parts if part))
        lines.append("")
    return "\n".join(lines)


def files() -> dict[Path, str]:
    """Each file with what belongs in it."""
    every = commands()
    return {
        PLACE / "memunit": bash(every),
        PLACE / "_memunit": zsh(every),
        PLACE / "memunit.fish": fish(every),
    }


def renew(made: dict[Path, str], program: str, left: Collection[Path] = ()) -> int:
    """Write what a program of packaging/lib has made, and remove what is left of before; with --check only say so.

    Returns the exit status: 1 if --check has found anything.
    """
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in (*stale, *left):
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} is not what python3 packaging/lib/{program} makes")
        elif path in made:
            path.write_text(made[path])
        else:
            path.unlink()
    return 1 if (stale or left) and "--check" in sys.argv else 0


def entry() -> int:
    """Entry point."""
    return renew(files(), "completions.py")


if __name__ == "__main__":
    sys.exit(entry())
