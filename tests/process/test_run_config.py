"""`memunit run --config FILE`: an instance's file in the foreground; what is typed goes before what the file says."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.process.test_run import FOREGROUND, run
from tests.support.harness import MEMUNIT, Unit
from tests.support.http import Client
from tests.support.workers import APPS

pytest_plugins = ["tests.support.units"]

FILE = """[app]
run = "asked:run"
server = "callable"
[socket]
listen = ["{path}"]
mode = "0620"
[workers]
count = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "shop.toml"
    made.write_text(FILE.format(path=tmp_path / "s"))
    return made


def test_a_file_in_the_foreground(unit: Unit, tmp_path: Path, file: Path) -> None:
    """Its app is found from where memunit is started, as that of a command line is."""
    service = run(unit, "--config", str(file))
    service.entry("ready", slot=0)
    service.entry("ready", slot=1)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o620
    with Client(str(tmp_path / "s")) as client:
        assert int(client.get().body.split()[1]) in service.serving().values()
    assert service.stop() == 0


def test_the_name_of_an_instance_will_do(unit: Unit, tmp_path: Path, file: Path) -> None:
    environment = {**FOREGROUND, "CONFIGURATION_DIRECTORY": str(tmp_path)}
    service = unit.start(*MEMUNIT, "run", "--config", "shop", environment=environment, sockets=())
    service.entry("ready", slot=1)
    assert service.stop() == 0


def test_options_go_before_what_the_file_says(unit: Unit, tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other"
    service = run(unit, "--config", str(file), "--workers", "1", f"--listen={other}", "--socket-mode", "0600")
    service.entry("ready")
    assert other.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "s").exists()
    service.send(signal.SIGUSR1)
    service.expect("^memunit: 1/1 workers")
    assert service.stop() == 0


def test_a_command_takes_the_place_of_the_files_app(unit: Unit, tmp_path: Path, file: Path) -> None:
    file.write_text(FILE.format(path=tmp_path / "s").replace('server = "callable"\n', ""))
    words = ("--workers", "1", "--ready", "exec", "--", "sh", "-c", "echo command; exec sleep infinity")
    service = run(unit, "--config", str(file), *words)
    service.expect("^command$")
    assert service.stop() == 0


def test_a_reload_reads_the_file_again(unit: Unit, tmp_path: Path, file: Path) -> None:
    """What was typed stays."""
    service = run(unit, "--config", str(file), "--grace", "70s")
    service.entry("ready", slot=1)
    file.write_text(FILE.format(path=tmp_path / "s").replace("count = 2", "count = 3"))
    service.send(signal.SIGHUP)
    service.entry("ready", slot=2)
    mark = service.mark
    file.write_text("[app]\nrun = 4\n")
    service.send(signal.SIGHUP)
    service.expect(f"{file}: app.run: 4 is not an app", after=mark)
    assert len(service.serving()) == 3
    assert service.stop() == 0


def test_what_is_wrong_is_named_by_who_said_it(unit: Unit, tmp_path: Path, file: Path) -> None:
    """The file by its key, and the command line by its option."""
    file.write_text(FILE.format(path=tmp_path / "s").replace("count = 2", "count = 0"))
    service = run(unit, "--config", str(file), "--limit", "400", "--directory", "/not/there")
    assert service.exit_code() == 78
    said = [each.text for each in service.said]
    assert sorted(line.partition("; ")[0] for line in said) == [
        f"memunit: {file}: workers.count: 0 workers serve nobody",
        "memunit: command line: --directory: /not/there does not exist",
        "memunit: command line: --limit: 400 bytes",
    ]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (None, 78, "{file}: there is no such file; create {file}, see memunit.toml"),
        ("[app\n", 78, "{file}: line 1, column 5: "),
        (
            '[app]\nrun = "asked:run"\nserver = "callable"\n',
            78,
            "{file}: socket.listen: there is no socket to serve on",
        ),
    ],
    ids=["missing", "no toml", "no socket"],
)
def test_a_file_that_can_not_be_used(unit: Unit, file: Path, text: str | None, code: int, said: str) -> None:
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    service = run(unit, "--config", str(file))
    assert service.exit_code() == code
    service.expect("^memunit: " + said.format(file=file))


def test_a_long_grace_is_no_matter_of_a_unit(unit: Unit, file: Path) -> None:
    with file.open("a") as more:
        more.write('[stop]\ngrace = "1h"\n')
    service = run(unit, "--config", str(file))
    service.entry("ready", slot=1)
    assert service.find("TimeoutStopSec") is None
    assert APPS.is_dir()
    assert service.stop() == 0
