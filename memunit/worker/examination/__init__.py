"""What grew in this worker, and what holds it: looked at once, when the last connection has gone and nobody waits.

No value of the app's leaves the process: only names, types, lengths and sizes do. No function of the app's is called.
"""
