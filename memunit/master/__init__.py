"""Mechanism: system calls in plain values. Only master.py knows the core."""
