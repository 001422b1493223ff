"""What a machine is given to run: a tar with an executable `run` at its top."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def pack(contents: Mapping[str, Path | str], target: Path) -> None:
    """Write a tar of {name in the payload: a file or folder, or the text of a script} to `target`.

    Everything belongs to root in the guest; a text becomes an executable file. Raises FileNotFoundError.
    """
    with tarfile.open(target, "w") as tar:
        for name, source in contents.items():
            if isinstance(source, Path):
                tar.add(source, arcname=name, filter=_plain)
                continue
            data = source.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755
            tar.addfile(info, io.BytesIO(data))


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    # Of a checkout it may be stale; what is in site-packages was compiled for the guest.
    if "__pycache__" in info.name and not info.name.startswith("site-packages/"):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info
