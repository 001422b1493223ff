"""plain.py and plainwsgi.py in workers that leave connections to their siblings for as long as it takes.

So that what each worker gets does not depend on how soon the machine lets its siblings run.
"""

from __future__ import annotations

from plain import app  # type: ignore[import-not-found]
from plainwsgi import app as wsgi  # type: ignore[import-not-found]

from memunit.worker import listening

__all__ = ["app", "wsgi"]

listening._LOOKS = listening._MOST_LOOKS = 1 << 30
