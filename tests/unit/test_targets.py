"""What a person writes in the place of module:attribute, and the advice: right as it stands, so it is tried again."""

import re
import tomllib
from pathlib import Path

import pytest

from memunit.cli.preflight import preflight
from memunit.core.settings import App, Settings, examine
from memunit.core.targets import fault, without_suffix


def advice(text: str, key: str = "run") -> str:
    document = tomllib.loads(f"[app]\nrun = 'a:b'\n{key} = '{text}'\n".replace("run = 'a:b'\nrun", "run"))
    (problem,) = examine(document, "f.toml").problems
    assert problem.key == f"app.{key}"
    return problem.remedy


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("shop/web.py:app", "shop.web:app"),
        ("./web.py", "web:app"),
        ("shop.web", "shop.web:app"),
        ("./shop/web.py:site.app", "shop.web:site.app"),
        ("shop/web.py:create_app()", "shop.web:create_app()"),
        ("shop/web", "shop.web:app"),
        ("shop/web:", "shop.web:app"),
        ("shop/web.py::app", "shop.web:app"),
        ("web.py", "web:app"),
        ("shop/__init__.py:app", "shop:app"),
        ("/srv/shop/web.py:app", "web:app"),
        ("../shop/web.py:app", "web:app"),
        ("shop.web.app", "shop.web:app"),
        ("shop.wsgi.application", "shop.wsgi:application"),
        ("shop.wsgi", "shop.wsgi:application"),
        ("shop/asgi.py", "shop.asgi:application"),
    ],
)
def test_the_advice_is_what_was_meant(text: str, meant: str) -> None:
    said = advice(text)
    assert f'"{meant}"' in said
    assert re.findall(r'"([^"]*:[^"]*)"', said) == [meant]
    assert fault(meant, "app") is None


def test_the_folder_of_a_whole_path_is_named() -> None:
    assert advice("/srv/shop/web.py:app") == 'say "web:app" with directory = "/srv/shop"'


@pytest.mark.parametrize("text", ["shop.web:app()", "shop.web:app", "shop:make.app"])
def test_what_is_right_is_taken(text: str) -> None:
    assert examine({"app": {"run": text}}, "f.toml").problems == ()


def test_a_folder_that_is_no_package_is_the_directory() -> None:
    assert advice("my-shop/web.py:app") == 'say "web:app" with my-shop as its `directory`'
    assert advice("shop/my-web.py:app") == (
        'a module has letters, digits and _ in its name: say it as in "shop.web:app"'
    )


@pytest.mark.parametrize("key", ["after_fork", "before_stop"])
def test_a_hook_is_not_called_app(key: str) -> None:
    assert advice("shop/hooks.py", key).startswith(f'say "shop.hooks:{key}"')
    assert f'"shop.hooks:{key}"' in advice("shop.hooks", key)


@pytest.mark.parametrize("text", ["/", "..", "./", ".py", "shop-web:app", ":app", "a b:c"])
def test_what_means_nothing_gets_an_example(text: str) -> None:
    assert advice(text) == 'say it as in "shop.web:app"'


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("web.py:app", "web:app"),
        ("shop.web.py:app", "shop.web:app"),
        ("shop.web.py:make()", "shop.web:make()"),
    ],
)
def test_a_suffix_after_dots(tmp_path: Path, target: str, meant: str) -> None:
    """It may be a module called py, so only one that is not there is refused."""
    (tmp_path / "web.py").write_text("")
    (tmp_path / "shop").mkdir()
    for name in ("__init__", "web"):
        (tmp_path / "shop" / f"{name}.py").write_text("")
    settings = Settings(app=App(run=target, directory=str(tmp_path)))
    (problem,) = preflight(settings, "f.toml", environment={})
    assert problem.remedy == f'say "{meant}": a module has no suffix'
    assert without_suffix(meant) is None
