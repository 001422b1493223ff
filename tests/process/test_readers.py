"""`memunit why`, `history`, `leaks`, `report` and `status` on journals that systemd has written: every width, pipe and terminal."""
# ruff: noqa: E501  a case is a line

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import MEMUNIT
from tests.support.journals import entry, life, line, program, write
from tests.support.workers import ROOT

pytestmark = pytest.mark.skipif(program() is None, reason="needs systemd-journal-remote")

NOW = float(int(time.time()) - 60)
EVIL = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\u202e\x9b31m\r\nsecond line"
TRACE = """\
Traceback (most recent call last):
  File "/srv/shop/web.py", line 12, in startup
    connect(os.environ["DATABASE_URL"])
KeyError: 'DATABASE_URL'"""
SIZES: dict[str, Any] = {"MEMUNIT_MEMORY_BYTES": 105 << 20, "MEMUNIT_LIMIT_BYTES": 100 << 20, "MEMUNIT_METRIC": "cgroup",
         "MEMUNIT_DRAIN_USEC": 120_000, "MEMUNIT_STOP_REASON": "memory-limit"}  # fmt: skip

GREW: dict[str, Any] = {
    "MEMUNIT_LEAK_VERDICT": "python",
    "MEMUNIT_LEAK_HOLDER": "shop.cache.SEEN",
    "MEMUNIT_LEAK_TYPE": "dict",
    "MEMUNIT_LEAK_BYTES": 58 << 20,
    "MEMUNIT_LEAK_ROUTE": "GET /product/{id}",
    "MEMUNIT_LEAK_ROUTE_SHARE": "0.92",
}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an instance that leaks, one that crashes, and one that says what it should not."""
    entries = [entry(NOW - 4000, "MASTER_STARTED", "Starting 2 workers")]
    for number in range(24):
        end = NOW - 3600 + 150 * number
        entries += life(
            end,
            "memory-limit",
            slot=number % 2,
            generation=number // 2 + 1,
            pid=1000 + number,
            lived=290,
            **SIZES,
        )
    for number in range(4):
        pid = 2000 + number
        entries += life(
            NOW - 40 + 10 * number,
            "crash-exit",
            generation=number + 1,
            pid=pid,
            lived=2,
            instance="crash",
            EXIT_CODE="exited",
            EXIT_STATUS=3,
        )
        entries += [line(NOW - 40.5 + 10 * number, text, pid, instance="crash") for text in TRACE.split("\n")]
    entries += life(
        NOW - 5,
        "grace-expired",
        pid=3000,
        instance="evil",
        message=EVIL,
        MEMUNIT_WORKER_STATUS=EVIL,
        EXIT_CODE=EVIL,
        MEMUNIT_DRAIN_USEC="-5",
    )
    entries += [
        line(NOW - 6, EVIL, 3000, instance="evil"),
        line(NOW - 6, "\udcff\udcfe", 3000, instance="evil"),
    ]
    for number in range(3):
        who: dict[str, Any] = {"MEMUNIT_SLOT": 0, "MEMUNIT_GENERATION": number + 1}
        who["MEMUNIT_WORKER_PID"] = 1000 + 2 * number
        entries.append(
            entry(NOW - 3600 + 300 * number, "EXAMINED", f"What grew in 0.{number + 1}", **who, **GREW)
        )
    who = {"MEMUNIT_SLOT": 0, "MEMUNIT_GENERATION": 1, "MEMUNIT_WORKER_PID": 3000}
    evil = dict.fromkeys(GREW, EVIL) | {"MEMUNIT_LEAK_VERDICT": "python", "MEMUNIT_LEAK_BYTES": 7}
    entries.append(entry(NOW - 5, "EXAMINED", EVIL, instance="evil", **who, **evil))
    # Another app's, that names this instance.
    entries += [each | {"_SYSTEMD_UNIT": "memunit@evil.service"} for each in life(NOW, "watchdog", pid=4000)]
    return write(tmp_path_factory.mktemp("journal") / "system.journal", entries)  # fmt: skip


@pytest.fixture(scope="module")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of two of them."""
    folder = tmp_path_factory.mktemp("etc")
    for name in ("shop", "crash"):
        (folder / f"{name}.toml").write_text(
            '[app]\nrun = "shop:app"\n[memory]\nlimit = "100M"\nceiling = "200M"\n[stop]\ngrace = "5s"\n'
        )
    return folder


