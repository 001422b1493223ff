"""An ASGI app whose import holds about 100 MiB of Python objects, as a large framework with its models does."""

import random

from tests.bench.app import app as small

MIB = 100

# Objects and not one block: reference counts, free lists and the garbage collector are what undoes the sharing.
KEPT = {
    number: [f"{number:0200d}", random.random(), {"number": number}]
    for number in range(MIB * (1 << 20) // 784)
}
app = small
