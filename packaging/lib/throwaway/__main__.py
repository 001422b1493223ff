"""python3 -m throwaway: build an image, or run a payload on a throwaway machine."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from functools import partial
from pathlib import Path

from throwaway import image, machine, nspawn, payload, qemu, qemukernel, uml, umlkernel
from throwaway.host import HarnessError

# As env(1) and timeout(1) say that they, and not what they ran, failed.
EXIT_HARNESS = 125


def main() -> int:
    """Entry point; returns the payload's exit status, 125 if the harness failed."""
    parser = argparse.ArgumentParser(prog="throwaway", description=__doc__)
    parser.add_argument("--suite", default="bookworm", choices=image.SUITES)
    commands = parser.add_subparsers(dest="command", required=True)
    built = commands.add_parser("image", help="build the image if the cache has none and print its folder")
    built.add_argument("--cached", action="store_true", help="build nothing: status 1 if there is none")
    prepare = commands.add_parser("prepare", help="build what the cache lacks, one after the other")
    things = (*image.SUITES, "uml", *(f"qemu-{suite}" for suite in image.SUITES))
    prepare.add_argument("thing", nargs="+", choices=things, help="an image by its suite, or a kernel")
    run = commands.add_parser("run", help="run FOLDER/run in a throwaway machine")
    run.add_argument("folder", type=Path, help="or a tar of it, as payload.pack makes it")
    run.add_argument("--with", dest="backend", choices=("auto", "nspawn", "uml", "qemu"), default="qemu")
    run.add_argument("--deadline", type=float, default=600.0, metavar="SECONDS")
    run.add_argument("--memory", type=int, default=1024, metavar="MIB", help="not nspawn")
    run.add_argument("--cpus", type=int, default=2, help="QEMU only")
    run.add_argument("--results", type=Path, help="where what the payload leaves in /results goes")
    arguments = parser.parse_args()
    try:
        if arguments.command == "image" and arguments.cached:
            folder = image.cached(arguments.suite)
            print(folder or "")
            return 0 if folder else 1
        if arguments.command == "prepare":
            return _prepare(arguments.thing)
        made = image.ensure(arguments.suite)
        if arguments.command == "image":
            print(made.root.parent)
            return 0
        return _run(arguments, made)
    except HarnessError as error:
        print(f"throwaway: {error}", file=sys.stderr)
        return EXIT_HARNESS
    except machine.Interrupted as interrupted:
        return 128 + interrupted.signum


def _prepare(things: list[str]) -> int:
    for thing in things:
        kind, _, suite = thing.partition("-")
        if kind == "uml":
            # Where it can't be had, QEMU takes its place.
            with contextlib.suppress(HarnessError):
                umlkernel.ensure()
        elif kind == "qemu":
            qemukernel.ensure(suite)
        else:
            image.ensure(thing)
    return 0


def _run(arguments: argparse.Namespace, made: image.Image) -> int:
    folder: Path = arguments.folder
    if folder.is_dir() and not (folder / "run").exists():
        raise HarnessError(f"{folder} has no `run`")
    with tempfile.TemporaryDirectory(prefix="memunit-payload-") as scratch:
        packed = folder
        if folder.is_dir():
            packed = Path(scratch) / "payload.tar"
            payload.pack({entry.name: entry for entry in sorted(folder.iterdir())}, packed)
        backend = arguments.backend
        if backend == "auto":
            backend = "qemu" if nspawn.refusal(made) else "nspawn"
        boots: dict[str, machine.Boot] = {
            "nspawn": partial(nspawn.boot, made, packed),
            "uml": partial(uml.boot, made, packed, memory=arguments.memory),
            "qemu": partial(qemu.boot, made, packed, cpus=arguments.cpus, memory=arguments.memory),
        }
        return machine.follow(boots[backend], deadline=arguments.deadline, results=arguments.results)


if __name__ == "__main__":
    with machine.interruptible():
        sys.exit(main())
