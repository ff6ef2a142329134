"""Budgets, their windows, holds, gates and leases: every decision, and nothing but decisions.

    enforcement, ingestion  →  budgets (a `Book` of loaded state in, decisions out)  →  storage

Pure: no clock, no storage, no randomness. Storage loads the touched windows into a `Book`
in lock order, the functions here decide in order of arrival, and `Book.take` gives what
has to be written, each window once. An engine in memory runs the very same code.
"""
