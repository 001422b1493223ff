"""What an app writes and nginx serves: 0600 by UMask=0077 of the unit, and what docs/nginx.md says for it."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.booted.support import Instance, asgi, run

pytestmark = pytest.mark.native

FOLDER = Path("/srv/uploader")
UPLOADS = FOLDER / "uploads"
PAGE = Path("/usr/share/doc/memunit/docs/nginx.md")
APP = """
import os
async def app(scope, receive, send):
    if scope["type"] == "http":
        for name in ("plain", "below/deeper"):
            path = os.path.join(os.environ["UPLOADS"] or os.environ["STATE_DIRECTORY"], name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(name)
        body = b"ok 1 wrote"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    FOLDER.mkdir(mode=0o755)
    (FOLDER / "web.py").write_text(APP)
    UPLOADS.mkdir()
    os.chown(UPLOADS, pwd.getpwnam("games").pw_uid, grp.getgrnam("www-data").gr_gid)
    UPLOADS.chmod(0o2750)
    yield FOLDER
    shutil.rmtree(FOLDER)


def as_nginx(path: Path) -> bool:
    """Whether www-data may read it."""
    words = ("setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", "cat", str(path))
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def file(uploads: str) -> str:
    environment = f'environment = {{ UPLOADS = "{uploads}" }}\n'
    return asgi(folder=FOLDER, app="web:app").replace("[workers]", f"{environment}[workers]")


def test_by_default_only_the_app_may_read_what_it_writes(folder: Path) -> None:
    with Instance("uploader", file("")) as instance:
        instance.start()
        instance.ask()
        written = Path("/var/lib/private/memunit/uploader/plain")
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        assert not as_nginx(written)


def test_with_the_keys_of_the_page_nginx_may_read_the_uploads_and_nothing_else(folder: Path) -> None:
    service = PAGE.read_text().partition("    [service]\n")[2].partition("\n\n")[0]
    assert '"shop"' in service
    assert '"/srv/shop/uploads"' in service
    service = service.replace('"shop"', '"games"').replace("/srv/shop/uploads", str(UPLOADS))
    with Instance("uploading", f"{file(str(UPLOADS))}[service]\n{service}\n") as instance:
        run("systemctl", "daemon-reload")
        instance.start()
        instance.ask()
        for name in ("plain", "below/deeper"):
            found = (UPLOADS / name).stat()
            assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, grp.getgrnam("www-data").gr_gid)
            assert as_nginx(UPLOADS / name)
        assert Path("/var/lib/memunit/uploading").stat().st_gid == pwd.getpwnam("games").pw_gid
