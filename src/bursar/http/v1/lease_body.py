"""Bodies of the leases' routes: decoded, checked, bound to the caller's key.

    POST /v1/leases               →  LeaseDecoder.acquisition  →  Acquisition
    POST /v1/leases/{id}/report   →  LeaseDecoder.report       →  Heard (entries as events, what it needs)

The names and the worst case of a call are those of a hold and are read by its decoder; here is
what a lease has besides. Not here: prices (`enforcement.estimating`), decisions.
"""

from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from bursar.budgets.amounts import NOTHING, Amounts, Metric
from bursar.budgets.hold import Hold
from bursar.budgets.matching import Call
from bursar.capture import checks
from bursar.capture.native import KEY_LENGTH_MAX
from bursar.core.errors import InvalidInput
from bursar.core.ids import key_from_text
from bursar.core.time import MICROS_PER_SECOND
from bursar.core.usage import Source, Subject, UsageEvent
from bursar.http.v1.hold_body import Asked, HoldDecoder
from bursar.http.v1.hold_form import nusd_of, object_of, only_known, seconds
from bursar.web.principal import Principal

TTL_S: Final = 15
TTL_S_MAX: Final = 3_600
INSTANCE_LENGTH_MIN: Final = 8
ENTRIES_MAX: Final = 1_000
"""Calls of one report: one commit; a longer journal goes in several."""
NUMBER_MAX: Final = 2**53 - 1
CALLS_PER_S_MAX: Final = 1_000_000

_NAMES = ("agent", "model", "provider", "project", "user", "run", "tags")
_WANTS = frozenset({"usage", "amount_usd", "ceiling_usd", "service_tier"})
_RATES = ("rate_usd_per_s", "calls_per_s")
_ACQUIRE = frozenset(
    {"idempotency_key", "instance", "wants", "ttl_s", "deadline_s", "grace_s", *_NAMES, *_RATES}
)
_REPORT = frozenset({"instance", "report", "entries", "give_back", "give_back_usd", "needs"})
_NEEDS = frozenset({"wants", *_RATES})
_ENTRY = frozenset({
    "sequence", "idempotency_key", "cost_usd", "usage", "duration_ms", "timestamp", "model", "status",
})  # fmt: skip
_COUNTS = frozenset(checks.COUNT_FIELDS)
_pieces = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

Rate = tuple[str, int] | None
"""Which of the two rates was said, and nano-USD or millionths of a call a second."""


class Needs(NamedTuple):
    """The worst case of one call as a hold would ask for it, and how fast it is spent."""

    call: Asked
    rate: Rate


class Acquisition(NamedTuple):
    """A lease as asked for: `digest` is of its meaning, `nonce` of the process; times in microseconds."""

    needs: Needs
    digest: bytes
    nonce: bytes
    ttl: int


class Heard(NamedTuple):
    """A report: its calls as events of the ledger, with their places in the client's journal."""

    nonce: bytes
    number: int
    events: list[UsageEvent]
    sequences: list[int]
    give_back: Amounts
    needs: Needs | None


class LeaseDecoder:
    """Decodes the bodies of the leases' routes."""

    def __init__(self) -> None:
        self._holds = HoldDecoder()

    def acquisition(self, raw: bytes, header_key: str | None, principal: Principal, now: int) -> Acquisition:
        """Return what is asked for.

        Raises:
            InvalidInput: `field` says where, the sentence what it must be.
        """
        fields = _fields(raw, _ACQUIRE)
        sent = {name: fields[name] for name in (*_NAMES, "deadline_s", "grace_s") if name in fields}
        if "idempotency_key" in fields:
            sent["idempotency_key"] = fields["idempotency_key"]
        elif header_key is None:
            raise InvalidInput(
                "idempotency_key is required: a lease whose answer is lost is asked for again",
                field="idempotency_key",
            )
        needs = self._needs(fields, sent, header_key, principal, now)
        ttl = _micros(seconds(_value(fields, "ttl_s"), "ttl_s", TTL_S_MAX), TTL_S)
        nonce = _nonce(_value(fields, "instance"))
        meaning = (needs.call.digest, needs.rate, nonce, ttl)
        digest = blake2b(msgspec.msgpack.encode(meaning), digest_size=16).digest()
        return Acquisition(needs, digest, nonce, ttl)

    def report(self, raw: bytes, hold: Hold, principal: Principal, now: int) -> Heard:
        """Return a report to a lease; its calls go by the lease's names.

        Raises:
            InvalidInput: `field` says where, `entries.3.cost_usd` in the fourth entry.
        """
        fields = _fields(raw, _REPORT)
        entries = _value(fields, "entries")
        entries = [] if entries is None else entries
        if not isinstance(entries, list) or len(entries) > ENTRIES_MAX:
            raise InvalidInput(f"entries must be a list of at most {ENTRIES_MAX} calls", field="entries")
        events, sequences = [], []
        for place, entry in enumerate(entries):
            sequence, event = _entry(entry, f"entries.{place}", hold, principal, now)
            sequences.append(sequence)
            events.append(event)
        needs = None
        if _value(fields, "needs") is not None:
            needed = _fields(bytes(fields["needs"]), _NEEDS, "needs.")
            names = {name: Raw(_encode(value)) for name, value in _names_of(hold.call).items() if value}
            needs = self._needs(needed, names, None, principal, now)
        number = checks.count(_value(fields, "report"), "report", NUMBER_MAX)
        if not number:
            raise InvalidInput("report must count the lease's reports from 1", field="report")
        nonce = _nonce(_value(fields, "instance"))
        return Heard(nonce, number, events, sequences, _given(fields), needs)

    def _needs(
        self,
        fields: Mapping[str, Raw],
        names: Mapping[str, Raw],
        header_key: str | None,
        principal: Principal,
        now: int,
    ) -> Needs:
        if _value(fields, "wants") is None:
            raise InvalidInput("wants is required: the worst case of one call", field="wants")
        wants = _fields(bytes(fields["wants"]), _WANTS, "wants.")
        try:
            asked = self._holds.decode(_encode({**names, **wants}), header_key, principal, now)
        except InvalidInput as error:
            if error.field and error.field.partition(".")[0] in _WANTS:
                error.field = f"wants.{error.field}"
            raise
        return Needs(asked, _rate(fields))


