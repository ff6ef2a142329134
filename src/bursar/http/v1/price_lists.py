"""The lists of all models with their prices, in two products' vocabularies, made once in a while.

    PriceBook, overrides  →  catalogue  →  Lists of an organisation  →  `/v1/models`, `/v1/pricing`

Walking the price list takes some tenths of a second, so it is done on a thread, and the result
is kept until the organisation's book changes or `FRESH_US` have passed. Numbers are
written into the JSON as the decimals they are. Not here: routes (`models`).
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from bursar.core.ids import Org
from bursar.core.time import MICROS_PER_MINUTE, Clock, text_from_micros
from bursar.http.v1.prices import BookOf
from bursar.pricing.aliases import resolve
from bursar.pricing.catalogue import CatalogueModel, as_sold, catalogue
from bursar.pricing.engine import PriceBook
from bursar.pricing.listing import Listed, listed_models, other_names
from bursar.pricing.overrides import PriceOverride
from bursar.pricing.ports import PriceStore

FRESH_US: Final = 10 * MICROS_PER_MINUTE
KEPT_MAX: Final = 16
"""Organisations whose lists are kept, about 1 MB each."""

ANY_PROVIDER: Final = "custom"
"""What stands for the provider where an organisation prices a model whoever sells it."""

_WILDCARDS: Final = frozenset("*?[")
_THOUSAND: Final = Decimal(1_000)
_encode = msgspec.json.Encoder().encode


class Listing(NamedTuple):
    """A list as it is sent, and the tag by which a client knows it again."""

    body: bytes
    etag: str


class Lists(NamedTuple):
    """Both lists of one organisation."""

    models: Listing
    pricing: Listing


class PriceLists:
    """The lists of all organisations of one process, and the public one."""

    def __init__(self, price_store: PriceStore, book_of: BookOf, clock: Clock) -> None:
        self._price_store = price_store
        self._book_of = book_of
        self._clock = clock
        self._public = PriceBook()
        self._kept: OrderedDict[Org | None, tuple[PriceBook, int, Lists]] = OrderedDict()
        self._turn = asyncio.Lock()

    async def of(self, org: Org | None) -> Lists:
        """Return the lists with the prices of `org`, with list prices for None."""
        book = self._public if org is None else await self._book_of(org)
        now = self._clock()
        lists = self._fresh(org, book, now)
        if lists is not None:
            return lists
        async with self._turn:  # one walk at a time: who waited for the same list finds it
            lists = self._fresh(org, book, now)
            if lists is None:
                overrides = [] if org is None else [one.override for one in await self._price_store.list(org)]
                lists = await asyncio.to_thread(_lists, book, overrides, now)
                self._kept[org] = (book, now, lists)
                if len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
        return lists

    def _fresh(self, org: Org | None, book: PriceBook, now: int) -> Lists | None:
        kept = self._kept.get(org)
        if kept is None or kept[0] is not book or now - kept[1] > FRESH_US:
            return None
        self._kept.move_to_end(org)
        return kept[2]


def _lists(book: PriceBook, overrides: Sequence[PriceOverride], at: int) -> Lists:
    """Return both lists as `book` prices at `at`."""
    models = list(catalogue(book, at))
    models += _own(book, overrides, models, at)
    listed = {"data": [_model(model) for model in models]}
    priced = {_key(model): _rates(model) for model in models}
    table = {
        "currency": "usd",
        "unit": "per_1k_tokens",
        "updated_at": text_from_micros(at),
        "models": priced,
        "aliases": {alias: name for alias, name in _aliases().items() if name in priced},
    }
    # The time is not part of the tag: the same prices are the same list.
    return Lists(_listing(_encode(listed)), _listing(_encode(table), tagged=_encode(priced)))


def _listing(body: bytes, tagged: bytes | None = None) -> Listing:
    digest = hashlib.blake2b(body if tagged is None else tagged, digest_size=12).hexdigest()
    return Listing(body, f'"{digest}"')


def _own(
    book: PriceBook, overrides: Sequence[PriceOverride], listed: Sequence[CatalogueModel], at: int
) -> Iterator[CatalogueModel]:
    """Yield the models that only the organisation has a price for, each pattern once."""
    known = {name.lower() for model in listed for name in (model.id, f"{model.provider}/{model.id}")}
    for override in overrides:
        pattern = override.pattern.strip().lower()
        if pattern in known or _WILDCARDS & set(pattern):
            continue
        head, slash, tail = pattern.partition("/")
        provider, model = (head, tail) if slash else (ANY_PROVIDER, pattern)
        card = book.card_at(provider, model, at)
        if card is not None:
            known.add(pattern)
            yield as_sold(Listed(provider, model, None, None), card)


def _model(model: CatalogueModel) -> dict[str, object]:
    """Return a model as AI Cost Guard shows it, and the rest of what is known beside that."""
    return {
        "id": model.id,
        "model": model.id,
        "name": model.name,
        "provider": model.provider,
        "inputPricePerMillion": _number(model.input_per_million_usd),
        "outputPricePerMillion": _number(model.output_per_million_usd),
        "cacheReadPricePerMillion": _number(model.cache_read_per_million_usd),
        "cacheWritePricePerMillion": _number(model.cache_write_per_million_usd),
        "hasContextTiers": model.has_context_tiers,
        "contextWindow": model.context_window,
    }


def _rates(model: CatalogueModel) -> dict[str, object]:
    """Return a model's prices as AgentKavach's table has them, by the thousand and the million."""
    rates = {"input": model.input_per_million_usd, "output": model.output_per_million_usd}
    by_thousand = {f"{kind}_per_1k": _number(rate and rate / _THOUSAND) for kind, rate in rates.items()}
    by_million = {f"{kind}_per_million": _number(rate) for kind, rate in rates.items()}
    return {"provider": model.provider, **by_thousand, **by_million}


def _number(value: Decimal | None) -> msgspec.Raw | None:
    """Return a decimal as a JSON number with all its digits."""
    return None if value is None else msgspec.Raw(format(value, "f").encode())


def _key(model: CatalogueModel) -> str:
    """Return the name that finds a model: alone where it means this one without a provider."""
    if model.provider == ANY_PROVIDER or _bare().get(model.id) == model.provider:
        return model.id
    return f"{model.provider}/{model.id}"


@lru_cache(maxsize=1)
def _bare() -> Mapping[str, str]:
    """Return the model names that are understood without a provider → whose they are."""
    found = ((listed, resolve("", listed.model)) for listed in listed_models())
    return {
        listed.model: listed.provider
        for listed, meant in found
        if meant is not None and meant[1][:2] == listed[:2]
    }


@lru_cache(maxsize=1)
def _aliases() -> Mapping[str, str]:
    """Return the further names of models that are understood without a provider → the name."""
    bare = _bare()
    return {
        name: listed.model
        for listed in listed_models()
        if bare.get(listed.model) == listed.provider
        for name in sorted(other_names(listed))
        if name not in bare and (meant := resolve("", name)) is not None and meant[1][:2] == listed[:2]
    }
