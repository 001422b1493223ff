"""Where a worker begins: the master starts `PYTHON <this file> --server asgi|wsgi|callable MODULE:ATTRIBUTE`.

PYTHON is the app's own interpreter, 3.9 or later, which knows nothing of memunit: the package is made
importable from the files beside this one and from nowhere else, so that neither memunit's neighbours nor this
folder get in the app's way.
"""

import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _set_paths() -> None:
    """Let the app see its working directory first, and never this folder."""
    own = os.path.realpath(_FOLDER)
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.curdir) != own]
    try:
        here = os.getcwd()
    except OSError:
        return  # it has been removed: the import of the app will say so
    if here in sys.path:
        sys.path.remove(here)
    sys.path.insert(0, here)


def _add_package() -> None:
    """Put the package `memunit` that this folder is part of in sys.modules, without an entry in sys.path."""
    import importlib.util  # noqa: PLC0415  only once the paths are the app's

    package = os.path.dirname(_FOLDER)
    spec = importlib.util.spec_from_file_location(
        "memunit", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["memunit"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    _set_paths()
    _add_package()
    if sys.argv[1:2] == ["--ahead"]:
        import gc

        # To look through what is imported again and again for garbage is a tenth of the time. Until the app comes.
        gc.disable()
        from memunit.worker import ahead

        ahead.wait(*sys.argv[2:4])
        gc.freeze()  # or all of that would be looked through as soon as it is enabled
        gc.enable()
    from memunit.worker.start import main

    sys.exit(main(sys.argv[1:]))
