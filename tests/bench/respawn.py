"""SIGKILL to the only worker until its replacement's first answer, beside the app's own time to start."""

import os
import signal
import statistics
import subprocess
import sys
import time

from tests.bench.common import APP, ROOT, answer, free_port, lines, memunit, program

ROUNDS = 15


def main() -> None:
    """Measure and print, in turn: a replacement, and the same worker program started by hand."""
    replaced, alone = [], []
    port = free_port()
    # A life of more than ten seconds is what makes an accident the first in a row; here each is killed younger, and
    # the backoff of the second and later ones is not what is measured. So each round has a master of its own.
    for _ in range(ROUNDS):
        with program(*memunit(port, "--workers", "1", "--app", APP)) as process:
            lines(process, b" is ready ", 1)
            pid = int(answer(port).split()[1])
            begun = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            assert int(answer(port).split()[1]) != pid
            replaced.append(time.monotonic() - begun)
        alone.append(_alone(free_port()))
    extra = [a - b for a, b in zip(replaced, alone, strict=True)]
    for name, values in (("replacement", replaced), ("the same worker alone", alone), ("difference", extra)):
        print(
            f"{name:22} median {statistics.median(values) * 1000:6.1f} ms  max {max(values) * 1000:6.1f} ms"
        )


def _alone(port: int) -> float:
    """The app's own start: exec of the worker's program with a socket in descriptor 3, to its first answer."""
    worker = [sys.executable, str(ROOT / "memunit" / "worker"), "--server", "asgi", APP]
    code = (
        "import os, socket, sys\n"
        f"s = socket.create_server(('127.0.0.1', {port}), backlog=128)\n"
        "os.dup2(s.fileno(), 3)\n"
        "os.set_inheritable(3, True)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        "print('bound', flush=True)\n"
        "sys.stdin.read(1)\n"
        f"os.execv(sys.executable, {worker!r})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdout.readline()
        begun = time.monotonic()
        process.stdin.write(b"x")
        process.stdin.flush()
        answer(port)
        return time.monotonic() - begun
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
