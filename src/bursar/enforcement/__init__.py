"""Carry out what `budgets` decides: load what a commit touches, decide in order, write once, then answer.

    a caller  →  desk.Desk  →  questions  →  budgets  →  ports (storage writes)  →  the answer

Not here: the decisions (`budgets`), SQL (`storage`), routes.
"""