def _fields(raw: bytes, known: frozenset[str], prefix: str = "") -> dict[str, Raw]:
    """Return the fields of an object, unread.

    Raises:
        InvalidInput: Not JSON, not an object, or with a field that means nothing here.
    """
    try:
        fields = _pieces(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        if not prefix:
            object_of(raw)
        name = prefix.rstrip(".")
        raise InvalidInput(f"{name or 'the body'} must be an object", field=name or None) from None
    only_known(fields, known, prefix)
    return fields


def _value(fields: Mapping[str, Raw], name: str) -> object:
    return checks.decode_json(bytes(fields[name])) if name in fields else None


def _nonce(value: object) -> bytes:
    if not isinstance(value, str) or not INSTANCE_LENGTH_MIN <= len(value) <= checks.NAME_LENGTH_MAX:
        sentence = f"instance must be text of {INSTANCE_LENGTH_MIN} to {checks.NAME_LENGTH_MAX} characters"
        raise InvalidInput(f"{sentence}, fresh in each process", field="instance")
    return key_from_text(value)


def _rate(fields: Mapping[str, Raw]) -> Rate:
    said = [name for name in _RATES if _value(fields, name) is not None]
    if not said:
        return None
    if len(said) > 1:
        raise InvalidInput("send either rate_usd_per_s or calls_per_s", field="calls_per_s")
    if said == ["rate_usd_per_s"]:
        return "cost", nusd_of(fields["rate_usd_per_s"], "rate_usd_per_s") or 0
    calls = _value(fields, "calls_per_s")
    if isinstance(calls, bool) or not isinstance(calls, int | Decimal) or not 0 <= calls <= CALLS_PER_S_MAX:
        sentence = f"calls_per_s must be a number from 0 to {CALLS_PER_S_MAX}"
        raise InvalidInput(sentence, field="calls_per_s")
    return "calls", int(calls * MICROS_PER_SECOND)


def _given(fields: Mapping[str, Raw]) -> Amounts:
    """Return what the client gives back, by metric."""
    given = {metric.column: 0 for metric in Metric}
    if "give_back_usd" in fields:
        given[Metric.COST.column] = nusd_of(fields["give_back_usd"], "give_back_usd") or 0
    if _value(fields, "give_back") is not None:
        known = frozenset(metric.value for metric in Metric)
        for name, piece in _fields(bytes(fields["give_back"]), known, "give_back.").items():
            field = f"give_back.{name}"
            if name == Metric.COST:
                given[Metric.COST.column] = nusd_of(piece, field) or 0
                continue
            text = checks.decode_json(bytes(piece))
            amount = int(text) if isinstance(text, str) and text.isdecimal() and text.isascii() else text
            given[Metric(name).column] = checks.count(amount, field)
    return Amounts(*(given.get(column, 0) for column in range(len(NOTHING))))


def _names_of(call: Call) -> dict[str, object]:
    return {
        "agent": call.agent,
        "model": call.model,
        "provider": call.provider,
        "project": call.project,
        "user": call.user,
        "run": call.run,
        "tags": dict(call.tags),
    }


def _entry(entry: object, where: str, hold: Hold, principal: Principal, now: int) -> tuple[int, UsageEvent]:
    """Return a call of the journal and its place there."""
    if not isinstance(entry, dict):
        raise InvalidInput(f"{where} must be an object", field=where)
    only_known(entry, _ENTRY, f"{where}.")
    key = entry.get("idempotency_key")
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_LENGTH_MAX:
        field = f"{where}.idempotency_key"
        raise InvalidInput(f"{field} must be text of 1 to {KEY_LENGTH_MAX} characters", field=field)
    said = entry.get("timestamp")
    call = hold.call
    model = checks.optional_name(entry.get("model"), f"{where}.model") or call.model
    status = entry.get("status")
    is_error = status is not None and checks.choice(status, f"{where}.status", checks.STATUSES)
    event = UsageEvent(
        key=key_from_text(key),
        occurred_at=now if said is None else checks.occurred_at(said, f"{where}.timestamp"),
        time_stamped=said is None,
        subject=Subject(call.agent, call.provider, model, call.project, "", call.user, principal.api_key),
        source=Source.HOLD,
        duration_ms=checks.duration_ms(entry.get("duration_ms") or 0, f"{where}.duration_ms"),
        reported_nusd=checks.cost_nusd(entry.get("cost_usd"), f"{where}.cost_usd"),
        is_error=is_error,
        run=call.run,
        hold=hold.id,
    )
    sequence = checks.count(entry.get("sequence"), f"{where}.sequence", NUMBER_MAX)
    return sequence, msgspec.structs.replace(event, **_counts(entry.get("usage"), f"{where}.usage"))


def _counts(usage: object, where: str) -> dict[str, int]:
    if usage is None:
        return {}
    if not isinstance(usage, dict):
        raise InvalidInput(f"{where} must be an object of counts", field=where)
    only_known(usage, _COUNTS, f"{where}.")
    return {name: checks.count(value, f"{where}.{name}") for name, value in usage.items()}


def _micros(said: float | None, default_s: int) -> int:
    return round((default_s if said is None else said) * MICROS_PER_SECOND)
