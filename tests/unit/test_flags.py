"""The flags of `memunit run`: the file's keys, typed."""
# ruff: noqa: E501  each message is quoted whole

import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from memunit.cli.flags import parse_flags
from memunit.core.address import Address
from memunit.core.schema import KEYS, Key
from memunit.core.settings import App, Memory, Settings, Socket, Stop, Workers

M = 1 << 20

# Each key of an instance's file with a value that is not its default, and the words that say the same.
EACH: dict[str, tuple[list[str], Any]] = {
    "app.run": (["--app", "x:y"], "x:y"),
    "app.command": (["--", "node", "--limit", "3", "--", "x"], ("node", "--limit", "3", "--", "x")),
    "app.server": (["--server", "callable"], "callable"),
    "app.python": (["--python", "/opt/venv/bin/python"], "/opt/venv/bin/python"),
    "app.node": (
        ["--server", "node", "--app", "server.js", "--node", "/opt/node/bin/node"],
        "/opt/node/bin/node",
    ),
    "app.directory": (["--directory", "/srv/shop"], "/srv/shop"),
    "app.environment": (["--environment", "A=1", "--environment", "B=x=y"], {"A": "1", "B": "x=y"}),
    "app.threads": (["--server", "wsgi", "--threads", "4"], 4),
    "app.access_log": (["--access-log"], True),
    "app.preload": (["--no-preload"], False),
    "app.after_fork": (["--after-fork", "x:y"], "x:y"),
    "app.before_stop": (["--before-stop", "x:y.z"], "x:y.z"),
    "app.give_back": (["--give-back-hook", "x:y"], "x:y"),
    "app.ready": (["--ready", "exec", "--", "x"], "exec"),
    "socket.listen": (
        ["--listen", "8000", "--listen", "/run/x.sock"],
        (Address(kind="tcp", host="::", port=8000), Address(kind="unix", path="/run/x.sock")),
    ),
    "socket.mode": (["--socket-mode", "660"], 0o660),
    "socket.user": (["--socket-user", "shop"], "shop"),
    "socket.group": (["--socket-group=33"], "33"),
    "workers.count": (["--workers", "3"], 3),
    "workers.surge": (["--surge", "0"], 0),
    "workers.start_timeout": (["--start-timeout", "5s"], 5.0),
    "workers.watchdog": (["--watchdog", "infinity"], math.inf),
    "workers.min_lifetime": (["--min-lifetime", "1min"], 60.0),
    "workers.max_age": (["--max-age", "1h"], 3600.0),
    "memory.limit": (["--limit", "400M"], 400 * M),
    "memory.ceiling": (["--ceiling=600M"], 600 * M),
    "memory.total": (["--total", "2G"], 2048 * M),
    "memory.patience": (["--patience", "0"], 0.0),
    "memory.metric": (["--metric", "rss"], "rss"),
    "memory.interval": (["--interval", "0.5"], 0.5),
    "memory.give_back": (["--no-give-back"], False),
    "memory.allocator": (["--allocator", "jemalloc"], "jemalloc"),
    "http.head_size": (["--head-size", "8K"], 8192),
    "http.head_timeout": (["--head-timeout", "1min"], 60.0),
    "http.body_size": (["--body-size=1G"], 1 << 30),
    "http.body_timeout": (["--body-timeout", "infinity"], math.inf),
    "stop.grace": (["--grace", "5"], 5.0),
    "examine.time": (["--examine-time", "5s"], 5.0),
    "examine.memory": (["--examine-memory", "16M"], 16 << 20),
    "examine.command": (
        ["--examine-command", "/bin/look", "--examine-command=-v", "--", "nginx"],
        ("/bin/look", "-v"),
    ),
    "recorder.size": (["--recorder-size", "0"], 0),
    "interface.read_group": (["--read-group", "oncall"], "oncall"),
    "stop.signal": (["--stop-signal", "QUIT", "--", "nginx"], "SIGQUIT"),
}


TYPED = [key for key in KEYS if not key.of_unit]


def test_what_systemd_does_is_no_flag() -> None:
    """`memunit run` has no part in it: who types a command chooses its user, its environment and its network."""
    assert {key.table for key in KEYS if key.of_unit} == {"service"}
    assert all(key.of_unit and key.option == "" for key in KEYS if key.table == "service")
    with pytest.raises(SystemExit):
        parse_flags(["--app", "a:b", "--umask", "0027"])


