"""Which usage has no cost: models for people, and events for whoever prices them later.

`unpriced_event` names each event whose cost is unknown, by model and time. Both questions
begin with it: one seek a model and one a slice, so that nothing is asked of an organisation's
priced events.
"""

import json
from collections.abc import Sequence

from bursar.core.ids import Org
from bursar.core.time import hour_of
from bursar.ingestion.reprice import Place
from bursar.pricing.ports import UnpricedModel
from bursar.storage.sql.names import PROVIDER
from bursar.storage.sql.ports import Connection, Readers

# Neither engine has a loose index scan: a recursive query seeks from each model to the next one.
_MODELS = """WITH RECURSIVE one(model) AS (
        SELECT min(model) FROM unpriced_event WHERE org = ?1
        UNION ALL
        SELECT (SELECT min(model) FROM unpriced_event WHERE org = ?1 AND model > one.model)
        FROM one WHERE one.model IS NOT NULL)
    SELECT model,
        (SELECT min(occurred_at) FROM unpriced_event u WHERE u.org = ?1 AND u.model = one.model),
        (SELECT max(occurred_at) FROM unpriced_event u WHERE u.org = ?1 AND u.model = one.model)
    FROM one WHERE model IS NOT NULL"""
# Tokens are summed in halves: a sum of 64-bit numbers may leave 64 bits.
_SUMS = """SELECT model, SUM(unpriced_requests), SUM(unpriced_tokens >> 32), SUM(unpriced_tokens & 4294967295)
    FROM rollup_project
    WHERE org = ?1 AND hour >= ?2 AND hour <= ?3 AND model IN ({models})
    GROUP BY model"""
_NAME = "SELECT provider, name FROM model WHERE org = ? AND model = ?"
_WANTED = f"""SELECT model FROM model WHERE org = ?1 AND (name = ?2 OR ?2 IS NULL)
    AND (provider = ?3 OR {PROVIDER} = ?3 OR ?3 IS NULL)"""
_SLICE = """SELECT model, occurred_at, key FROM unpriced_event
    WHERE org = ?1 AND (model, occurred_at, key) > (?2, ?3, ?4) AND (model IN ({models}) OR ?5 IS NULL)
    ORDER BY model, occurred_at, key LIMIT ?6"""


class SqlUnpriced:
    """`ingestion.reprice.UnpricedReader` on read-only connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def places(
        self, org: Org, *, model: str | None, provider: str | None, after: Place, limit: int
    ) -> Sequence[Place]:
        """Return the next unpriced events after a place, of one model or provider if it is named."""

        def read(connection: Connection) -> Sequence[Place]:
            models = None
            if model is not None or provider is not None:
                found = connection.execute(_WANTED, (org, model, provider))
                models = json.dumps([row[0] for row in found])
            sql = _SLICE.format(models=connection.dialect.numbers("?5"))
            rows = connection.execute(sql, (org, *after, models, limit))
            return [Place(*row) for row in rows]

        return await self._readers.run(org, read)


def unpriced_models(connection: Connection, org: Org, limit: int) -> list[UnpricedModel]:
    """Return the models with unpriced usage, the most requests first, at most `limit`."""
    spans = {model: (first, last) for model, first, last in connection.execute(_MODELS, (org,))}
    if not spans:
        return []
    since = hour_of(min(first for first, _ in spans.values()))
    until = max(last for _, last in spans.values())
    sql = _SUMS.format(models=connection.dialect.numbers("?4"))
    sums = connection.execute(sql, (org, since, until, json.dumps(list(spans)))).fetchall()
    largest = sorted(sums, key=lambda row: (-row[1], row[0]))[:limit]
    return [
        UnpricedModel(*_names(connection, org, model), requests, (high << 32) + low, *spans[model])
        for model, requests, high, low in largest
    ]


def _names(connection: Connection, org: Org, model: int) -> tuple[str, str]:
    provider, name = connection.execute(_NAME, (org, model)).fetchone()
    return str(provider), str(name)