def environment(etc: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
        "CONFIGURATION_DIRECTORY": str(etc),
        **more,
    }


def memunit(etc: Path, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*MEMUNIT, *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        env=environment(etc, **more),
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("columns", ["20", "44", "80", "132", ""])
@pytest.mark.parametrize("command", ["why", "history", "leaks"])
@pytest.mark.parametrize("instance", ["shop", "crash", "evil"])
def test_every_width(etc: Path, journal: Path, command: str, instance: str, columns: str) -> None:
    done = memunit(etc, command, instance, "--journal", journal, COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    rows = done.stdout.split("\n")
    assert all(row.isprintable() for row in rows), done.stdout
    if columns:
        assert max(map(len, rows)) <= int(columns), done.stdout


def test_why_tells_cause_and_step(etc: Path, journal: Path) -> None:
    said = memunit(etc, "why", "crash", "--journal", journal).stdout
    assert said.startswith("crash: crash loop: exits with status 3 after 2.0 s; 4 in the last hour")
    assert "KeyError: 'DATABASE_URL'" in said
    assert "at /srv/shop/web.py:12 in startup" in said
    assert "What you can do" in said
    assert "journalctl -u memunit@crash _PID=2003" in said
    said = memunit(etc, "why", "shop", "--journal", journal).stdout
    assert said.startswith("shop: leaks: 24 recycles at the limit of 100M in the last hour, one every 2 min")
    assert "watchdog" not in said


def test_leaks_are_what_grows_in_every_life(etc: Path, journal: Path) -> None:
    said = memunit(etc, "leaks", "shop", "--journal", journal).stdout
    assert said.startswith("shop: 1 leak in 3 examined workers\n")
    told = (
        "1. leak (python): shop.cache.SEEN (dict), 58M a worker, 720M an hour; in 3 of 3 workers; most by GET "
        "/product/{id} (92 %)"
    )
    assert told in said
    assert "What grew in 0.3" in said
    (leak,) = json.loads(memunit(etc, "leaks", "shop", "--json", "--journal", journal).stdout)["leaks"]
    assert (leak["kind"], leak["holder"], leak["workers"]) == ("leak", "shop.cache.SEEN", 3)
    assert leak["bytes_per_hour"] == (58 << 20) * 3600 // 290
    assert memunit(etc, "leaks", "evil", "--journal", journal).stdout.startswith(
        "evil: no leak that is sure in 1 "
    )
    said = memunit(etc, "leaks", "crash", "--journal", journal).stdout
    assert said.startswith("crash: no worker was examined in this time")
    assert "What grows" in memunit(etc, "report", "shop", "--journal", journal, "-o", "-").stdout


@pytest.mark.parametrize(
    ("worker", "told"),
    [("1005", "Worker 1.3 of shop (pid 1005): ended, memory-limit"), ("1", "Worker 1.12 of shop (pid 1023)"),
     ("0.2", "Worker 0.2 of shop (pid 1002)")],
)  # fmt: skip
def test_why_of_a_worker(etc: Path, journal: Path, worker: str, told: str) -> None:
    done = memunit(etc, "why", "shop", worker, "--journal", journal)
    assert done.returncode == 0
    assert done.stdout.startswith(told)
    assert "Its memory was 105M of 100M." in done.stdout
    assert "It took 0.12 s to finish what it had." in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("why", "shop", "77"), 69, "has no worker 77 of shop"),
        (("why", "shop", "soon"), 64, "neither a pid nor a slot"),
        (("why", "a b"), 64, "a space"),
        (("why",), 64, "INSTANCE"),
        (("history", "shop", "--since", "yesterweek"), 64, "is no time"),
        (("leaks", "shop", "--since", "yesterweek"), 64, "is no time"),
        (("leaks",), 64, "INSTANCE"),
        (("history", "shop", "--since", "2026-13-45"), 0, ""),
        (("report", "shop", "-o", "/nonexistent/report.html"), 74, "can't be written"),
    ],
)
def test_bad_input_is_one_line(
    etc: Path, journal: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = memunit(etc, *words, "--journal", journal)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == (1 if code else 0)


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize(
    ("content", "code"), [(None, 69), (b"", 0), (b"no journal at all" * 1000, 69), ("folder", 0), ("torn", 0)]
)
def test_a_journal_that_is_none(
    etc: Path, journal: Path, tmp_path: Path, content: object, code: int, library: bool
) -> None:
    """A missing file, an empty one, another kind of file, a folder without any, one that was cut off."""
    place = tmp_path / "x.journal"
    if isinstance(content, bytes):
        place.write_bytes(content)
    elif content == "folder":
        place.mkdir()
    elif content == "torn":
        place.write_bytes(journal.read_bytes()[: journal.stat().st_size // 2])
    more = {} if library else {"PYTHONPATH": f"{without(tmp_path)}:{ROOT}"}
    done = memunit(etc, "why", "shop", "--journal", place, **more)
    assert done.returncode in (code, 69), (done.stdout, done.stderr)
    assert done.stderr.count("\n") == (1 if done.returncode else 0)
    assert bool(done.stdout) == (done.returncode == 0)


def without(folder: Path, *modules: str) -> Path:
    """A folder whose modules can't be imported, as where they are not installed."""
    place = folder / "without"
    for module in modules or ("systemd",):
        (place / module).mkdir(parents=True, exist_ok=True)
        (place / module / "__init__.py").write_text('raise ImportError("not installed")\n')
    return place


def test_both_ways_to_read_tell_the_same(etc: Path, journal: Path, tmp_path: Path) -> None:
    hidden = {"PYTHONPATH": f"{without(tmp_path)}:{ROOT}"}
    for instance in ("shop", "crash", "evil"):
        for command in ("why", "history", "leaks"):
            words = (command, instance, "--json", "--journal", journal)
            first, second = memunit(etc, *words), memunit(etc, *words, **hidden)
            assert first.returncode == second.returncode == 0
            assert first.stdout == second.stdout


def test_without_rich_there_are_plain_columns(etc: Path, tmp_path: Path) -> None:
    hidden = {"PYTHONPATH": f"{without(tmp_path, 'rich')}:{ROOT}"}
    done = memunit(etc, "status", COLUMNS="80", **hidden)
    assert "INSTANCE" in done.stdout
    assert "shop" in done.stdout


def test_json_is_one_document_in_ascii(etc: Path, journal: Path) -> None:
    for words in (
        ("why", "evil"),
        ("why", "evil", "0"),
        ("history", "evil"),
        ("leaks", "evil"),
        ("report", "evil"),
    ):
        done = memunit(etc, *words, "--json", "--journal", journal)
        assert done.returncode == 0
        assert done.stdout.isascii()
        assert all(row.isprintable() for row in done.stdout.split("\n"))
        assert json.loads(done.stdout)["instance"] == "evil"
    told = json.loads(memunit(etc, "history", "shop", "--json", "--journal", journal).stdout)
    assert told["ended"] == {"memory-limit": 24}
    assert told["drain_seconds"] == {"count": 24, "median": 0.12, "p90": 0.12, "most": 0.12}
    assert len(told["lives"]) == 24


def test_history_since(etc: Path, journal: Path) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW - 900))
    # As long ago, whenever this file's turn has come.
    ago = f"{(time.time() - NOW + 900) / 60:.0f}min"
    for text in (since, ago):
        told = json.loads(
            memunit(etc, "history", "shop", "--since", text, "--json", "--journal", journal).stdout
        )
        assert 4 <= told["ended"]["memory-limit"] <= 9, text


def test_the_page_is_written_in_one_step(etc: Path, journal: Path, tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    place.write_text("before")
    for instance in ("evil", "shop"):
        done = memunit(etc, "report", instance, "-o", place, "--journal", journal)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        page = place.read_text()
        assert page.startswith("<!DOCTYPE html>")
        assert "<script" not in page
        assert all(row.isprintable() for row in page.split("\n"))
    assert page.count('<path class="memory"') == 24
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("command", ["why", "history", "leaks", "report"])
def test_whoever_reads_may_hang_up(etc: Path, journal: Path, command: str) -> None:
    read, write_end = os.pipe()
    os.close(read)
    with os.fdopen(write_end, "wb") as out:
        done = subprocess.run(
            [*MEMUNIT, command, "shop", "--journal", str(journal)],
            check=False,
            stdout=out,
            stderr=subprocess.PIPE,
            env=environment(etc),
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_told(etc: Path, journal: Path) -> None:
    with Path("/dev/full").open("wb") as out:
        done = subprocess.run(
            [*MEMUNIT, "why", "shop", "--journal", str(journal)],
            check=False,
            stdout=out,
            stderr=subprocess.PIPE,
            env=environment(etc),
            timeout=120,
        )
    assert done.returncode == 74
    assert done.stderr.count(b"\n") == 1


# -- a terminal ----------------------------------------------------------------------------------------------------


@pytest.fixture
def screen() -> Iterator[tuple[int, int]]:
    """A terminal of 20 columns: (ours, the program's)."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 20, 0, 0))
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def shown(screen: tuple[int, int], etc: Path, *words: object, **more: str) -> str:
    """What a command shows on the terminal."""
    ours, theirs = screen
    with subprocess.Popen(
        [*MEMUNIT, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(etc, **more)
    ) as process:
        end = os.pidfd_open(process.pid)
        seen = b""
        try:
            while True:
                ready, _, _ = select.select([ours, end], [], [], 120)
                assert ready, seen
                if ours in ready:
                    seen += os.read(ours, 65536)
                elif end in ready:
                    break
        finally:
            os.close(end)
    assert process.returncode == 0, seen
    return seen.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("command", [("why", "evil"), ("history", "shop"), ("leaks", "shop"), ("status",)])
@pytest.mark.parametrize(
    ("more", "colours"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_on_a_terminal_alone(
    screen: tuple[int, int],
    etc: Path,
    journal: Path,
    command: tuple[str, ...],
    more: dict[str, str],
    colours: bool,
) -> None:
    place = ("--journal", journal)
    text = shown(screen, etc, *command, *place, **more)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert (bare != text) == colours, text
    assert all(row.isprintable() for row in bare.split("\n")), text
    assert max(map(len, bare.split("\n"))) <= 20, text


def test_without_unicode_charts_are_ascii(etc: Path, journal: Path) -> None:
    done = memunit(etc, "history", "shop", "--journal", journal, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
                   PYTHONIOENCODING="ascii")  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert re.search(r"^memory-limit +[.:=+*#@ -]+24$", done.stdout, re.M), done.stdout


def test_without_systemd_one_line_says_so(etc: Path) -> None:
    """A container, for one: the file is there, and nobody to ask."""
    done = memunit(etc, "status", "shop", PATH="/nonexistent")
    assert done.returncode in (69, 77)
    assert "systemd can't be asked about shop: systemctl is missing here" in done.stderr
    # The table does not say that an instance serves nothing, for nobody knows.
    done = memunit(etc, "status", PATH="/nonexistent")
    assert re.search(r"^shop +- +\? ", done.stdout, re.M), done.stdout
    done = memunit(etc, "status", "--json", PATH="/nonexistent")
    assert [each["serving"] for each in json.loads(done.stdout) if each["instance"] == "shop"] == ["?"]


# -- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "why", "history", "leaks", "report", "new", "check"])
def test_the_help_has_examples_and_exit_codes(etc: Path, command: str) -> None:
    done = memunit(etc, command, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout
    assert f"memunit {command}" in done.stdout


def test_the_table_library_is_loaded_for_tables_alone(etc: Path) -> None:
    script = (
        "import sys; from memunit.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print('rich' in sys.modules, 'psutil' in sys.modules)"
    )
    for words in (
        ["why", "nosuch"],
        ["history", "--help"],
        ["leaks", "--help"],
        ["new", "--help"],
        ["check", "--help"],
        ["reload", "nosuch"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], check=False, capture_output=True, text=True, env=environment(etc),
            timeout=120,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1].startswith("False"), words
