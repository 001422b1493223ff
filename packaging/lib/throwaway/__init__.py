"""Throwaway Debian machines with real systemd: built once, booted from a copy, gone afterwards.

`image` makes the root file system, `payload` packs what is run there, `nspawn`, `uml` and `qemu` boot it (the last two
with kernels of `umlkernel` and `qemukernel`), and `machine` holds what they share: the stream from the guest, the
deadlines and the clean end. Stdlib only.
"""
