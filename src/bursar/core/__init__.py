"""Money, time, ids, errors, and every value that passes between packages.

The lowest floor: imports nothing of ours, knows no storage, no HTTP and no clock of its own.
"""
