"""What an app has printed before its end, boiled down: the exception of a traceback, the place where a stack stands."""

import re
from collections.abc import Sequence

_HEAD = "Traceback (most recent call last):"
# faulthandler: "Current thread 0x00007f... [name] (most recent call first):"
_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):")
_FRAME = re.compile(r'\s+File "(?P<file>.+)", line (?P<line>\d+),? in (?P<name>.+)')
# An app's own code is what a person can change; these are not.
_FOREIGN = re.compile(r"/(site-packages|dist-packages|memunit/worker|lib/python3(\.\d+)?)/|^<frozen ")
_KEPT = 12


def gist(printed: Sequence[str]) -> list[str]:
    """The few lines that say most: of the last traceback or stack, else the last lines that are not empty."""
    lines = [line.rstrip() for line in printed]
    last = next((n for n in range(len(lines) - 1, -1, -1) if _HEAD in lines[n]), None)
    stacks = next((n for n, line in enumerate(lines) if _THREAD.match(line)), None)
    if stacks is not None and (last is None or last < stacks):
        return _stack(lines[stacks:])
    if last is not None:
        found = _traceback(lines[last:])
        if found:
            return found
    return [line for line in lines if line.strip()][-_KEPT:]


def _traceback(lines: Sequence[str]) -> list[str]:
    """Where the app was, and what was raised."""
    frames: list[tuple[str, str, str]] = []
    source: list[str] = []
    for number, line in enumerate(lines[1:], 1):
        frame = _FRAME.match(line)
        if frame is not None:
            frames.append((frame["file"], frame["line"], frame["name"]))
            after = lines[number + 1] if number + 1 < len(lines) else ""
            source.append(after.strip() if after.startswith("    ") and not _FRAME.match(after) else "")
        elif line and not line.startswith(" "):
            own = [n for n, (file, _, _) in enumerate(frames) if not _FOREIGN.search(file)]
            kept = own[-2:] or range(max(0, len(frames) - 2), len(frames))
            told = [
                f"{frames[n][0]}:{frames[n][1]} in {frames[n][2]}: {source[n]}".rstrip(": ") for n in kept
            ]
            return [line, *(f"  at {each}" for each in told)]
    return []


def _stack(lines: Sequence[str]) -> list[str]:
    """The app's thread: the main one, which faulthandler writes last, or else the one with code of the app's own."""
    threads: list[list[tuple[str, str, str]]] = []
    for line in lines:
        frame = _FRAME.match(line)
        if _THREAD.match(line):
            threads.append([])
        elif frame is not None and threads:
            threads[-1].append((frame["file"], frame["line"], frame["name"]))
    told: list[str] = []
    for frames in threads:
        own = [each for each in frames if not _FOREIGN.search(each[0])]
        if own:
            inner = frames[0]
            place = f"{own[0][0]}:{own[0][1]} in {own[0][2]}"
            below = f", which waits in {inner[2]} ({inner[0]}:{inner[1]})" if inner != own[0] else ""
            told.append(f"a thread is at {place}{below}")
    if told:
        return told[:_KEPT]
    return [f"a thread is at {each[0][0]}:{each[0][1]} in {each[0][2]}" for each in threads if each][:_KEPT]
