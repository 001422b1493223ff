"""How connections that are opened at once spread over the workers, under memunit and under uvicorn alone, in turn."""

import asyncio
import contextlib
import statistics
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.common import APP, free_port, lines, memunit, program

BURSTS = 12
SIZES = (16, 64, 256)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def main() -> None:
    """Measure and print."""
    loops = ("uvloop", "asyncio")
    for count in (2, 4):
        for loop in loops:
            _compare(f"{count} workers, {loop}, TCP", count, loop)
        _compare(f"{count} workers, uvloop, Unix socket", count, "uvloop", unix=True)
    _compare("2 workers, uvloop, TCP, WSGI", 2, "uvloop", wsgi=True)


def _compare(title: str, count: int, loop: str, *, unix: bool = False, wsgi: bool = False) -> None:
    print(title)
    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        running = {}
        for name in ("memunit", "uvicorn") if not wsgi else ("memunit",):
            address = str(Path(folder) / f"{name}.sock") if unix else f"127.0.0.1:{free_port()}"
            command = _command(name, address, count, loop, wsgi=wsgi)
            process = stack.enter_context(program(*command, environment={"UVICORN_LOOP": loop}))
            lines(process, b" is ready " if name == "memunit" else b"startup complete", count)
            running[name] = address
        for size in SIZES:
            found: dict[str, list[tuple[list[int], float]]] = {name: [] for name in running}
            for _ in range(BURSTS):
                for name, address in running.items():
                    found[name].append(asyncio.run(_burst(address, size, count)))
            for name, bursts in found.items():
                largest = [max(shares) / size for shares, _ in bursts]
                times = [seconds * 1000 for _, seconds in bursts]
                print(
                    f"  {size:3} at once: {name:8} largest share median {statistics.median(largest):.2f} "
                    f"max {max(largest):.2f}; all answered after median {statistics.median(times):5.1f} ms "
                    f"max {max(times):5.1f} ms; {' '.join('/'.join(map(str, shares)) for shares, _ in bursts[:4])}",
                    flush=True,
                )


def _command(name: str, address: str, count: int, loop: str, *, wsgi: bool) -> list[str]:
    app = "tests.bench.app:wsgi" if wsgi else APP
    if name == "memunit":
        flags = ["--workers", str(count), "--server", "wsgi" if wsgi else "asgi", "--app", app]
        command = memunit(0, *flags)
        command[command.index("--listen") + 1] = address
        return command
    at = ["--uds", address] if "/" in address else ["--host", "127.0.0.1", "--port", address.split(":")[1]]
    return [
        sys.executable,
        "-m",
        "uvicorn",
        *at,
        "--workers",
        str(count),
        "--no-access-log",
        "--loop",
        loop,
        app,
    ]


async def _burst(address: str, size: int, count: int) -> tuple[list[int], float]:
    """Open so many at once, out of idleness, each with a request: the shares of the workers, and how long it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    opened = await asyncio.gather(*(_connect(address) for _ in range(size)))
    for _, writer in opened:
        writer.write(REQUEST)
    pids = Counter(await asyncio.gather(*(_pid(reader) for reader, _ in opened)))
    took = loop.time() - begun
    for _, writer in opened:
        writer.write_eof()
    for reader, writer in opened:
        with contextlib.suppress(OSError):
            await reader.read()  # to the end: the worker has seen ours, and falls idle when it has seen all
            writer.close()
            await writer.wait_closed()
    shares = sorted(pids.values(), reverse=True)
    return shares + [0] * (count - len(shares)), took


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if "/" in address:
        return await asyncio.open_unix_connection(address)
    return await asyncio.open_connection("127.0.0.1", int(address.split(":")[1]))


async def _pid(reader: asyncio.StreamReader) -> int:
    await reader.readuntil(b"\r\n\r\n")
    return int((await reader.readline()).split()[1])
