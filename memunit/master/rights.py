"""What a peer may do at the master's interface, by its user and its groups (docs/interface.md)."""

import enum
from collections.abc import Collection


class Right(enum.IntEnum):
    """Each includes the one before. Root's differs from ALL only in the places that are kept for its connections."""

    NONE = 0
    READ = 1
    ALL = 2
    ROOT = 3


def right_of(uid: int, groups: Collection[int], *, own: int, read_group: int | None) -> Right:
    """The right of a peer with this user and these groups.

    `own` is the user of the master, `read_group` the group whose members may read, None for no group.
    """
    if uid == 0:
        return Right.ROOT
    if uid == own:
        return Right.ALL
    return Right.READ if read_group is not None and read_group in groups else Right.NONE


def in_map(gid_map: str, gid: int) -> bool:
    """Whether a user namespace has a number for this group; `gid_map` is the text of /proc/PID/gid_map.

    In a user namespace the kernel shows every group without a number as the overflow gid: all these look alike
    (user_namespaces(7)). Raises ValueError for another text.
    """
    lines = [[int(word) for word in line.split()] for line in gid_map.splitlines()]
    return any(inside <= gid < inside + count for inside, _, count in lines)
