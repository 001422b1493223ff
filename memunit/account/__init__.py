"""What the journal and systemd know of an instance, read afterwards: the master is asked nothing."""
