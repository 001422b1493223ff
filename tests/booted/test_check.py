"""`memunit check` of an instance, with what this systemd says of its unit and of the slices that hold it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.booted.support import Instance, asgi, light, run

LIMIT = '[memory]\nlimit = "100M"\n'


def test_check_knows_the_bounds_of_the_unit_and_of_its_slices_and_not_the_shells() -> None:
    with Instance(
        "bounded", light(more=LIMIT), service="MemoryHigh=150M\nSlice=outer-inner.slice\n"
    ) as instance:
        assert instance.show("Slice") == {"Slice": "outer-inner.slice"}
        said = run("memunit", "check", "bounded", check=False)
        assert said.returncode == 78
        assert "more than the 150M of MemoryHigh= of memunit@bounded.service; " in said.stderr
        run("systemctl", "set-property", "--runtime", "outer.slice", "MemoryMax=140M")
        try:
            said = run("memunit", "check", "bounded", check=False)
        finally:
            run("systemctl", "set-property", "--runtime", "outer.slice", "MemoryMax=infinity")
        assert "more than the 140M of MemoryMax= of outer.slice; " in said.stderr


def test_check_in_a_shell_with_less_memory_is_the_same() -> None:
    with Instance("roomy", light(more=LIMIT)):
        words = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "-p", "MemoryHigh=150M")
        said = run(*words, "memunit", "check", "roomy")
        assert " of the machine" in said.stdout


APP = Path("/srv/checked")


@pytest.fixture
def app() -> Iterator[Path]:
    """An app that anybody may read."""
    APP.mkdir(mode=0o755)
    (APP / "web.py").write_text("async def app(scope, receive, send): pass\n")
    yield APP
    shutil.rmtree(APP)


@pytest.mark.native
@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("", None),
        (
            "User=no-such\nDynamicUser=no\n",
            'User=: there is no user "no-such" on this machine, and systemd ends',
        ),
        (
            "ReadWritePaths=/srv/no-such\n",
            "ReadWritePaths=: /srv/no-such does not exist, and systemd ends the start",
        ),
        ("InaccessiblePaths=/srv/checked\n", "its InaccessiblePaths= hides /srv/checked"),
        ("TemporaryFileSystem=/srv\nBindReadOnlyPaths=/srv/checked\n", None),
    ],
)
def test_check_knows_what_the_unit_does_to_the_app(app: Path, service: str, said: str | None) -> None:
    """As this systemd prints its properties; and what check says is so when the service is started."""
    with Instance("checked", asgi(folder=app, app="web:app"), service=service) as instance:
        checked = run("memunit", "check", "checked", check=False)
        started = run("systemctl", "start", instance.service, check=False)
        assert (checked.returncode == 0) is (said is None) is (started.returncode == 0), checked.stderr
        assert said is None or said in checked.stderr


@pytest.mark.native
def test_check_reads_the_app_as_the_units_user(app: Path) -> None:
    with Instance("closed", asgi(folder=app, app="web:app")):
        (app / "web.py").chmod(0o600)
        said = run("memunit", "check", "closed", check=False)
        assert said.returncode == 78
        assert (
            "app.run: /srv/checked/web.py may not be read by the user of memunit@closed.service"
            in said.stderr
        )
        app.chmod(0o700)
        assert (
            "app.directory: /srv/checked may not be read"
            in run("memunit", "check", "closed", check=False).stderr
        )
    with Instance("homely", asgi(folder=Path("/root/app"), app="web:app")):
        Path("/root/app").mkdir(exist_ok=True)
        said = run("memunit", "check", "homely", check=False)
        assert (
            "app.directory: /root/app can't be seen from memunit@homely.service: its ProtectHome=yes"
            in said.stderr
        )
