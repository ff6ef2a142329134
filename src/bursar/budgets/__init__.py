"""Budgets, their windows, holds, gates and leases: every decision, and nothing but decisions.

    enforcement, ingestion  →  budgets (a `Book` of loaded state in, decisions out)  →  storage

Pure: no clock, no storage, no randomness. One commit of an engine goes like this:

    matched = index.matching(call)                   matching.BudgetIndex, one per organisation
    book = Book(index.terms)                         book, then load what `track_keys` names
    answer = authorise(book, request, matched, now)  … up to 64 decisions, in order of arrival
    writes = book.take()                             each window and hold once, postings, notices

Then it writes, commits, and answers. An engine in memory runs the very same code.

Where to look: what a budget is (`budget`, `reading`), which ones a call meets
(`matching`), the counts (`window`), the check before a call (`authorise`), what was spent
(`settlement`), the other ends of a hold (`lifecycle`), leases (`lease`), stops (`gate`), run
guards and latches (`guards`), budgets that make themselves (`templates`), changes of budgets
(`limits`), alerts (`alert`), people's decisions (`incident`), the worst case (`estimate`), time
(`clock`).
"""
