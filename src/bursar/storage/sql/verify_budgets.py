"""Prove an organisation's budgets whole: postings, holds, and every window that they explain.

One pass adds up postings, one the legs that are still open; memory grows with the windows of one
organisation, not with what was spent in them. The rules lie in `verify_postings`, `verify_holds` and
`verify_windows`; a running server proves the same by parts (`verify_recent`, `verify_rounds`).
"""

from collections.abc import Callable

from bursar.budgets.window import WindowKey
from bursar.storage.sql import verify_holds, verify_postings, verify_windows
from bursar.storage.sql.verify_postings import Sum, Sums, all_windows
from bursar.storage.sql.verify_scope import Scope
from bursar.storage.sql.verify_windows import Held, Rules


def check(scope: Scope) -> None:
    """Check every posting, hold and window (I1, I6, I7, I10, I11)."""
    rules = verify_windows.load_rules(scope)
    sums: Sums = {}
    postings = scope.stream(verify_postings.ALL)
    for _ in verify_postings.add(scope, postings, sums, decided_at=rules.decided_at):
        pass
    held: dict[WindowKey, Held] = {}
    found = verify_holds.check(scope, scope.stream(verify_holds.ALL))
    verify_windows.held_by((hold for _, hold, _ in found if hold is not None), held)
    check_windows(scope, rules, sums, held)


def check_windows(
    scope: Scope,
    rules: Rules,
    sums: Sums,
    held: dict[WindowKey, Held],
    is_kept: Callable[[WindowKey], bool] = all_windows,
) -> None:
    """Check windows against complete sums, which are used up; what is left of them has no window."""
    count = 0
    for place in verify_windows.places(scope):
        window = place.window
        if not is_kept(window.key):
            continue
        count += 1
        total = sums.pop(window.key, Sum())
        verify_windows.check_counts(scope, window, total.settled, held.pop(window.key, Held()))
        verify_windows.check_lists(scope, window, total)
        verify_windows.check_place(scope, place, rules)
    for key, total in sums.items():
        verify_windows.missing(scope, key, "settled", total.settled)
    for key, kept in held.items():
        if is_kept(key):
            verify_windows.missing(scope, key, "open_legs", kept.legs)
    scope.findings.checked("windows", count)
