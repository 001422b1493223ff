"""Who may call the master's interface: by user and group, and when a group can't be recognized."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memunit.cli import readers
from memunit.cli.preflight import preflight
from memunit.cli.readers import NoGroup, admitted, number_of, unreachable
from memunit.core.settings import App, Interface, Service, Settings
from memunit.master import interface
from memunit.master.rights import Right, in_map, right_of

FILE = "/etc/memunit/shop.toml"
UNIT = "memunit@shop.service"
INITIAL = "         0          0 4294967295\n"
# PrivateUsers=yes of a service whose user and group are 990.
PRIVATE = "         0          0          1\n       990        990          1\n"


@pytest.mark.parametrize(
    ("uid", "groups", "group", "right"),
    [
        (0, (), None, Right.ROOT),
        (0, (0,), 700, Right.ROOT),
        (990, (990,), None, Right.ALL),
        (1000, (1000, 700), 700, Right.READ),
        (1000, (700,), 700, Right.READ),
        (1000, (1000, 701), 700, Right.NONE),
        (1000, (), 700, Right.NONE),
        (1000, (1000, 700), None, Right.NONE),
        # root's group is no right of its own.
        (1000, (0,), None, Right.NONE),
        (1000, (0,), 0, Right.READ),
    ],
)
def test_the_right_of_a_peer(uid: int, groups: tuple[int, ...], group: int | None, right: Right) -> None:
    assert right_of(uid, groups, own=990, read_group=group) is right


def test_what_changes_something_is_for_no_reader() -> None:
    table = {
        f"{name}.{method}": (changes, needed)
        for name, methods in interface._METHODS.items()
        for method, (changes, needed, _) in methods.items()
    }
    assert {name for name, (changes, needed) in table.items() if changes and needed < Right.ALL} == set()
    assert {name.rpartition(".")[2] for name, (_, needed) in table.items() if needed is Right.READ} == {
        *("GetInfo", "GetInterfaceDescription", "Ping", "Describe", "Workers", "Follow")
    }


def test_groups_with_a_number_in_a_user_namespace() -> None:
    assert all(in_map(INITIAL, gid) for gid in (0, 700, 65534, 4294967294))
    assert [gid for gid in (0, 1, 700, 989, 990, 991, 65534) if in_map(PRIVATE, gid)] == [0, 990]
    assert not in_map("", 0)
    for text in ("0 0\n", "a b c\n", "0 0 1 2\n"):
        with pytest.raises(ValueError):  # noqa: PT011  int() and the unpacking have texts of their own
            in_map(text, 0)


def test_a_group_is_a_name_or_a_number() -> None:
    assert number_of("root") == 0
    # A number needs no name.
    assert number_of("4242424") == 4242424
    with pytest.raises(NoGroup) as found:
        number_of("no-such-group")
    assert str(found.value) == 'there is no group "no-such-group" on this machine'
    assert found.value.remedy.startswith("addgroup --system no-such-group")
    for name in ("65534", "nogroup"):
        with pytest.raises(NoGroup, match="stands for every group that the kernel does not know"):
            number_of(name)


def settings(group: str | None = "4242", user: str | None = "shop") -> Settings:
    app = App(command=("/bin/true",))
    return Settings(app=app, interface=Interface(read_group=group), service=Service(user=user))


def test_the_error_names_file_key_and_remedy() -> None:
    (problem,) = preflight(settings("no-such-group"), FILE)
    assert str(problem).startswith(
        f'{FILE}: interface.read_group: there is no group "no-such-group" on this machine; addgroup --system '
    )
    assert admitted(settings("no-such-group"), FILE, UNIT) == (None, [])


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A master of the user 990; its runtime directory."""
    directory = tmp_path / "run"
    directory.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(directory))
    monkeypatch.setattr(os, "geteuid", lambda: 990)
    mapped(monkeypatch, tmp_path, INITIAL)
    return directory


def mapped(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (folder / "gid_map").write_text(text)
    monkeypatch.setattr(readers, "_GID_MAP", folder / "gid_map")


def test_a_group_that_is_recognized(master: Path) -> None:
    assert admitted(settings(), FILE, UNIT) == (4242, [])
    assert admitted(settings(None), FILE, UNIT) == (None, [])


def test_no_group_is_recognized_in_a_user_namespace_of_its_own(
    master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped(monkeypatch, tmp_path, PRIVATE)
    gid, (problem,) = admitted(settings(), FILE, UNIT)
    assert gid is None
    assert str(problem) == (
        f"{FILE}: interface.read_group: has no effect: the user namespace of this process (PrivateUsers=) has no "
        f"number for group 4242; systemctl daemon-reload and systemctl restart {UNIT}"
    )
    _, (problem,) = admitted(settings(user=None), FILE, UNIT)
    assert problem.remedy == "say PrivateUsers=no where User= is said"
    # The service's own group has a number there.
    assert admitted(settings("990"), FILE, UNIT) == (990, [])


def test_strangers_look_like_nobody(master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    gid, (problem,) = admitted(settings(), FILE, UNIT)
    assert gid is None
    assert "user nobody" in problem.message


def test_a_dynamic_user_is_out_of_reach(
    master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_PRIVATE", f"{tmp_path.resolve()}/")
    gid, (problem,) = admitted(settings(user=None), FILE, UNIT)
    assert gid is None
    assert "dynamic user" in problem.message
    assert "[service]" in problem.remedy


@pytest.mark.parametrize(
    ("user", "properties", "warned"),
    [
        (None, {"DynamicUser": "yes"}, True),
        (None, {"DynamicUser": "no"}, False),
        (None, {}, False),
        ("dynamic", {}, True),
        # The file is newer than what systemd knows.
        ("shop", {"DynamicUser": "yes"}, False),
    ],
)
def test_check_tells_of_a_dynamic_user(user: str | None, properties: dict[str, str], warned: bool) -> None:
    assert bool(unreachable(settings(user=user), FILE, properties)) is warned
    assert unreachable(settings(None, user), FILE, properties) == []
