from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
import work  # type: ignore[import-not-found]
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DATA_UPLOAD_MAX_MEMORY_SIZE=None
)
django.setup(set_prefix=False)


def cookie(request: HttpRequest) -> HttpResponse:
    answer = HttpResponse("cookie")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", request.COOKIES.get("a", "2"), httponly=True)
    return answer


def stream(request: HttpRequest) -> StreamingHttpResponse:
    lines: Any = _lines_later() if hasattr(request, "scope") else _lines()
    return StreamingHttpResponse(lines, content_type="text/plain")


def _lines() -> Iterator[str]:
    for number in range(work.LINES):
        yield f"{number}\n"
        time.sleep(0.02)


async def _lines_later() -> AsyncIterator[str]:
    for number in range(work.LINES):
        yield f"{number}\n"
        await asyncio.sleep(0.02)


def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(sum(len(block) for block in iter(lambda: request.read(65536), b""))))


def helpers(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(work.helpers())


urlpatterns = [path(view.__name__, view) for view in (cookie, stream, upload, helpers)]
asgi = get_asgi_application()
wsgi = get_wsgi_application()
