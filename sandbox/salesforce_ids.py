"""Salesforce record ids: three characters of prefix, fifteen in all, eighteen with a checksum.

Page: Object Reference, "ID Field Type". Fifteen characters distinguish case; the three more of
the checksum let programs that ignore case still tell two ids apart. The APIs answer with
eighteen and take both.
"""

import re
from functools import lru_cache
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_CHUNK: Final = 5
_SHORT: Final = 15
_LONG: Final = 18
_SHAPE: Final = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?\Z")

POD: Final = "gK0000"
"""The part after the prefix that names the instance; the same for every record here."""


def checksum(short: str) -> str:
    """The three characters that make an 18-character id of a 15-character one."""
    out = ""
    for start in range(0, _SHORT, _CHUNK):
        chunk = short[start : start + _CHUNK]
        out += _CHECKSUM[sum(1 << at for at, letter in enumerate(chunk) if letter.isupper())]
    return out


def is_id(text: str) -> bool:
    """Whether the text has the shape of an id, whatever it may point at."""
    if not _SHAPE.match(text):
        return False
    return len(text) == _SHORT or all(letter in _CHECKSUM for letter in text[_SHORT:].upper())


@lru_cache(maxsize=131_072)
def long_id(text: str) -> str:
    """The 18-character form of a well-shaped id; other text is handed back as it is.

    The case of an 18-character id is restored from its checksum, as the vendor does for
    programs that lost it.
    """
    if not is_id(text):
        return text
    if len(text) == _SHORT:
        return text + checksum(text)
    suffix = text[_SHORT:].upper()
    letters = [
        letter.upper()
        if _CHECKSUM.index(suffix[at // _CHUNK]) >> at % _CHUNK & 1
        else letter.lower()
        for at, letter in enumerate(text[:_SHORT])
    ]
    return "".join(letters) + suffix


def make_id(prefix: str, number: int) -> str:
    """The 18-character id of the n-th record of an object.

    Args:
        prefix: Three characters, for example ``006``.
        number: Not negative; ids sort as their numbers do.
    """
    digits = ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    short = prefix + POD + digits.rjust(_SHORT - len(prefix) - len(POD), "0")
    return short + checksum(short)
