"""The names that memunit-generator(8) and those who look at what it has written agree on."""

KINDS = ("socket", "service")
# Drop-ins are read in the order of their names, whatever the folder: this one comes first, and each other one wins.
DROP_IN = "0-memunit.conf"
SUFFIX = ".toml"
RUNTIME = "/run/memunit"
# What has been written for the good files, of each unit apart.
KEPT = "/run/memunit-generator"
