"""The name caches of a process's organisations, shared by both engines' stores."""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from bursar.core.ids import Org
from bursar.storage.sql.directory import (
    DEFAULT_LIMITS,
    Canonicalise,
    DirectoryCache,
    Limits,
    SqlDirectory,
)
from bursar.storage.sql.ports import Connection

CACHED_ORGS_MAX = 1_000


class Directories:
    """Makes directories with their caches, least recently used dropped first.

    A name keeps its number for ever, so that a cache needs no word of other processes; only a
    transaction that is undone may leave in it what is not there.
    """

    def __init__(
        self,
        canonicalise: Canonicalise,
        clock: Callable[[], int],
        limits: Limits = DEFAULT_LIMITS,
        kind: type[SqlDirectory] = SqlDirectory,
    ) -> None:
        self._kind = kind
        self._canonicalise = canonicalise
        self._clock = clock
        self._limits = limits
        self._caches: OrderedDict[Org, DirectoryCache] = OrderedDict()

    def of(self, connection: Connection, org: Org, *, only_committed: bool = False) -> SqlDirectory:
        """Return the directory of `org` on a connection.

        `only_committed` is for an engine whose transactions overlap: one may learn that its commit
        failed after the next has begun, which must not find the names that were made in it.
        """
        cache = self._caches.get(org)
        if cache is None or (only_committed and cache.has_made):
            cache = self._caches[org] = DirectoryCache()
            if len(self._caches) > CACHED_ORGS_MAX:
                self._caches.popitem(last=False)
        else:
            self._caches.move_to_end(org)
        return self._kind(connection, org, cache, self._canonicalise, self._clock(), limits=self._limits)

    def forget(self, orgs: Iterable[Org]) -> None:
        """Drop cached names of `orgs`: some may have been made by what was undone."""
        for org in orgs:
            self._caches.pop(org, None)
