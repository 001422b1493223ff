from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


async def product(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.path_params["name"])


shop = [Route("/product/{name}", product)]
app = Starlette(
    routes=[Mount("/shop", routes=shop), Mount("/inner", Starlette(routes=[Mount("/shop", routes=shop)]))]
)
