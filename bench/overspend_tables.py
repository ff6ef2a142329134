"""What the runs came to, as tables for people and figures for a results file.

Peers' figures were measured on the same kind of machine with their own software: LiteLLM's
proxy, one process and two, a budget of one dollar and concurrent callers.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bursar.core.money import text_from_nusd
from overspend_scenarios import Outcome
from results import Figure, commit_name, machine

BEGIN, END = "<!-- overspend:begin -->", "<!-- overspend:end -->"
PEER_SPENT = "1.03 on one process, 1.91–2.04 on two"
PEER_USED = "0.14–0.64"


def tables(outcomes: Sequence[Outcome]) -> str:
    """Return four Markdown tables: bounded, not bounded, never asked, no bound sent."""
    asked = [one for one in outcomes if one.scenario.kind is not None and not one.scenario.stops_at_refusal]
    parts = [
        _bounded([one for one in asked if one.scenario.is_bounded]),
        _unbounded([one for one in asked if not one.scenario.is_bounded]),
        _never_asked([one for one in outcomes if one.scenario.kind is None]),
        _usable([one for one in outcomes if one.scenario.stops_at_refusal]),
    ]
    return "\n\n".join(parts) + "\n"


def figures_of(outcomes: Iterable[Outcome]) -> list[Figure]:
    """Return what a results file keeps of each run."""
    figures = []
    for one in outcomes:
        where = f", {one.where}" if one.where else ""
        name = f"{one.scenario.name}, {one.clients} callers{where}: spent"
        notes = _notes(one)
        target = 1.0 if one.scenario.is_bounded else None
        figures.append(Figure(name, one.spent, "× limit", target, at_least=False, notes=notes))
    return figures


def publish(path: Path, text: str, seed: int) -> None:
    """Put the tables between the marks of a document."""
    document = path.read_text()
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert BEGIN in document, f"{path} has no {BEGIN}"
    assert END in document, f"{path} has no {END}"
    here = machine()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    made = f"Measured on {date} at commit {commit_name()} with seed {seed}: {here['cores']} cores"
    made += f" of an {here['cpu']}, Python {here['python']}, SQLite {here['sqlite']}."
    path.write_text(f"{before}{BEGIN}\n{made}\n\n{text}{END}{after}")


def _bounded(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            one.scenario.name, one.where or "SQLite, 1 process", f"{one.clients:,}",
            _count(one, "asked"), _count(one, "granted"), f"**{one.spent:.3f}**",
            f"{one.peak_nusd / one.window.limit:.3f}", f"{one.used:.3f}",
            str(one.wrong_refusals),
            " / ".join(_count(one, what) for what in ("sent twice", "voided")),
            f"{sum(one.book.counts.get(what, 0) for what in ('cut', 'died', 'died after the call')):,}",
            f"{one.kills} / {one.stops}",
        ]
        for one in outcomes
    ]  # fmt: skip
    title = f"Spent at the provider, with a limit of 1.000 (LiteLLM: {PEER_SPENT})"
    heads = (
        "callers that … | servers | at once | asked | granted | spent | most in use | used at the end"
        " | wrong refusals"
    )
    last = "sent twice / voided | callers died | process killed / database stopped"
    return _table(title, f"{heads} | {last}", rows)


def _unbounded(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            one.scenario.name, f"{one.clients:,}", _count(one, "granted"), f"**{one.spent:.3f}**",
            text_from_nusd(one.window.overrun), text_from_nusd(one.book.overrun_nusd),
            str(one.wrong_refusals), str(one.kills),
        ]
        for one in outcomes
    ]  # fmt: skip
    heads = (
        "callers that … | at once | granted | spent | overrun listed, USD | overrun in the callers' book, USD"
    )
    return _table("Callers that keep to no bound", f"{heads} | wrong refusals | server killed", rows)


def _never_asked(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            one.scenario.name, f"{one.clients:,}", _count(one, "reported"), f"**{one.spent:.3f}**",
            text_from_nusd(one.window.unheld), text_from_nusd(one.book.unheld_nusd), str(one.kills),
        ]
        for one in outcomes
    ]  # fmt: skip
    heads = "callers that … | at once | reported until stopped | spent | unheld listed, USD"
    return _table(
        "Callers that do not ask", f"{heads} | spent in the callers' book, USD | server killed", rows
    )


def _usable(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [one.scenario.name, f"{one.clients:,}", _count(one, "granted"), f"**{one.used:.2f}**", PEER_USED]
        for one in outcomes
    ]
    title = "Share of a budget that can be used without sending `max_output_tokens`"
    return _table(
        title,
        "callers of … | at once | granted | used when each was refused once | LiteLLM, no bound sent",
        rows,
    )


def _table(title: str, heads: str, rows: Sequence[Sequence[str]]) -> str:
    lines = [f"**{title}**", "", f"| {heads} |", "|" + "---|" * (heads.count("|") + 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _count(one: Outcome, what: str) -> str:
    return f"{one.book.counts.get(what, 0):,}"


def _notes(one: Outcome) -> dict[str, float | str]:
    window, book = one.window, one.book
    return {
        "seed": str(one.seed),
        "used at the end": one.used,
        "most in use at once": one.peak_nusd / window.limit,
        "wrong refusals": one.wrong_refusals,
        "overrun listed, USD": text_from_nusd(window.overrun),
        "overrun booked, USD": text_from_nusd(book.overrun_nusd),
        "unheld listed, USD": text_from_nusd(window.unheld),
        "unheld booked, USD": text_from_nusd(book.unheld_nusd),
        "server kills": one.kills,
        "database stops": one.stops,
        "seconds": one.seconds,
        **dict(sorted(book.counts.items())),
        "broken": "; ".join(one.faults) or "nothing",
    }
