"""Files of instances that are broken, hostile or merely odd, by a seeded generator; and what their drop-ins may hold.

A file is named by its number: mutant(N) is always the same bytes.
"""

from __future__ import annotations

import json
import random
import re
import time
import tomllib
from pathlib import Path
from typing import Any

from tests.support import unitroot

_WHOLE = {
    "app": {"run": "shop.web:app", "directory": "/srv/shop", "environment": {"A": "b"}},
    "socket": {"listen": ["127.0.0.1:8000", "/run/shop.sock"], "mode": "0660", "user": "root", "group": "33"},
    "workers": {"count": 4, "surge": 1},
    "memory": {"limit": "400M", "ceiling": "600M", "total": "3G"},
    "stop": {"grace": "1min"},
    "service": {
        "user": "shop",
        "group": "www-data",
        "environment_files": ["/etc/shop/a.env", "-/etc/shop/b.env"],
        "credentials": {"key": "/etc/shop/key"},
        "writable": ["/srv/shop/uploads", "-/srv/x"],
        "umask": "0027",
        "network": "local",
        "watchdog": "30s",
    },
}
_PIECES = [
    *("%", "%n", "%%", "%{", "$", "$HOME", "${X}", "$$", '"', "'", "\\", "\\\\", " ", "\t", "\n", "\r", "\0"),
    *(
        "\x1b[31m",
        "\u2028",
        "\u00e4",
        "\U0001f600",
        "\ufeff",
        ";",
        "#",
        "[Service]",
        "ExecStart=/bin/sh",
        "=",
    ),
    *(
        "\nExecStartPre=/bin/false\n",
        ":",
        "::",
        "/",
        "//",
        "/.",
        "/..",
        "/../",
        "~",
        "-",
        "+",
        "!",
        "@",
        "*",
        "?",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        "0",
        "-1",
        "65535",
        "4294967295",
        "99999999999999999999",
        "infinity",
        "nan",
        "root",
    ),
    *(
        "vsock:",
        "unix:",
        "localhost:",
        "[::]:",
        "0.0.0.0:",
        "a" * 110,
        "a" * 300,
        "/a" * 3000,
        "dynamic",
        "local",
    ),
]
# What a path may well have in it: these files are good, and their values have to come through unchanged.
_ODD = [
    "%",
    "%n",
    "%%",
    "%Q",
    "$",
    "$HOME",
    "${X}",
    '"',
    "'",
    " ",
    "; ",
    "#",
    "=",
    ":",
    "*",
    "\u00e4",
    "-",
    "[x]",
]
_VALUES = [0, -1, 1 << 70, 3.5, True, False, "", [], {}, [[]], {"": ""}, {"a.b": "/x"}, ["", "-", "-/", "/"]]
# Everything that a drop-in may say; the rest of a line belongs to its directive.
_KNOWN = {
    *("ListenStream", "BindIPv6Only", "SocketMode", "SocketUser", "SocketGroup", "SyslogIdentifier"),
    *("ExecStartPre", "User", "Group", "DynamicUser", "RemoveIPC", "EnvironmentFile", "LoadCredential"),
    *("ReadWritePaths", "UMask", "PrivateNetwork", "RestrictAddressFamilies", "WatchdogSec", "MemoryMax"),
    "TimeoutStopSec",
}
_LINE = re.compile(r"([A-Za-z0-9]+)=(.*)")
# Names that only a person would not choose.
_LENIENT = re.compile(r"Accepting user/group name '.*', which does not match strict user/group name rules\.")


def mutant(number: int) -> bytes:
    """The bytes of this name."""
    rng = random.Random(number)
    document = json.loads(json.dumps(_WHOLE))
    if number % 2:
        _odd(rng, document)
        return _toml(document).encode()
    for _ in range(rng.randint(1, 4)):
        table = rng.choice(("socket", "socket", "service", "service", "service", *document))
        if table not in document:
            continue
        key = rng.choice([*document[table], "listen", "writable", "x"])
        document[table][key] = _value(rng, document[table].get(key, "x"))
    if rng.random() < 0.2:
        document.pop(rng.choice(list(document)))
    data = bytearray(_toml(document).encode("utf-8", "replace"))
    if rng.random() < 0.25:
        for _ in range(rng.randint(1, 3)):
            place = rng.randint(0, len(data))
            data[place : place + rng.choice((0, 1, 8))] = rng.choice(_PIECES).encode()
    return bytes(data)


def _odd(rng: random.Random, document: dict[str, dict[str, Any]]) -> None:
    """Values that are all good, and that a parser of units has to be told carefully."""

    def odd(text: str) -> str:
        for _ in range(rng.randint(1, 4)):
            place = rng.randint(1, len(text) - 1)
            text = text[:place] + rng.choice(_ODD) + text[place:]
        return text

    document["socket"]["listen"] = [odd("/run/\\shop.sock"), odd("@sh\\nop"), "[::1]:80"]
    service = document["service"]
    service["writable"] = [odd("/srv/shop/uploads"), "-" + odd("/srv/x")]
    service["environment_files"] = [odd("/etc/shop/a.env"), "-" + odd("/etc/b.env")]
    service["credentials"] = {"key": odd("/etc/shop/key"), "other.one": odd("/etc/other")}
    service["user"] = rng.choice(["shop", "root", "dynamic", "33", "sh.op", "Shop%", "sh%nop", "sh$op"])


