"""Whether the app's module is there, as far as its files tell. Imports nothing of the app."""

import importlib
import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path

_FILES = (".py", ".pyc", ".so")


def missing_module(module: str, folders: tuple[str, ...], *, ours: bool) -> str | None:
    """What is wrong with "shop.web", or None if nothing is known to be.

    Looked for in `folders`, and, if the app runs in memunit's own interpreter (`ours`), wherever that finds
    modules. Another interpreter's own are not known.
    """
    names = module.split(".")
    for folder in folders:
        path = Path(folder)
        verdict = _look(path, names) if _is_folder(path) else _look_in_archive(folder, names[0])
        if verdict is not None:
            return verdict or None
    if ours and not _importable(names[0]):
        looked = ", ".join(folders)
        return (
            f"there is no module {names[0]} in {looked}, nor among the modules of memunit's own interpreter"
        )
    return None


def _look(folder: Path, names: list[str]) -> str | None:
    """None if `folder` lacks the first of `names`; "" if all is well or can't be told; else a verdict."""
    regular = False
    for i, name in enumerate(names):
        package, file = folder / name, _file(folder, name)
        try:
            is_folder = package.is_dir()
            is_regular = is_folder and _file(package, "__init__") is not None
        except OSError:
            return ""
        if file is not None and not is_regular:
            rest = ".".join(names[i + 1 :])
            return f"{file} is a module and not a package, so it has no {rest}" if rest else ""
        if not is_folder:
            if i == 0:
                return None
            # A package that sets its own __path__ may find it elsewhere; so may one without __init__.
            if regular and not _sets_path(folder):
                return f"there is no module {'.'.join(names[: i + 1])}: {package}.py does not exist"
            return ""
        folder, regular = package, is_regular
    return ""


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return True


def _look_in_archive(path: str, name: str) -> str | None:
    """As `_look`, in a zip file or below one (zipimport): of what the package in it has, nothing is known."""
    importlib.invalidate_caches()
    try:
        return None if PathFinder.find_spec(name, [path]) is None else ""
    except Exception:  # an archive that can't be read tells nothing
        return ""


def _file(folder: Path, name: str) -> Path | None:
    try:
        for entry in folder.iterdir():
            if entry.name.split(".")[0] == name and entry.name.endswith(_FILES) and entry.is_file():
                return entry
    except OSError:
        return None
    return None


def _sets_path(package: Path) -> bool:
    try:
        return b"__path__" in (package / "__init__.py").read_bytes()
    except OSError:
        return True


def _importable(name: str) -> bool:
    importlib.invalidate_caches()
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return True  # a finder that gives up tells nothing
