"""What a loop holds of zeros is given back, and the loop is as it was."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from memunit.worker import pages
from tests.support import interpreters

ROOT = Path(__file__).parents[2]
_CODE = """
import asyncio, os, sys, uvloop
sys.path.insert(0, {root!r})
from memunit.worker import pages
loop = uvloop.new_event_loop()
assert pages.give_back(loop) == 0  # not without a zygote
pages.prepare(loop)
given = pages.give_back(loop)
async def echo():
    async def answer(reader, writer):
        writer.write(await reader.readexactly(400_000))
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    sent = os.urandom(400_000)
    writer.write(sent)
    assert await reader.readexactly(len(sent)) == sent
    writer.close()
    server.close()
loop.run_until_complete(echo())
loop.close()
print(given)
"""


def test_uvloop_gives_back_its_buffer_and_reads_and_writes() -> None:
    python = interpreters.newest()
    if python is None:
        pytest.skip("the newest uvloop cannot be installed here")
    done = subprocess.run(
        [python, "-c", _CODE.format(root=str(ROOT))], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 200_000


def test_a_loop_of_asyncio_is_left_alone() -> None:
    loop = asyncio.new_event_loop()
    pages.prepare(loop)
    assert pages.give_back(loop) == 0
    loop.close()
