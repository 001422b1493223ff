"""Pure half: values in, values out. Imports no I/O, no clock, no signals (tests/unit/test_imports.py)."""
