"""How what the cache keeps is built: under a lock, beside its place, with a log, and renamed into it when whole."""

from __future__ import annotations

import contextlib
import fcntl
import io
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from throwaway import host

_KEPT_SECONDS = 14 * 86400


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """While it lasts, nobody else builds this place; its folder exists."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def workshop(place: Path) -> Iterator[tuple[Path, Path]]:
    """A folder beside the place for a tree (root's) and the log; gone afterwards, whatever happened."""
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=place.parent))
    # mmdebstrap's apt drops to its own user, which must be able to come here.
    work.chmod(0o755)
    try:
        yield work, work / "log"
    finally:
        subprocess.run(host.as_root("rm", "-rf", "--one-file-system", str(work)), check=False)


def run(what: str, command: list[str], log: Path, seconds: float) -> None:
    """Run a command to its end; raises HarnessError with its last words when it fails or takes too long."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            code = process.wait(seconds)
            end = f"exit status {code}"
        except subprocess.TimeoutExpired:
            code, end = 124, f"it took more than {seconds:.0f} s"
        finally:
            # Interrupted: mmdebstrap unmounts what it mounted when it is asked to end.
            host.end(process, signal.SIGTERM, signal.SIGKILL)
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise host.HarnessError(f"{what} was not built ({end}):\n{tail}")


def forget_old(current: Path) -> None:
    """The current place's siblings, of older recipes, go when nobody has used them for two weeks."""
    for other in current.parent.iterdir():
        if other.is_dir() and other != current and not other.name.startswith("."):
            with contextlib.suppress(OSError):
                if time.time() - other.stat().st_mtime > _KEPT_SECONDS:
                    shutil.rmtree(other)
                    other.with_name(f"{other.name}.lock").unlink(missing_ok=True)


def files(name: str) -> bytes:
    """A folder beside this file as a tar, the same bytes for the same contents whatever the checkout's umask."""
    folder = Path(__file__).parent / name
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_dir():
                continue
            info = tarfile.TarInfo(str(path.relative_to(folder)))
            info.size = path.stat().st_size
            info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as stream:
                tar.addfile(info, stream)
    return buffer.getvalue()
