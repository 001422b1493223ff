"""The manual: it formats without a warning, and says all that there is."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memunit.cli import main as program
from memunit.core import exitcodes
from memunit.core.model import Cause
from memunit.core.reserved import RESERVED_VARIABLES
from memunit.core.schema import KEYS, TABLES
from memunit.master import afresh, child
from memunit.worker import options
from tests.packaging.conftest import finds_nothing_stale

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "packaging/man").iterdir())


def shown(page: Path) -> str:
    """The page as a reader sees it, without hyphenation."""
    return subprocess.run(
        ["man", "--no-hyphenation", "--local-file", page],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MAN_KEEP_FORMATTING": ""},
        timeout=300,
    ).stdout


@pytest.fixture(scope="session")
def command() -> str:
    return shown(ROOT / "packaging/man/memunit.1")


@pytest.fixture(scope="session")
def file() -> str:
    return shown(ROOT / "packaging/man/memunit.toml.5")


def test_there_is_a_page_for_the_program_each_command_the_file_and_the_units() -> None:
    commands = {f"memunit-{name}.1" for name in program._COMMANDS}
    others = {"memunit-generator.8", "memunit.1", "memunit.toml.5", "memunit@.service.5"}
    assert {page.name for page in PAGES} == commands | others


def test_the_pages_of_the_commands_are_what_their_sources_make() -> None:
    finds_nothing_stale("manuals.py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_it_formats_without_a_warning(page: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "--local-file", "-Tutf8", "-Z", page],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"},
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_each_key_is_in_both_pages(command: str, file: str, key: object) -> None:
    from memunit.core.schema import Key

    assert isinstance(key, Key)
    assert key.of_unit or re.search(
        rf"^ +{re.escape(key.option)}\b" if key.option != "--" else r"^ +-- COMMAND", command, re.M
    )
    assert re.search(rf"^ +{key.name}\b", file, re.M)
    for choice in key.choices:
        assert re.search(rf"\b{choice}\b", file)
    if isinstance(key.default, str):
        table = re.search(rf"^\[{key.table}\]$.*?(?=^\S|\Z)", file, re.M | re.S)
        assert table is not None
        section = re.search(rf"^ {{7}}{key.name}\b(?! =).*?(?=^ {{7}}\w|^\S|\Z)", table[0], re.M | re.S)
        assert section is not None
        assert f'["{key.default}"]' in section[0], key.path


@pytest.mark.parametrize("table", TABLES)
def test_each_table_has_a_section(file: str, table: str) -> None:
    assert re.search(rf"^\[{table}\]$", file, re.M)


@pytest.mark.parametrize("name", sorted(program._COMMANDS))
def test_each_command_is_there(command: str, name: str) -> None:
    assert re.search(rf"^ +memunit {name}\b", command, re.M)


def each_option() -> list[tuple[str, tuple[str, ...]]]:
    """Each option of each command, by the parsers from which its help and the completions are made."""
    sys.path.insert(0, str(ROOT / "packaging/lib"))
    try:
        completions = importlib.import_module("completions")
    finally:
        sys.path.pop(0)
    found = [(each.name, option.names) for each in completions.commands() for option in each.options]
    return [(name, names) for name, names in found if "--help" not in names]


@pytest.mark.parametrize(
    ("name", "names"), each_option(), ids=lambda each: each if isinstance(each, str) else each[-1]
)
def test_each_option_of_each_command_is_there(command: str, name: str, names: tuple[str, ...]) -> None:
    """In the entry of the command, in the list of options for run, or in a sentence that names both."""
    section = command.partition("\nCOMMANDS\n")[2].partition("\nOPTIONS\n")[0]
    heads = list(re.finditer(r"^ {7}memunit (\w+)", section, re.MULTILINE))
    ends = [*(head.start() for head in heads[1:]), len(section)]
    entries = {head[1]: section[head.start() : end] for head, end in zip(heads, ends, strict=True)}
    shared = re.findall(r"^ {7}(?!memunit )\S.*", section, re.MULTILINE)
    sentences = [each for each in re.split(r"\.\s", " ".join(shared)) if re.search(rf"\b{name}\b", each)]
    places = [re.sub(r"(?m)^ {7}(?!memunit )\S.*", "", entries[name]), *sentences]
    if name == "run":
        places.append(command.partition("\nOPTIONS\n")[2].partition("\nSIGNALS\n")[0])
    for option in names:
        assert any(re.search(rf"(?<![\w-]){option}(?![\w-])", place) for place in places), (name, option)


def section_of(text: str, title: str) -> str:
    found = re.search(rf"^{title}$.*?(?=^\S|\Z)", text, re.M | re.S)
    assert found is not None, title
    return found[0]


@pytest.mark.parametrize("name", sorted(program._COMMANDS))
def test_the_page_of_a_command_says_all_of_it(name: str) -> None:
    text = shown(ROOT / f"packaging/man/memunit-{name}.1")
    assert re.search(rf"^ +memunit-{name} - \w", section_of(text, "NAME"), re.M)
    synopsis, options = section_of(text, "SYNOPSIS"), section_of(text, "OPTIONS")
    for names in [each for command, each in each_option() if command == name]:
        for option in names:
            assert re.search(
                rf"^ +(?:\S.*, )?{option}(?![\w-])|(?<![\w-]){option} is the same", options, re.M
            )
        # The synopsis of run has the most used ones.
        assert name == "run" or any(re.search(rf"(?<![\w-]){option}(?![\w-])", synopsis) for option in names)
    assert re.search(rf"^ +.*\bmemunit {name}\b|\bsystemctl\b", section_of(text, "EXAMPLES"), re.M)
    codes = re.findall(r"^ {7}(\d+)  +\S", section_of(text, "EXIT STATUS"), re.M)
    assert codes[:2] == ["0", "64"]
    assert {int(code) for code in codes} <= {
        value for value in vars(exitcodes).values() if isinstance(value, int)
    }
    assert "memunit(1)" in section_of(text, "SEE ALSO")


@pytest.mark.parametrize("name", sorted(program._COMMANDS))
def test_the_help_of_a_command_names_its_page(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "memunit", name, "--help"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"manual: memunit-{name}(1)"
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout


@pytest.mark.parametrize("code", [value for value in vars(exitcodes).values() if isinstance(value, int)])
def test_each_exit_code_is_there(command: str, code: int) -> None:
    section = command.partition("EXIT STATUS")[2].partition("\nENVIRONMENT")[0]
    assert re.search(rf"^ +{code}\b", section, re.M)


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1"])
def test_each_signal_is_there(command: str, signal: str) -> None:
    section = command.partition("\nSIGNALS")[2].partition("\nEXIT STATUS")[0]
    assert re.search(rf"^ +.*\b{signal}\b", section, re.M)


def test_each_cause_is_there(command: str) -> None:
    section = command.partition("\nJOURNAL")[2].partition("\nFILES")[0]
    assert [cause for cause in Cause if cause.value not in section] == []


# Of the environment and nothing else.
NO_FIELDS = {
    "MEMUNIT_ASKERS",
    "MEMUNIT_BOARD",
    "MEMUNIT_HANDOVER",
    "MEMUNIT_HTTP_",
    "MEMUNIT_LISTEN",
    "MEMUNIT_NOTIFY_FD",
    "MEMUNIT_PID",
    "MEMUNIT_SCOREBOARD",
    "MEMUNIT_SCOREBOARD_LINE",
    "MEMUNIT_THREADS",
    "MEMUNIT_WITNESS",
}


def fields() -> set[str]:
    """What the core and the master write into the journal, by its literals."""
    sources = [
        path.read_text() for part in ("core", "master") for path in (ROOT / "memunit" / part).glob("*.py")
    ]
    return set(re.findall(r"\b(?:MEMUNIT_[A-Z_]+|EXIT_CODE|EXIT_STATUS)\b", "".join(sources))) - NO_FIELDS


def test_fields_are_found() -> None:
    assert {"MEMUNIT_CAUSE", "MEMUNIT_COUNT", "MEMUNIT_REPLACEMENT_PID", "EXIT_CODE"} <= fields()


@pytest.mark.parametrize("field", sorted(fields()))
def test_each_field_of_the_journal_is_there(command: str, field: str) -> None:
    section = command.partition("\nJOURNAL")[2].partition("\nFILES")[0]
    assert re.search(rf"\b{field}\b", section)


@pytest.mark.parametrize("name", sorted(RESERVED_VARIABLES | afresh.NOT_FOR_WORKERS))
def test_each_variable_that_a_file_may_not_set_is_there(file: str, name: str) -> None:
    section = file.partition("\n       environment")[2].partition("\n       preload")[0]
    assert re.search(rf"\b{name}\b", section)


def test_the_options_of_uvicorn_are_those_that_are_read(command: str) -> None:
    entry = " ".join(command.partition("UVICORN_NAME")[2].partition("CPU_COUNT")[0].split())
    section = entry.partition("NAME is one of")[2]
    said = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", section)) - {"WSGI", "ASGI", "SCRIPT_NAME", "TLS"}
    assert said == {name.upper() for name in ("http", *options._TEXTS, *options._NUMBERS, *options._SWITCHES)}


@pytest.mark.parametrize("status", [child.EXIT_CHDIR, child.EXIT_FDS, child.EXIT_EXEC])
def test_what_a_worker_that_could_not_be_started_ends_with_is_there(command: str, status: int) -> None:
    section = command.partition("\nEXIT STATUS")[2].partition("\nENVIRONMENT")[0]
    assert re.search(rf"\b{status} +\(", section)
