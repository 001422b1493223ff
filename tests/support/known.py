"""A worker of known size: what it does (support_light.py), and how many MiB each metric then counts more."""

METRICS = ("cgroup", "uss", "pss", "rss")
STEPS = (
    ("/leak?kb=24576", "fills 24 MiB of memory", (24, 24, 24, 24)),
    ("/map?kb=32768", "writes and reads a file of 32 MiB, and maps half of it", (0, 16, 16, 16)),
    ("/share?kb=8192", "fills 8 MiB of shared memory", (8, 8, 8, 8)),
)


def table() -> str:
    """As docs/memory.md has it."""
    sums = [sum(column) for column in zip(*(sizes for _, _, sizes in STEPS), strict=True)]
    rows = [("the worker", METRICS), *((text, sizes) for _, text, sizes in STEPS), ("in all", sums)]
    lines = ["| " + " | ".join([text, *map(str, sizes)]) + " |" for text, sizes in rows]
    return "\n".join([lines[0], "|---" * (len(METRICS) + 1) + "|", *lines[1:]])
