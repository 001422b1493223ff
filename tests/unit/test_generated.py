"""What systemd prints of units, and what a file names that is not there; tests/booted/test_onefile.py asks systemd."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from memunit.cli.generated import _said_again, missing, without_again
from memunit.cli.unitfacts import parse_properties, words_of
from memunit.cli.unitview import UnitView
from memunit.core.problems import Problem
from memunit.core.settings import parse

FILE = "/etc/memunit/shop.toml"


def test_a_list_has_words_with_blanks_and_quotes() -> None:
    """As systemd 252 and 257 print ReadWritePaths=; split at blanks, check named paths that nobody had said."""
    assert words_of('"-/srv/\\"it\'s\\" 100%n" /srv/x +/y') == ['-/srv/"it\'s" 100%n', "/srv/x", "+/y"]
    assert words_of("") == []
    assert words_of('/srv/"x') == ['/srv/"x']


def test_the_paths_of_a_unit_are_whole(tmp_path: Path) -> None:
    there = tmp_path / "a b"
    there.mkdir()
    said = parse_properties(
        f'ProtectHome=yes\nReadWritePaths="{there}" "-/no such"\n'
        f"EnvironmentFiles={there} (ignore_errors=no)\nEnvironmentFiles=/no such.env (ignore_errors=yes)\n"
        "EnvironmentFiles=/no other.env (ignore_errors=no)\n"
    )
    found = [str(problem) for problem in UnitView("memunit@shop.service", said).problems()]
    assert found == [
        "memunit@shop.service: EnvironmentFile=: /no other.env does not exist, and systemd does not start it; create "
        "it, or say EnvironmentFile=-/no other.env"
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[Service]\nUMask=0022\n", {"service.umask": ["UMask"]}),
        (" UMask = 0022 # x\n", {"service.umask": ["UMask"]}),
        # To say more of a list takes nothing away, to empty it does.
        ("ListenStream=/run/x\n", {}),
        ("ListenStream=\nListenStream=/run/x\n", {"socket.listen": ["ListenStream"]}),
        ("# UMask=0022\n; UMask=1\nOther=\n", {}),
    ],
)
def test_what_a_drop_in_takes_away(text: str, found: dict[str, list[str]]) -> None:
    directives = {"UMask": "service.umask", "ListenStream": "socket.listen"}
    assert _said_again(text, directives) == found


def test_what_the_file_names_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("")
    document = tomllib.loads(f"""
        [app]
        run = "a:b"
        [service]
        user = "no-such-user"
        group = "no-such-group"
        environment_files = ["/no/such.env", "-/no/such.env", "{tmp_path}/*.env"]
        credentials = {{ key = "/no/such.key", other = "{tmp_path}/x.env" }}
        writable = ["/no/such", "-/no/such", "{tmp_path}", "/run/later"]
    """)
    settings = parse(document, FILE).settings
    found = list(missing(settings, FILE))
    assert [(each.key, each.message.partition(", and")[0]) for each in found] == [
        ("service.user", 'there is no user "no-such-user" on this machine'),
        ("service.group", 'there is no group "no-such-group" on this machine'),
        ("service.environment_files", "/no/such.env does not exist"),
        ("service.credentials", "key: /no/such.key does not exist"),
        ("service.writable", "/no/such does not exist"),
    ]
    assert [each.message.rpartition(" ")[2] for each in found] == ["217", "216", "service", "243", "226"]
    # The unit has it from the file: once is enough.
    again = Problem("memunit@shop.service", "User=", found[0].message, "x")
    other = Problem("memunit@shop.service", "User=", "else", "x")
    assert without_again([again, other], found) == [other]
