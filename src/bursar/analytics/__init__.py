"""What can be asked of the ledger, and how answers are put together.

    http/v1  →  query, slices  →  plan  →  storage (SQL)  →  series  →  http/v1

Pure apart from the protocols in `ports`: no SQL, no HTTP, no clock.
"""
