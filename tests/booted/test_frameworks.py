"""The apps of examples/, each in a virtualenv without memunit, installed as their files say and reloaded under load.

And a witness of one of them: memray traces it in the sandbox of the unit.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from memunit.core.messages import Message
from tests.booted.support import Instance, at, emulated, ended, kind, lossless, run, say, under_load

pytestmark = pytest.mark.native
PAYLOAD = Path(__file__).resolve().parents[2]
SHOP = Path("/srv/shop")
PYTHON = SHOP / "venv" / "bin" / "python"
# Each file of examples/, and the module that answers "ok PID".
EXAMPLES = {
    "flask/shop.toml": "web.py",
    "django/wsgi.toml": "shop/views.py",
    "django/asgi.toml": "shop/views.py",
    "fastapi/shop.toml": "web.py",
}
OK = 'f"ok {'


@pytest.fixture(scope="module", autouse=True)
def python() -> Path:
    """An interpreter that has the frameworks and no memunit."""
    if emulated() and not os.environ.get("MEMUNIT_ALL"):
        pytest.skip("an emulated processor takes a minute for each app; MEMUNIT_ALL=1 has them there too")
    if not (PAYLOAD / "site-packages").exists():
        pytest.skip("the frameworks could not be fetched where this machine was made")
    run("python3", "-m", "venv", "--without-pip", str(PYTHON.parent.parent))
    (site,) = PYTHON.parent.parent.glob("lib/python3*/site-packages")
    site.rmdir()
    shutil.move(PAYLOAD / "site-packages", site)
    if not (site / "django" / "__pycache__").exists():
        # The instance's own user can't leave there what it has compiled, and would do it at each start.
        run(str(PYTHON), "-m", "compileall", "-q", "-j", "2", str(site), check=False, seconds=600)
    refused = run(str(PYTHON), "-c", "import memunit", cwd="/", check=False)
    assert "No module named 'memunit'" in refused.stderr
    return PYTHON


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_new_version_is_served_and_a_broken_one_is_not(python: Path, name: str) -> None:
    folder, module = PAYLOAD / "examples" / Path(name).parent, SHOP / EXAMPLES[name]
    shutil.copytree(folder, SHOP, dirs_exist_ok=True)
    old = module.read_text()
    assert OK in old
    file = (folder / Path(name).name).read_text()
    if emulated():
        file = file.replace("count = 2\n", 'count = 2\nstart_timeout = "3min"\n')
    with Instance("shop", file) as instance:
        instance.start()
        assert _word(instance) == "ok"
        before = instance.workers()
        with under_load(
            instance.load(clients=4, rate=10), instance.load(clients=2, keep_alive=False)
        ) as loads:
            module.write_text(old.replace(OK, 'f"ok two {'))
            instance.systemctl("reload")
            # When the reload is done, an old worker has been sent its SIGTERM, and may not have run since.
            instance.journal.until(ended(MEMUNIT_CAUSE="reload"), 2)
            assert _word(instance) == "two"
            replaced = instance.workers()
            assert not {*before.values()} & {*replaced.values()}

            module.write_text(old + "\nimport not_there_at_all\n")
            assert instance.systemctl("reload", check=False).returncode != 0
            (failed,) = instance.journal.until(kind(Message.RELOAD_FAILED.id))
            assert "the old configuration goes on serving" in failed["MESSAGE"]
            assert "ModuleNotFoundError: No module named 'not_there_at_all'" in failed["MESSAGE"]
            assert "the last reload failed" in instance.status()
            assert instance.property("ActiveState") == "active"
            assert instance.workers() == replaced
            assert _word(instance) == "two"
            lossless(instance.load(clients=1, requests=20).run())
        assert {end["MEMUNIT_CAUSE"] for end in instance.journal.find(ended())} == {"reload"}
        (done,) = instance.journal.find(kind(Message.RELOAD_DONE.id))
        say(f"{name}: {sum(load.sent for load in loads)} requests, a reload done {at(done):.1f} s after boot")


def test_memray_traces_a_witness_in_the_sandbox(python: Path, tmp_path: Path) -> None:
    """No request is lost by it, and the command of docs/leaks.md shows which function holds the memory."""
    folder = PAYLOAD / "examples" / "fastapi"
    shutil.copytree(folder, SHOP, dirs_exist_ok=True)
    file = (folder / "shop.toml").read_text().replace("count = 2\n", "count = 1\nmin_lifetime = 0\n")
    with Instance("shop", file) as instance:
        instance.start()
        instance.settle()
        first = instance.workers()[0]
        with under_load(instance.load(clients=2, rate=4)) as loads:
            told = run("memunit", "witness", "shop", "0").stdout
            assert "memray traces its allocations" in told
            instance.journal.until(ended(MEMUNIT_WORKER_PID=first, MEMUNIT_CAUSE="requested"))
            traced = instance.workers()[0]
            for _ in range(20):
                instance.ask("/leak?kb=512")
            said = run("memunit", "examine", "shop", "0").stdout
            instance.journal.until(ended(MEMUNIT_WORKER_PID=traced))
            (entry,) = instance.journal.until(kind(Message.EXAMINED.id))
        profile = Path(f"/var/lib/memunit/shop/witness/0.2-{traced}.memray")
        for text in (said, entry["MESSAGE"]):
            assert f"It was a witness: its profile is {profile} (python -m memray" in " ".join(text.split())
        assert profile.stat().st_mode & 0o077 == 0
        page = tmp_path / "page.html"
        run(str(python), "-m", "memray", "flamegraph", "--leaks", "-o", str(page), str(profile))
        # Each name stands once in the page, in the order of their first use: not always one beside the other.
        assert {'"leak"', '"/srv/shop/web.py"'} <= set(
            re.findall(r'"(?:leak|/srv/shop/web\.py)"', page.read_text())
        )
        # Only for one life.
        assert "witness" not in run("memunit", "examine", "shop", "0").stdout
        say(f"a witness: {loads[0].sent} requests, a profile of {profile.stat().st_size} bytes")


def _word(instance: Instance) -> str:
    """Which version answers: the word before the pid."""
    answer = run("curl", "-sS", "--fail", "--unix-socket", instance.target, "http://shop/").stdout
    return answer.split()[-2]
