"""Completion in bash, zsh and fish: made from the commands' own parsers, and tried in each shell."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import finds_nothing_stale

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "packaging/completion"


def test_they_are_what_the_commands_make() -> None:
    finds_nothing_stale("completions.py")


COMMANDS = {
    *(
        "run",
        "serve",
        "reload",
        "reexec",
        "check",
        "examine",
        "witness",
        "status",
        "why",
        "history",
        "leaks",
        "report",
    ),
    *("new", "replay", "top", "recycle", "scale", "set", "stacks", "metrics"),
}


# -- bash ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["memunit", ""], COMMANDS | {"--help", "--version"}),
        (["memunit", "st"], {"status", "stacks"}),
        (["memunit", "recycle", "--"], {"--help", "--json", "--no-wait"}),
        (["memunit", "top", "--sort", ""], {"w", "m", "a", "l", "g", "t"}),
        (["memunit", "status", "--j"], {"--json", "--journal"}),
        (["memunit", "history", "shop", "--since", ""], set()),
        (["memunit", "new", "shop", "--server", "n"], {"node"}),
        (["memunit", "report", "--"], {"--help", "--json", "--journal", "--output", "--since"}),
        (["memunit", "run", "--met"], {"--metric"}),
        (["memunit", "run", "--metric", "u"], {"uss"}),
        (["memunit", "run", "--server", ""], {"asgi", "callable", "node", "wsgi"}),
        (["memunit", "run", "--grace", ""], set()),
        (["memunit", "check", "--"], {"--all", "--help", "--import", "--json"}),
        # As bash parts them: "=" is in COMP_WORDBREAKS.
        (["memunit", "run", "--ready", "=", "no"], {"notify"}),
        (["memunit", "run", "--metric", "="], {"auto", "cgroup", "uss", "pss", "rss"}),
        (["memunit", "run", "--workers", "=", "a"], {"auto"}),
        (["memunit", "run", "--grace", "=", ""], set()),
        (["memunit", "run", "--socket-user", "=", "roo"], {"root"}),
        (["memunit", "run", "--conf"], {"--config"}),
    ],
)
def test_completion_offers(words: list[str], offered: set[str]) -> None:
    script = (
        f"source {ROOT}/packaging/completion/memunit; "
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; "
        '_memunit; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, timeout=300)
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("--ready=no", "--ready=notify"), ("--metric=cg", "--metric=cgroup"), ("--ready no", "--ready notify")],
)
def test_completion_in_a_shell(typed: str, completed: str) -> None:
    """With a terminal, as a person has it: what is typed before the tab is completed in place."""
    seen = typed_into(
        ["bash", "--norc", "--noprofile", "-i"],
        f'source {PLACE}/memunit; memunit() {{ echo "<$*>"; exit; }}\nmemunit run {typed}\t\n',
    )
    assert f"<run {completed}>" in re.sub(r"\s+>", ">", seen)


def typed_into(shell: list[str], keys: str) -> str:
    """What a shell on a terminal shows when these keys are typed, up to the line of a command that was run."""
    import pty

    parent, child = pty.openpty()
    with subprocess.Popen(
        shell,
        stdin=child,
        stdout=child,
        stderr=child,
        env={"PATH": os.environ["PATH"], "PS1": "> ", "TERM": "dumb", "INPUTRC": os.devnull},
        start_new_session=True,
    ) as process:
        os.close(child)
        try:
            os.write(parent, keys.encode())
            seen = b""
            while not re.search(rb"\n<[^>]*>", seen):
                block = os.read(parent, 4096)
                assert block, seen
                seen += block
        finally:
            process.kill()
            os.close(parent)
    return seen.decode()


def test_completion_knows_every_flag() -> None:
    from memunit.core.schema import KEYS

    text = (ROOT / "packaging/completion/memunit").read_text()
    missing = [
        key.option
        for key in KEYS
        if key.option not in ("", "--") and not re.search(rf"(?<![\w-]){key.option}\b", text)
    ]
    assert missing == []
    for key in KEYS:
        if key.choices and not key.of_unit:
            assert f'compgen -W "{" ".join(key.choices)}"' in text, key.path


# -- zsh and fish --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("stat", "status"),
        ("status --jso", "status --json"),
        ("check --al", "check --all"),
        ("run --metric cg", "run --metric cgroup"),
        ("hist", "history"),
    ],
)
def test_zsh(typed: str, completed: str) -> None:
    begin = (
        f"fpath=({PLACE} $fpath); autoload -Uz compinit; compinit -u -D; "
        'memunit() { echo; echo "<$*>"; exit }\n'
    )
    seen = typed_into(["zsh", "-f", "-i"], f"{begin}memunit {typed}\t\n")
    assert f"<{completed}>" in re.sub(r"\s+>", ">", seen)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", COMMANDS),
        ("status --j", {"--json", "--journal"}),
        ("run --metric u", {"uss"}),
        ("check --a", {"--all"}),
        ("new shop --server n", {"node"}),
    ],
)
def test_fish(typed: str, offered: set[str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {PLACE}/memunit.fish; complete -C 'memunit {typed}'"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
    )
    assert ({line.split("\t")[0] for line in done.stdout.splitlines()}, done.returncode) == (offered, 0), (
        done.stderr
    )


@pytest.mark.parametrize("name", ["_memunit", "memunit.fish"])
def test_each_flag_and_command_is_in_them(name: str) -> None:
    from memunit.cli.main import _COMMANDS
    from memunit.core.schema import KEYS

    text = (PLACE / name).read_text()
    for key in KEYS:
        if key.option != "--":
            assert key.option[2:] in text, key.path
    for command in _COMMANDS:
        assert re.search(rf"\b{command}\b", text)
