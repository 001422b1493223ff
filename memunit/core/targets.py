"""What a person meant by a text that is not MODULE:ATTRIBUTE: the advice is to be right as it stands."""

import re
from collections.abc import Sequence

_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*(\(\))?")
_SUFFIX = ".py"
_NODE = (".js", ".cjs", ".mjs", ".ts", ".cts", ".mts")
# Names that an app's object usually has; Django's own files call it application.
_APPS = ("app", "application")
_DJANGO = ("asgi", "wsgi")


def fault(text: str, usual: str) -> tuple[str, str] | None:
    """What is wrong with `text`, and the remedy; None if it is MODULE:ATTRIBUTE, perhaps with () at its end.

    `usual` is the attribute to propose where the text has none: "app" for an app, else the name of the hook.
    """
    if _TARGET.fullmatch(text):
        return None
    path, colon, attribute = text.partition(":")
    attribute = attribute.strip(":").strip()
    if path.endswith(_NODE) and usual == "app":
        return f'"{_short(text)}" is a Node program', 'say server = "node" beside it'
    if "/" in path or path.endswith(_SUFFIX):
        return _file(path, attribute, usual)
    if not colon and _TARGET.fullmatch(f"{text}:{usual}"):
        return f'"{_short(text)}" names no attribute', _attribute_advice(text, usual)
    return f'"{_short(text)}" is not module:attribute', f'say it as in "shop.web:{usual}"'


def no_script(text: str) -> tuple[str, str] | None:
    """What is wrong with `text` as the file of a Node program, and the remedy; None if it may be one."""
    first, *rest = text.split()
    if text.startswith("~"):
        return f'"{_short(text)}": ~ is not expanded here', "write the whole path, from / on"
    if text.startswith("-"):
        return f'"{_short(text)}" is an option of Node', "put it in NODE_OPTIONS of `environment`"
    if rest and first.rpartition("/")[2] in ("node", "nodejs"):
        file = next((word for word in rest if not word.startswith("-")), "server.js")
        return (
            f'"{_short(text)}" is a command line',
            f'say the file alone, "{file}"; `node` names the program',
        )
    if _TARGET.fullmatch(text):
        return f'"{_short(text)}" is a module and an attribute', 'say the file of the program, as "server.js"'
    return None


def without_suffix(target: str) -> str | None:
    """ "web:app" for "web.py:app", which may be a module called py in a package; None if no such suffix is there."""
    module, colon, attribute = target.partition(":")
    if not module.endswith(_SUFFIX) or not colon:
        return None
    return f"{module.removesuffix(_SUFFIX)}:{attribute}"


def _file(path: str, attribute: str, usual: str) -> tuple[str, str]:
    names = [part for part in path.removesuffix(_SUFFIX).split("/") if part not in ("", ".", "..")]
    says = f'"{_short(path)}" is a file, not a module'
    if names[-1:] == ["__init__"]:
        del names[-1]
    if not names:
        return says, f'say it as in "shop.web:{usual}"'
    found = attribute or _usual(names, usual)
    if not _TARGET.fullmatch(f"{names[-1]}:{found}"):
        return says, f'a module has letters, digits and _ in its name: say it as in "shop.web:{usual}"'
    whole = f"{'.'.join(names)}:{found}"
    # Which folders of a whole path are packages is not known here, and one with a dash can't be.
    if path.startswith(("/", "..")) or not _TARGET.fullmatch(whole):
        folder = path.rpartition("/")[0]
        where = f'directory = "{folder}"' if path.startswith("/") else f"{folder} as its `directory`"
        return says, f'say "{names[-1]}:{found}" with {where}'
    return says, f'say "{whole}" with `directory` as the folder that holds it'


def _attribute_advice(text: str, usual: str) -> str:
    names: Sequence[str] = text.split(".")
    if len(names) > 1 and names[-1] in _APPS:
        return f'say "{".".join(names[:-1])}:{names[-1]}"'
    return f'say which object of it is meant: "{text}:{_usual(names, usual)}"'


def _usual(names: Sequence[str], usual: str) -> str:
    return "application" if usual == "app" and len(names) > 1 and names[-1] in _DJANGO else usual


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
