"""What frameworks call a route, by what they leave behind; and whatever else may stand there."""

from __future__ import annotations

import sys
from types import SimpleNamespace as Thing
from typing import Any

import pytest

from memunit.worker import frameworks


def endpoint() -> None:
    """One that an app has."""


class Lying:
    """Raises at whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError


ROUTES = [
    Thing(path="/a", endpoint=print),
    Thing(path="/shop", routes=[Thing(path="/product/{id}", endpoint=endpoint)]),
]


@pytest.mark.parametrize(
    ("scope", "named"),
    [
        ({}, None),
        ({"route": Thing(path="/product/{id}", endpoint=endpoint)}, "/product/{id}"),
        (
            {"route": Thing(path="/product/{id}", endpoint=endpoint), "root_path": "/base/shop/7"},
            "/shop/{}/product/{id}",
        ),
        ({"route": Thing(path="/shop"), "root_path": "/base/shop"}, None),
        ({"path_template": "/product/{id:int}"}, "/product/{id:int}"),
        ({"memunit.route": "/product/<int:id>"}, "/product/<int:id>"),
        ({"endpoint": endpoint, "router": Thing(routes=ROUTES)}, "/shop/product/{id}"),
        ({"endpoint": len, "router": Thing(routes=ROUTES)}, None),
        ({"endpoint": len, "router": Thing(routes=None)}, None),
        ({"route": Lying()}, None),
        ({"route": Thing(path=7, endpoint=endpoint)}, None),
        ({"path_template": b"/x"}, None),
        ({"endpoint": Lying(), "router": Lying()}, None),
    ],
)
def test_asgi(scope: dict[str, Any], named: str | None) -> None:
    assert frameworks.of_asgi({"root_path": "/base", **scope}, "/base") == named


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, None),
        ({"werkzeug.request": Thing(url_rule=Thing(rule="/product/<id>"))}, "/product/<id>"),
        ({"werkzeug.request": Thing(url_rule=None)}, None),
        ({"bottle.route": Thing(rule="/product/<id>")}, "/product/<id>"),
        ({"memunit.route": "/product/<int:id>"}, "/product/<int:id>"),
        ({"werkzeug.request": Lying()}, None),
        ({"bottle.route": 7}, None),
    ],
)
def test_wsgi(environ: dict[str, Any], named: str | None) -> None:
    assert frameworks.of_wsgi(environ) == named


def test_routes_without_an_end_are_searched_for_a_while() -> None:
    routes: list[Any] = []
    routes.append(Thing(path="/again", routes=routes))
    assert (
        frameworks.of_asgi({"root_path": "", "endpoint": sorted, "router": Thing(routes=routes)}, "") is None
    )


def test_django_notes_the_route_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    class BaseHandler:
        def resolve_request(self, request: Any) -> Any:
            return Thing(route=request.said)

    monkeypatch.setitem(sys.modules, "django.core.handlers.base", Thing(BaseHandler=BaseHandler))
    frameworks.watch()
    frameworks.watch()
    scope: dict[str, Any] = {}
    found = BaseHandler().resolve_request(Thing(said="^product/(?P<id>[0-9]+)$", scope=scope))
    assert found.route == "^product/(?P<id>[0-9]+)$"
    assert scope == {"memunit.route": "/product/(?P<id>[0-9]+)$"}
    environ: dict[str, Any] = {}
    BaseHandler().resolve_request(Thing(said="product/<int:id>", environ=environ))
    assert environ == {"memunit.route": "/product/<int:id>"}
    # Of another version, which has neither: what it resolves is still what it gives.
    assert BaseHandler().resolve_request(Thing(said="x")).route == "x"
