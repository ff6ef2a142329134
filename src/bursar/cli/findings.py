"""What a check of `bursar doctor` found."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One line of the report: ok, warn or fail."""

    name: str
    state: str
    found: str
    what_to_do: str = ""