@pytest.mark.parametrize("key", TYPED, ids=lambda key: key.path)
def test_each_key_is_a_flag(key: Key) -> None:
    words, value = EACH[key.path]
    option = key.option if value is not False else "--no-" + key.option.removeprefix("--")
    said = [option == word or word.startswith(option + "=") for word in words]
    assert any(said)
    needs_app = "--app" not in words and "--" not in words
    settings = parse_flags((["--app", "a:b"] if needs_app else []) + words).settings
    assert getattr(getattr(settings, key.table), key.name) == value
    assert getattr(getattr(Settings(app=App()), key.table), key.name) != value


# --user and --group would pass for those of the workers.
SOCKET = {f"socket.{name}": f"--socket-{name}" for name in ("mode", "user", "group")}


def test_the_flags_are_named_like_the_keys() -> None:
    named = {key.path: key.option for key in TYPED if key.option != "--" + key.name.replace("_", "-")}
    assert named == {
        "app.run": "--app",
        "app.command": "--",
        "app.give_back": "--give-back-hook",
        "workers.count": "--workers",
        "stop.signal": "--stop-signal",
        "examine.time": "--examine-time",
        "examine.memory": "--examine-memory",
        "examine.command": "--examine-command",
        "recorder.size": "--recorder-size",
        **SOCKET,
    }


def test_names_of_the_file_are_understood_too() -> None:
    settings = parse_flags(["--run", "a:b", "--count", "7"]).settings
    assert (settings.app.run, settings.workers.count) == ("a:b", 7)


def test_a_whole_command_line() -> None:
    words = [
        "--listen",
        "127.0.0.1:8000",
        "--workers",
        "4",
        "--limit",
        "400M",
        "--ceiling",
        "600M",
        "--metric",
        "pss",
        "--interval",
        "500ms",
    ]
    parsed = parse_flags([*words, "--patience", "1min 1s", "--grace", "10s", "--app", "shop.web:app"])
    assert parsed.warnings == ()
    assert parsed.settings == Settings(
        app=App(run="shop.web:app"),
        socket=Socket(listen=(Address(kind="tcp", host="127.0.0.1", port=8000),)),
        workers=Workers(count=4),
        memory=Memory(limit=400 * M, ceiling=600 * M, metric="pss", interval=0.5, patience=61.0),
        stop=Stop(grace=10.0),
    )


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--preload"], True),
        (["--preload", "--workers", "2"], True),
        (["--preload", "auto"], "auto"),
        (["--preload=auto"], "auto"),
        (["--preload", "true"], True),
        (["--preload", "false"], False),
        (["--no-preload"], False),
        ([], "auto"),
    ],
)
def test_preload(words: list[str], meant: object) -> None:
    assert parse_flags(["--app", "a:b", *words]).settings.app.preload == meant


def test_auto_and_no_preload() -> None:
    settings = parse_flags(["--app", "a:b", "--workers", "auto", "--no-preload"]).settings
    assert (settings.workers.count, settings.app.preload) == (None, False)


def test_paths_are_found_as_a_shell_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real = tmp_path / "real"
    real.mkdir()
    (real / "python").symlink_to(sys.executable)
    settings = parse_flags(
        ["--app", "a:b", "--directory", "real/../real", "--python", "real/python", "--listen", "./x.sock"]
    ).settings
    assert settings.app.directory == str(real)
    assert settings.app.python == str(real / "python")
    assert settings.socket.listen == (Address(kind="unix", path=str(tmp_path / "x.sock")),)
    monkeypatch.setenv("PATH", f"/nowhere{os.pathsep}{real}")
    assert parse_flags(["--app", "a:b", "--python", "python"]).settings.app.python == str(real / "python")


def test_a_long_grace_is_no_matter_of_a_unit_here() -> None:
    assert parse_flags(["--app", "a:b", "--grace", "1h"]).warnings == ()


