"""The host: its architecture, its root commands, its cache folder and its mirrors."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_END_SECONDS = 15.0


class HarnessError(Exception):
    """The harness itself failed (not what ran inside): the text is for a person."""


@dataclass(frozen=True)
class Architecture:
    """What a Debian architecture is called by QEMU, by Debian's kernel packages and in the names of wheels."""

    debian: str
    kernel: str
    emulator: str
    machine: str
    console: str
    wheels: str


_ARCHITECTURES = {
    "amd64": Architecture("amd64", "linux-image-cloud-amd64", "qemu-system-x86_64", "q35", "ttyS0", "x86_64"),
    "arm64": Architecture(
        "arm64", "linux-image-cloud-arm64", "qemu-system-aarch64", "virt", "ttyAMA0", "aarch64"
    ),
}


def architecture() -> Architecture:
    """The host's; raises HarnessError where there is no cloud kernel for it."""
    name = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if name not in _ARCHITECTURES:
        raise HarnessError(f"no throwaway machine for {name}: only for {', '.join(sorted(_ARCHITECTURES))}")
    return _ARCHITECTURES[name]


def as_root(*command: str) -> list[str]:
    """The command as root: through sudo unless this is root already."""
    return list(command) if os.geteuid() == 0 else ["sudo", "--", *command]


def end(process: subprocess.Popen[bytes], *signals: int) -> None:
    """Send each signal in turn to a process group that was started as root, until its leader has ended."""
    for signum in signals:
        if process.poll() is not None:
            return
        subprocess.run(as_root("kill", f"-{signum}", "--", f"-{process.pid}"), check=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)


def cache() -> Path:
    """memunit's folder under XDG_CACHE_HOME; it need not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "memunit"


def find(program: str) -> str:
    """Path of a program, also in the sbin folders, which a plain user's PATH lacks."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=path)
    if found is None:
        raise HarnessError(f"{program} is not installed")
    return found


def mirrors(suite: str) -> list[str]:
    """apt's own Debian sources as one-line entries for `suite`; none where apt knows none.

    apt reads both of its formats and every folder itself; only what its lists have been fetched for counts.
    """
    fields = [
        "$(REPO_URI)",
        "$(RELEASE)",
        "$(CODENAME)",
        "$(COMPONENT)",
        "$(ORIGIN)",
        "$(SIGNED_BY)",
    ]
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "\t".join(fields), "Created-By: Packages"],
        check=False,
        capture_output=True,
        text=True,
    )
    entries: dict[tuple[str, str], str] = {}
    for line in listing.stdout.splitlines():
        parts = line.split("\t")
        if len(parts) != len(fields) or parts[4] != "Debian":
            continue
        uri, release, codename, component, _, key = parts
        pocket = codename.partition("-")[2] or release.partition("-")[2]
        if component != "main" or pocket not in ("", "updates", "security"):
            continue
        options = f"[signed-by={key}] " if key.startswith("/") else ""
        name = f"{suite}-{pocket}" if pocket else suite
        entries.setdefault((uri, name), f"deb {options}{uri} {name} main")
    return list(entries.values()) if any(name == suite for _, name in entries) else []
