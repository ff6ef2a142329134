"""Schema history, run by alembic; `versions/` holds one file a step, `pre` or `post`.

`HEAD` is the newest step. A start compares it with the file's own mark and loads alembic
only when they differ: that import alone costs a third of a cold start.
"""

HEAD = "0007"