@pytest.mark.parametrize(
    ("words", "problems"),
    [
        ([], ["nothing to run; say --app MODULE:ATTR, or a program after --"]),
        (["--"], ['COMMAND: names no program; say it as in ["node", "server.js"]']),
        (["--app", "shop"], ['--app: "shop" names no attribute; say which object of it is meant: "shop:app"']),
        (["--app", "a:b", "--limit", "400"], ['--limit: 400 bytes; say "400M"']),
        (["--app", "a:b", "--limit=-4M"], ['--limit: -4M is negative; say a size such as "400M"']),
        (["--app", "a:b", "--workers", "0"], ["--workers: 0 workers serve nobody; say 1 or more; to serve nobody, stop the .socket unit"]),
        (["--app", "a:b", "--workers", "x"], ['--workers: "x" is not a whole number from 1 to 1024, or "auto"']),
        (["--app", "a:b", "--min-lifetime", "infinity"], ['--min-lifetime: this time can\'t be infinity; say a time such as "10s"']),
        (["--app", "a:b", "--threads", "4"], ['--threads: goes with --server "wsgi", not with "asgi"; remove it']),
        (["--threads", "4", "--", "x"], ['--threads: goes with --app and --server "wsgi"; remove it']),
        (["--app", "a:b", "--environment", "A"], ['--environment: "A" has no value; say A=VALUE']),
        (["--app", "a:b", "--environment", "NOTIFY_SOCKET=x"], ["--environment: memunit itself sets NOTIFY_SOCKET for each worker; leave it out"]),
        (["--app", "a:b", "--listen", "web:80"], ["--listen: 'web:80': 'web' is not an IP address, and no name but localhost is looked up; say the address itself, as in \"192.0.2.1:80\""]),
        (["--app", "a:b", "--listen", "8000", "--socket-mode", "0660"], ["--socket-mode: goes with the path of a Unix socket, and --listen has none; remove it"]),
        (["--app", "a:b", "--listen", "/s", "--socket-mode", "rw-rw----"], ['--socket-mode: "rw-rw----" is not a mode in octal digits as in "0660"; say one from 0002 to 0777']),
        (["--app", "a:b", "--listen", "/s", "--socket-mode", "0999"], ['--socket-mode: "0999" is not a mode in octal digits as in "0660"; say one from 0002 to 0777']),
        (["--app", "a:b", "--listen", "/s", "--socket-mode", "0444"], ['--socket-mode: "0444" lets only root connect: a client needs the right to write (unix(7)); say "0660" for the owner and a group, "0666" for everybody']),
        (["--app", "a:b", "--listen", "/s", "--socket-group", "a b"], ['--socket-group: "a b" is not a name or a number as in "www-data"; say it as getent(1) lists it']),
        (["--app", "a:b", "--directory", ""], ['--directory: is empty; say an absolute path as in "/srv/shop", or leave the key out']),
        (["--app", "a:b", "--limit", "2M", "--ceiling", "1M"], ["--limit: 2M is over the --ceiling of 1M: a worker would be killed before it is replaced; set the limit below 1M, or the ceiling above 2M"]),
        (["--app", "a:b", "--", "x"], ["--app: can't be set together with COMMAND: a worker runs only one of them; remove one of them"]),
        (["--python", "/x", "--", "x"], ["--python: goes with --app, not with a command; remove it"]),
        (
            ["--environment", "A", "--limit", "400", "--grace", "soon"],
            [
                '--environment: "A" has no value; say A=VALUE',
                '--limit: 400 bytes; say "400M"',
                '--grace: \'soon\' is not a time; say a time such as "30s"',
                "nothing to run; say --app MODULE:ATTR, or a program after --",
            ],
        ),
    ],
)  # fmt: skip
def test_bad_values(words: list[str], problems: list[str]) -> None:
    assert [str(each) for each in parse_flags(words).problems] == [
        f"command line: {each}" for each in problems
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["node", "server.js"], "a command comes after --, as in -- node server.js"),
        (["--app", "a:b", "--limt", "4M"], "unknown option --limt, did you mean --limit?"),
        (["--limt=4M"], "unknown option --limt, did you mean --limit?"),
        (["shop.toml"], "a file of settings comes after --config, as in --config shop.toml"),
        (["--conf", "shop.toml"], "unknown option --conf, did you mean --config?"),
        (["--zzz"], "unknown option --zzz"),
        (["--lim", "4M"], "unknown option --lim, did you mean --limit?"),
        (["--app", "a:b", "--limit"], "argument --limit: expected one argument"),
    ],
)
def test_bad_usage_is_64(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_flags(words)
    assert ended.value.code == 64
    assert capsys.readouterr().err == f"memunit run: {message}; see memunit run --help\n"


def test_help_names_every_flag_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_flags(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for key in TYPED:
        assert f" {key.option} " in text or f" {key.option}, " in text
        if isinstance(key.default, str | int) and not isinstance(key.default, bool):
            assert f"{key.help} [{key.default}]" in text
