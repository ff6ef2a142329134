"""Which of two costs counts: the one a caller reports or the one we compute.

    UsageEvent, computed cost  →  cost_nusd  →  Price.cost_nusd

Both are always kept; an organisation's basis only says which one is posted.
"""

from enum import Enum

from bursar.core.usage import Billing, UsageEvent


class CostBasis(Enum):
    """How an organisation wants its cost decided.

    AUTO: the reported cost where it can be trusted, else the computed one.
    REPORTED: what the caller reports and nothing else; no report is unpriced.
    COMPUTED: the rate card and nothing else; no price is unpriced.
    """

    AUTO = "auto"
    REPORTED = "reported"
    COMPUTED = "computed"


def reported_counts(event: UsageEvent) -> bool:
    """Tell whether `auto` believes the event's reported cost.

    A cost above zero is believed. Zero is believed when nothing was used, when the call
    failed, or when a subscription pays; a zero beside tokens is what clients send that do
    not know the price, and counts as not reported.
    """
    reported = event.reported_nusd
    if reported is None:
        return False
    return reported > 0 or event.tokens_total == 0 or event.is_error or event.billing is Billing.SUBSCRIPTION


def cost_nusd(basis: CostBasis, event: UsageEvent, computed_nusd: int | None) -> int | None:
    """Return the cost that counts, None for unpriced."""
    if basis is CostBasis.COMPUTED:
        return computed_nusd
    if basis is CostBasis.REPORTED or reported_counts(event):
        return event.reported_nusd
    return computed_nusd
