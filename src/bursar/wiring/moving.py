"""Back a ledger up, bring a backup back, move a ledger from one engine to the other.

    backup     a ledger in use            →  a file that appears when it is whole
    restore    a file                     →  an empty place, proved before it may be used
    move       a ledger nobody writes     →  an empty place, the same row for row; the old one is marked

Not here: how each kind of place does its part (`places`).
"""

import asyncio
import time
from pathlib import Path

import msgspec

from bursar.core.errors import InvalidInput
from bursar.core.time import system_clock, text_from_micros
from bursar.storage.sql.tables import TableProof
from bursar.storage.sql.verify import verify
from bursar.storage.sqlite.backup import forget_signing_keys
from bursar.storage.sqlite.files import appearing
from bursar.storage.sqlite.snapshots import verify_file
from bursar.wiring.places import Place, Stages, copied

SECRETS = "signing_key"


class CopiedTable(msgspec.Struct, frozen=True):
    """One table of a copy.

    Attributes:
        rows: How many rows it has, the same on both sides.
        organisations: How many organisations they belong to; each was compared by itself.
        sums: What each column of numbers adds up to, exactly.
        content: A digest over all rows, which both sides gave; None where pages were copied.
    """

    table: str
    rows: int
    organisations: int
    sums: dict[str, int]
    content: str | None


class Copied(msgspec.Struct, frozen=True):
    """What became of a backup, a restore or a move.

    Attributes:
        nuls: Texts with a NUL, kept with U+FFFD in its place.
        verified: Whether the ledger's own proof was made of it, and held; None where it was not asked for.
    """

    source: str
    target: str
    rows: int
    nuls: int
    seconds: float
    tables: list[CopiedTable]
    verified: bool | None = None


async def back_up(
    place: Place, file: Path, stages: Stages, *, with_signing_keys: bool = True, then_verify: bool = False
) -> Copied:
    """Copy a ledger in use into the new file `file`, one consistent state of it.

    Raises:
        Conflict: The file is there already.
        InvalidInput: There is no ledger, or it is of another schema.
        StorageFull, Unavailable: It could not be read or written to its end; nothing is left.
    """
    begun = time.monotonic()
    with appearing(file) as draft:
        proofs = await place.back_up(draft, stages)
        if not with_signing_keys:
            forget_signing_keys(draft)
            proofs = [one for one in proofs if one.table.name != SECRETS]
    verified = None
    if then_verify:
        with stages("verifying") as on_progress:
            verified = verify_file(file, on_progress).ok
    return _copied(place.name, str(file), proofs, begun, verified=verified)


async def restore(place: Place, file: Path, stages: Stages) -> Copied:
    """Fill an empty place from a backup.

    Raises:
        Conflict: The place holds a ledger.
        InvalidInput: The file is no ledger, or not exact.
    """
    begun = time.monotonic()
    proofs = await place.restore(file, stages)
    return _copied(str(file), place.name, proofs, begun, verified=True)


async def move(source: Place, target: Place, stages: Stages) -> Copied:
    """Copy a ledger that nobody writes into an empty place, and mark it as moved.

    A call that was killed is made once more: it goes on where it was, or begins again.

    Raises:
        Conflict: The target holds a ledger, a server works on the source, or the two came out different.
        InvalidInput: There is no ledger, or not one of this release's schema.
        Unavailable: One of the two does not answer.
    """
    if source.name == target.name:
        raise InvalidInput("a ledger is moved to another place than its own")
    begun = time.monotonic()
    at = text_from_micros(system_clock())
    async with source.reading() as read, target.filling(f"move {source.origin()}") as filled:
        source.note_moved(f"The ledger is being moved to {target.name} since {at}: run `bursar move` again.")
        proofs = await copied(read, filled, stages)
        snapshots = await filled.snapshots()
        with stages("verifying") as on_progress:
            # A proof of a database brings a loop of its own.
            report = await asyncio.to_thread(verify, snapshots, on_progress)
        source.note_moved(f"The ledger was moved to {target.name} at {at}.")
    return _copied(source.name, target.name, proofs, begun, verified=report.ok)


def _copied(
    source: str, target: str, proofs: list[TableProof], begun: float, *, verified: bool | None = None
) -> Copied:
    return Copied(
        source=source,
        target=target,
        rows=sum(proof.rows for proof in proofs),
        nuls=sum(proof.nuls for proof in proofs),
        seconds=round(time.monotonic() - begun, 3),
        tables=[_table(proof) for proof in proofs],
        verified=verified,
    )


def _table(proof: TableProof) -> CopiedTable:
    content = sum(one.content for one in proof.source.values())
    return CopiedTable(
        table=proof.table.name,
        rows=proof.rows,
        organisations=len(proof.source.keys() - {0}),
        sums=proof.sums,
        content=f"{content:x}" if content else None,
    )
