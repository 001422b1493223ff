"""Throwaway Debian machines with real systemd: built once, booted from a copy, gone afterwards.

`image` makes the root file system, `payload` packs what is run there, `qemu` and `nspawn` boot it, and
`machine` holds what both share: the stream from the guest, the deadlines and the clean end. Stdlib only.
"""
