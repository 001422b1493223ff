"""`python -m memunit`: the same as the program `memunit`."""

import sys

from memunit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
