"""Run a command in a mount namespace of its own, at whose root is the root that the caller sees.

    python3 ownroot.py COMMAND [WORD...]

Needs root. unshare(1) fails in a chroot whose folder is no mount point, for it changes the propagation of "/". And
whoever is in a chroot, be it a mount point, may make no user namespace (user_namespaces(7)). setns(2) into a mount
namespace takes a process to that namespace's root, even if the process is in the namespace already. From there
pivot_root(2) makes the chroot's folder the root of the new namespace, and so it is a chroot no longer. Nothing
outside the namespace changes.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# <linux/sched.h>, <linux/mount.h>, umount2(2)
_CLONE_NEWNS = 0x20000
_MS_BIND = 1 << 12
_MS_REC = 1 << 14
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2


def enter() -> None:
    """Move this process to such a namespace; its working folder stays. Raises OSError."""
    folder = Path.cwd()
    _call("unshare", _CLONE_NEWNS)
    # Opened earlier it would be of the former namespace, and not to be mounted here.
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # The proc of the caller: that of the namespace's root may be another one, or none.
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _call("setns", namespace, _CLONE_NEWNS)
    _call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    os.fchdir(root)
    place = Path.cwd()
    if place != Path("/"):
        _call("mount", b".", b".", None, _MS_BIND | _MS_REC, None)
        # "." is still beneath what has just been mounted there.
        os.chdir(place)
        _call("pivot_root", b".", b".")
        _call("umount2", b".", _MNT_DETACH)
    os.chdir(folder)


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


_LIBC = ctypes.CDLL(None, use_errno=True)

if __name__ == "__main__":
    try:
        enter()
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  the words are a command already
    except OSError as error:
        sys.exit(f"no mount namespace can be had: {error.strerror}")
