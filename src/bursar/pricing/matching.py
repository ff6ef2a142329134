"""Whether a model name means a listed model, without ever taking a relative for it.

The price data matches many names by prefix or by substring, which lets `o4-mini` claim
`o4-mini-deep-research`. Here what surrounds the matched part must be a version of the same
model: a date, `-latest`, `-preview`, a Bedrock revision. Anything else is another model, and
an unknown price is better than a wrong one.

Pure; imported only together with the price data, which is slow to load. Not here: which
provider's list is asked (`aliases`).
"""

import re
from typing import Final

from genai_prices import types as data

_VERSION: Final = re.compile(
    r"""
    (?: [-@:._/]?
        (?: latest | preview | 20\d{6} | 20\d\d-\d\d-\d\d | \d\d-20\d\d | \d\d-\d\d | \d{4} | \d{3}
          | v\d@20\d{6} | v\d:\d+ (?: :\d+k )? | v\d | \d:\d+k? )
        (?! [a-z0-9] )
    )*
    """,
    re.VERBOSE,
)
"""What may follow a matched name: nothing but dates, stages and revisions of it."""

_DATE_GOES_ON: Final = re.compile(r"(20\d{6}|20\d\d-\d\d-\d\d|\d{4}|\d{3})(?![0-9])")
_FINE_TUNE: Final = re.compile(r"(-?\d\d-\d\d|-?\d{3,4})?(:.*)?")
_AZURE_FINE_TUNE: Final = ".ft-"
_SEPARATORS: Final = "-@:._/"


def means(logic: data.MatchLogic, name: str) -> bool:
    """Tell whether `name` (lower case) is the model that `logic` describes, not a relative."""
    match logic:
        case data.ClauseEquals():
            return logic.is_match(name)
        case data.ClauseStartsWith(prefix):
            return name.startswith(prefix.lower()) and _only_version(prefix.lower(), name)
        case data.ClauseEndsWith(suffix):
            return name.endswith(suffix.lower()) and _only_route(name[: len(name) - len(suffix)])
        case data.ClauseContains(part):
            head, found, _ = name.partition(part.lower())
            return bool(found) and _only_route(head) and _only_version(part.lower(), name[len(head) :])
        case data.ClauseRegex():
            return logic.is_match(name)
        case data.ClauseOr(any_of):
            return any(means(clause, name) for clause in any_of)
        case data.ClauseAnd(all_of):
            return all(means(clause, name) for clause in all_of)


def exact_names(logic: data.MatchLogic) -> frozenset[str] | None:
    """Return the names that `logic` spells out, None if it matches others, too."""
    match logic:
        case data.ClauseEquals(name):
            return frozenset({name.lower()})
        case data.ClauseOr(any_of):
            found: set[str] = set()
            for names in map(exact_names, any_of):
                if names is None:
                    return None
                found |= names
            return frozenset(found)
        case _:
            return None


def _only_route(head: str) -> bool:
    """Tell whether what precedes the name is nothing, a vendor (`us.anthropic.`) or a path."""
    return head == "" or head[-1] in "./:"


def _only_version(literal: str, name: str) -> bool:
    tail = name[len(literal) :]
    if not tail:
        return True
    if literal.startswith("ft:"):
        return bool(_FINE_TUNE.fullmatch(tail))
    if literal.endswith(_AZURE_FINE_TUNE):
        return True
    if literal[-1] in _SEPARATORS or tail[0] in _SEPARATORS:
        return bool(_VERSION.fullmatch(tail))
    return _date_completed(literal, tail)


def _date_completed(literal: str, tail: str) -> bool:
    """Tell whether `literal` ends inside a date that `tail` completes: `…-2025` and `0514`."""
    begun = re.split(r"[-@:._/](?!\d\d(?:-|$))", literal)[-1]
    date = _DATE_GOES_ON.match(begun + tail)
    return bool(begun) and date is not None and bool(_VERSION.fullmatch((begun + tail)[date.end() :]))