def _value(rng: random.Random, before: object) -> object:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(_VALUES)
    if isinstance(before, list):
        return [_value(rng, each) if rng.random() < 0.5 else each for each in before] + [_text(rng, "/run/x")]
    if isinstance(before, dict):
        return {**before, _text(rng, "k"): _text(rng, "/etc/x")}
    return _text(rng, str(before))


def _text(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(0, 3)):
        place = rng.choice((0, len(text), rng.randint(0, len(text))))
        text = text[:place] + rng.choice(_PIECES) + text[place:]
    return text


def _toml(document: dict[str, dict[str, object]]) -> str:
    """JSON's texts are TOML's; a table is written in one line."""
    return "".join(
        f"[{table}]\n" + "".join(f"{json.dumps(key)} = {_one(value)}\n" for key, value in keys.items())
        for table, keys in document.items()
    )


def _one(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_one(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_one, value)) + "]"
    # Beyond the 16 bits that \\u has, TOML writes the character itself.
    return json.dumps(value, ensure_ascii=not isinstance(value, str) or value.isascii()).replace(
        "\x7f", "\\u007f"
    )


def faults(text: str) -> list[str]:
    """What is in a drop-in that no file may put there."""
    found = []
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        known = not line or line.startswith("#") or line in ("[Socket]", "[Service]")
        if not known and (match is None or match[1] not in _KNOWN):
            found.append(f"unknown line {line[:80]!r}")
        if match and (line.endswith("\\") or not line.isprintable()):
            found.append(f"{line[:80]!r} goes on, or is not printable")
    return found


def truth(number: int, socket: str, service: str) -> list[str]:
    """Whether what an odd file says is what a parser of units reads, by rules written down here once more."""
    document = tomllib.loads(mutant(number).decode())
    said: dict[str, list[str]] = {}
    for line in f"{socket}\n{service}".split("\n"):
        if match := _LINE.fullmatch(line):
            said.setdefault(match[1], []).append(match[2])
    wanted = {
        "ListenStream": ["", *document["socket"]["listen"]],
        "EnvironmentFile": document["service"]["environment_files"],
        "LoadCredential": [f"{name}:{path}" for name, path in document["service"]["credentials"].items()],
        "ReadWritePaths": document["service"]["writable"],
    }
    found = []
    for directive, values in wanted.items():
        lines = said.get(directive, [])
        if re.search(r"(?<!%)(?:%%)*%(?!%)", "\n".join(lines)):
            found.append(f"{number}: {directive}: a specifier in {lines}")
        read = [line.replace("%%", "%") for line in lines]
        if directive == "ReadWritePaths":
            read = [word for line in read for word in _words(line)]
        if read != values:
            found.append(f"{number}: {directive}: {read} for {values}")
    return found


def _words(line: str) -> list[str]:
    """Quotes hold words together, and each kind holds the other (systemd's EXTRACT_UNQUOTE)."""
    words, word, quote = [], None, ""
    for character in line:
        if quote:
            word, quote = (word or "", "") if character == quote else ((word or "") + character, quote)
        elif character in "\"'":
            word, quote = word or "", character
        elif character == " ":
            words += [word] if word is not None else []
            word = None
        else:
            word = (word or "") + character
    return words + ([word] if word is not None else [])


def batch(root: Path, numbers: range) -> list[str]:
    """Let the generator read so many mutants, and systemd what it has made of them; what is wrong."""
    source = root / "source"
    source.mkdir(exist_ok=True)
    for file in source.iterdir():
        file.unlink()
    for number in numbers:
        (source / f"m{number}.toml").write_bytes(mutant(number))
    (source / "good.toml").write_text('[app]\nrun = "a:b"\n[socket]\nlisten = ["127.0.0.1:9"]\n')
    done = unitroot.generate(root, source)
    found = []
    if done.returncode or "at fault" in done.stderr or "Traceback" in done.stderr:
        found.append(f"{numbers}: {done.returncode} {done.stderr[-2000:]}")
    if "ListenStream=127.0.0.1:9\n" not in unitroot.drop_in(root, "memunit@good.socket"):
        found.append(f"{numbers}: a broken file has harmed another")
    units = [f"memunit@m{number}.{kind}" for number in numbers for kind in ("socket", "service")]
    for unit in units:
        found += [f"{unit}: {fault}" for fault in faults(unitroot.drop_in(root, unit))]
    for number in numbers[1::2]:
        texts = [unitroot.drop_in(root, f"memunit@m{number}.{kind}") for kind in ("socket", "service")]
        found += truth(number, *texts)
    said = unitroot.verify(root, units).splitlines()
    found += [line for line in said if line and not _LENIENT.fullmatch(line)]
    return found


def fuzz(root: Path, *, batches: int, seconds: float, size: int = 40) -> list[str]:
    """So many batches, or for so many seconds if that is more than 0; what is wrong."""
    until, number = time.monotonic() + seconds, 0
    found: list[str] = []
    while (time.monotonic() < until if seconds else number < batches * size) and len(found) < 20:
        found += batch(root, range(number, number + size))
        number += size
    if seconds:
        print(f"{number} files")
    return found
