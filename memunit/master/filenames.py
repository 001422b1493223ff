"""The files of an instance's runtime directory that more than one part knows by name."""

NOTIFY = "notify"
STARTS = "starts.json"
WORKERS = "workers.json"
