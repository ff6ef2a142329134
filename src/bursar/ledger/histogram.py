"""Durations as a sparse logarithmic histogram, small enough for every roll-up row.

Bucket `b` holds durations with `(ms²).bit_length() == b`: two buckets per doubling, so a
quantile read from it is off by at most a factor of √2. Packed as a MessagePack map of
bucket → count, sorted, so that equal histograms have equal bytes. Counts may fall again
by reversals; a bucket at zero is left out.
"""

from collections.abc import Iterable, Mapping

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, int]).decode

EMPTY = _encode({})


def buckets_of(durations_ms: Iterable[int], sign: int = 1) -> dict[int, int]:
    """Return bucket → count (times `sign`) for non-negative durations in milliseconds."""
    counts: dict[int, int] = {}
    for duration in durations_ms:
        bucket = (duration * duration).bit_length()
        counts[bucket] = counts.get(bucket, 0) + sign
    return counts


def pack(buckets: Mapping[int, int]) -> bytes:
    """Return the packed form, sorted and without zero counts."""
    return _encode({bucket: buckets[bucket] for bucket in sorted(buckets) if buckets[bucket]})


def merge(left: bytes, right: bytes) -> bytes:
    """Return the packed sum of two packed histograms."""
    total = _decode(left)
    for bucket, count in _decode(right).items():
        total[bucket] = total.get(bucket, 0) + count
    return pack(total)


def quantile_ms(packed: bytes, share: float) -> int | None:
    """Return the upper edge, in ms, of the bucket where `share` (0–1) of the calls end.

    None for an empty histogram. The true quantile lies between the answer / √2 and it.
    """
    buckets = _decode(packed)
    total = sum(buckets.values())
    if total <= 0:
        return None
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= share * total:
            return int((1 << bucket) ** 0.5) if bucket else 0
    return None
