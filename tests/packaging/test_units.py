"""The units as systemd reads them, the drop-ins that go with them, and what their hardening is worth."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "units"


def installed(tree: Path, place: Path) -> Path:
    """A root with the package's units, the host's own, and the program that they start."""
    units = place / "usr/lib/systemd/system"
    for source in (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system")):
        if not units.exists() and source.is_dir():
            shutil.copytree(source, units, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(tree / "usr/lib/systemd/system", units, dirs_exist_ok=True)
    (place / "usr/bin").mkdir(parents=True)
    shutil.copy2(tree / "usr/bin/memunit", place / "usr/bin/memunit")
    return place


@pytest.mark.parametrize(
    "unit",
    [
        "memunit@.service",
        "memunit@.socket",
        "memunit@demo.service",
        "memunit@demo.socket",
        "memunit-end@demo.service",
        "memunit-metrics@demo.service",
        "memunit-metrics@demo.socket",
        "memunit-varlink-metrics@demo.service",
        "memunit-varlink-metrics@demo.socket",
    ],
)
def test_verify_is_silent(tree: Path, tmp_path: Path, unit: str) -> None:
    root = installed(tree, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={root}", "--man=no", "--recursive-errors=yes", unit],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verify_would_speak_up(tree: Path, tmp_path: Path) -> None:
    """The test above can fail: systemd-analyze sees a key that it does not know, in this very place."""
    root = installed(tree, tmp_path)
    file = root / "usr/lib/systemd/system/memunit@.service"
    file.write_text(file.read_text().replace("[Service]", "[Service]\nWatchdogSecs=1", 1))
    done = subprocess.run(
        [
            *("systemd-analyze", "verify", f"--root={root}", "--man=no", "--recursive-errors=yes"),
            "memunit@demo.service",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "WatchdogSecs" in done.stderr


def exposure(
    folder: Path, threshold: int, unit: str = "memunit@.service"
) -> subprocess.CompletedProcess[str]:
    """`threshold` in tenths of the whole, as --threshold= takes it."""
    return subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=yes", f"--threshold={threshold}"),
            folder / unit,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_exposure_is_at_most_1_4(tmp_path: Path) -> None:
    shutil.copy(UNITS / "memunit@.service", tmp_path)
    done = exposure(tmp_path, 14)
    assert done.returncode == 0, done.stdout
    assert "exposure level for memunit@i.service: 1.4 OK" in done.stdout
    assert exposure(tmp_path, 13).returncode != 0


def test_exposure_of_the_exporter_is_less(tmp_path: Path) -> None:
    shutil.copy(UNITS / "memunit-metrics@.service", tmp_path)
    done = exposure(tmp_path, 9, "memunit-metrics@.service")
    assert done.returncode == 0, done.stdout


def test_both_exporters_run_alike() -> None:
    """They are two for their sockets alone."""
    scraped, reported = (
        assignments(UNITS / f"memunit-{name}@.service") for name in ("metrics", "varlink-metrics")
    )
    socket = "memunit-varlink-metrics@%i.socket"
    of_its_own = {"Requires": [socket], "After": [socket], "SyslogIdentifier": ["memunit-varlink-metrics@%i"]}
    assert reported == scraped | of_its_own | {"Description": reported["Description"]}


def test_the_socket_for_systemd_report_is_for_root_alone() -> None:
    said = assignments(UNITS / "memunit-varlink-metrics@.socket")
    assert said["ListenStream"] == ["/run/systemd/report/io.memunit.%i"]
    assert (said["SocketMode"], said["RemoveOnStop"], said["FileDescriptorName"]) == (
        ["0600"],
        ["yes"],
        ["varlink"],
    )


def test_exposure_with_the_strict_drop_in_is_at_most_0_5(tmp_path: Path) -> None:
    shutil.copy(UNITS / "memunit@.service", tmp_path)
    (tmp_path / "memunit@.service.d").mkdir()
    shutil.copy(UNITS / "examples/strict.conf", tmp_path / "memunit@.service.d")
    done = exposure(tmp_path, 5)
    assert done.returncode == 0, done.stdout
    assert exposure(tmp_path, 4).returncode != 0


def test_a_static_user_costs_no_hardening(tmp_path: Path) -> None:
    """What DynamicUser=yes implies is said again; the exposure of RemoveIPC=no is all that differs."""
    shutil.copy(UNITS / "memunit@.service", tmp_path)
    (tmp_path / "memunit@.service.d").mkdir()
    shutil.copy(UNITS / "examples/static-user.conf", tmp_path / "memunit@.service.d")
    done = exposure(tmp_path, 15)
    assert done.returncode == 0, done.stdout


def assignments(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if match := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def test_the_unit_is_what_a_file_without_a_word_of_it_means() -> None:
    """memunit-generator(8) writes a line where a value is another than this."""
    from memunit.core.quantity import parse_time
    from memunit.core.settings import Service, Stop

    said = assignments(UNITS / "memunit@.service")
    assert int(said["UMask"][0], 8) == Service().umask
    assert parse_time(said["WatchdogSec"][0]) == Service().watchdog
    assert parse_time(said["TimeoutStopSec"][0]) >= Stop().grace + 30
    assert "PrivateNetwork" not in said
    assert assignments(UNITS / "memunit@.socket")["ListenStream"] == ["/run/memunit/%i.sock"]


def test_the_master_knows_the_units_pause_between_starts() -> None:
    from memunit.core.quantity import parse_time
    from memunit.master.startlog import RESTART_SEC

    assert parse_time(assignments(UNITS / "memunit@.service")["RestartSec"][0]) == RESTART_SEC


def test_a_wait_for_a_mended_file_ends_before_the_start_timeout() -> None:
    from memunit.cli.serve import LONGEST_WAIT
    from memunit.core.quantity import parse_time

    assert parse_time(assignments(UNITS / "memunit@.service")["TimeoutStartSec"][0]) > LONGEST_WAIT


@pytest.mark.parametrize("key", ["StartLimitIntervalSec", "TriggerLimitIntervalSec"])
def test_no_limit_closes_the_socket(key: str) -> None:
    file = "memunit@.service" if key.startswith("Start") else "memunit@.socket"
    assert assignments(UNITS / file)[key] == ["0"]


def test_nothing_that_would_loop_or_wedge() -> None:
    keys = set(assignments(UNITS / "memunit@.service"))
    assert {key for key in keys if key.startswith(("Condition", "Assert"))} == set()
    assert "RestartPreventExitStatus" not in keys


def test_only_keys_that_systemd_252_knows() -> None:
    """It only warns about others, but it does so at every load."""
    later = {"DelegateSubgroup", "MemoryPressureWatch", "FileDescriptorStorePreserve", "PollLimitIntervalSec"}
    assert set(assignments(UNITS / "memunit@.service")) & later == set()
    assert set(assignments(UNITS / "memunit@.socket")) & later == set()
    for name in ("memunit-metrics@", "memunit-varlink-metrics@"):
        assert set(assignments(UNITS / f"{name}.service")) & later == set()
        assert set(assignments(UNITS / f"{name}.socket")) & later == set()
