"""Addresses of services as they may be shown: without the password that many carry."""

import re

# To the last @ of the word: a password that somebody forgot to escape may hold any character.
_PASSWORD = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s/?#:@]*:)[^\s\"'<>]*@", re.IGNORECASE)
_IN_QUERY = re.compile(r"(?P<before>[?&\s](?:ssl)?password=)[^\s&#]*", re.IGNORECASE)
SHOWN = "…"


def without_password(text: str) -> str:
    """Return `text` with the password of each address in it replaced by `…`.

    Example:
        >>> without_password("postgresql://bursar:secret@db:5432/bursar")
        'postgresql://bursar:…@db:5432/bursar'
    """
    shown = _PASSWORD.sub(rf"\g<before>{SHOWN}@", text)
    return _IN_QUERY.sub(rf"\g<before>{SHOWN}", shown)
