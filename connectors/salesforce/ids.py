"""Salesforce ids: 15 case-sensitive characters, or 18 with a checksum of the case.

The API accepts both and answers with 18; formula fields and reports give 15. One spelling, 18,
is used everywhere above the client.
"""

from __future__ import annotations

from typing import Final

SHORT: Final = 15
LONG: Final = 18
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_CHUNK: Final = 5


def long_id(text: str) -> str:
    """The id with 18 characters; whatever is no short id stays as it is."""
    if len(text) != SHORT or not (text.isascii() and text.isalnum()):
        return text
    return text + "".join(
        _checksum(text[start : start + _CHUNK]) for start in range(0, SHORT, _CHUNK)
    )


def is_id(text: str) -> bool:
    """It has the shape of a record id."""
    return len(text) in {SHORT, LONG} and text.isascii() and text.isalnum()


def _checksum(chunk: str) -> str:
    return _ALPHABET[sum(1 << place for place, char in enumerate(chunk) if char.isupper())]
