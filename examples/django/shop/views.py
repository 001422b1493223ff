"""The views, the same under WSGI and ASGI, with a route that leaks, so that you can watch a recycle.

/              "ok PID"
/leak?kb=N     keeps N KiB for ever (default 64), then answers "ok PID"
/large?size=N  N bytes, in blocks
/lines?n=N     N lines, sent one by one, without a length
/echo          the body of a POST
/form          "NAME BYTES" of an uploaded file
/visits        how often this browser was here, by a signed cookie
/broken        an exception that nobody catches
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

_BLOCK = 65536

_kept: list[bytes] = []


def index(_: HttpRequest) -> HttpResponse:
    """Who answers; asks the database, of which each thread has a connection of its own."""
    with connection.cursor() as cursor:
        cursor.execute("select %s", [os.getpid()])
        return HttpResponse(f"ok {cursor.fetchone()[0]}")


def leak(request: HttpRequest) -> HttpResponse:
    """The mistake that memunit is for."""
    _kept.append(b"\xa5" * (1024 * int(request.GET.get("kb", "64"))))
    return index(request)


def large(request: HttpRequest) -> StreamingHttpResponse:
    """A download."""
    size = int(request.GET.get("size", str(1 << 20)))
    blocks = (b"x" * min(_BLOCK, size - start) for start in range(0, size, _BLOCK))
    return _streamed(request, blocks, headers={"Content-Length": str(size)})


def lines(request: HttpRequest) -> StreamingHttpResponse:
    """An answer whose length nobody knows yet."""
    count = int(request.GET.get("n", "10"))
    return _streamed(request, (b"%d\n" % number for number in range(count)))


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    """What came."""
    return HttpResponse(request.body)


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    """A file of a form."""
    upload = request.FILES["file"]
    return HttpResponse(f"{upload.name} {len(upload.read())}")


def visits(request: HttpRequest) -> HttpResponse:
    """State that is the browser's, so that every worker knows it."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


def broken(_: HttpRequest) -> HttpResponse:
    """Raise."""
    raise LookupError("nothing to sell")


def _streamed(
    request: HttpRequest, blocks: Iterator[bytes], headers: dict[str, str] | None = None
) -> StreamingHttpResponse:
    """Under ASGI Django gathers an ordinary iterator before it sends the first block."""
    under_asgi = isinstance(request, ASGIRequest)
    return StreamingHttpResponse(_async(blocks) if under_asgi else blocks, headers=headers)


async def _async(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
