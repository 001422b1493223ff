"""The path of a request without what tells one request from another: numbers, UUIDs, long hexadecimal words, tokens.

memunit/worker/routes.py folds in the same way in the app's interpreter.
"""

import functools
import re


def fold(path: str) -> str:
    """ "/product/{}/reviews" of "/product/1234/reviews"; what follows a "?" is left out."""
    segments = path.partition("?")[0].split("/")
    return "/".join("{}" if _variable().fullmatch(segment) else segment for segment in segments)


@functools.cache
def _variable() -> re.Pattern[str]:
    """Made when it is needed: most masters never fold a path.

    A segment that a person has written has no digit, or few characters beside it.
    """
    return re.compile(
        r"[0-9]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}"
        r"|(?=[^/]*[0-9])[0-9a-fA-F]{8,}|(?=[^/]*[0-9])[^/]{20,}|[^/]{40,}"
    )
