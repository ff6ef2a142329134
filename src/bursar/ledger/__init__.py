"""The ledger's arithmetic: priced events become rows, sums and, when revised, reversals.

Pure: values in, values out. `storage` writes what `posting` gives; nobody else adds money up.
"""
