"""Minor units of currencies: how many digits follow the point of an amount."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from types import MappingProxyType
from typing import Final

LARGEST_AMOUNT: Final = 10**18
"""Minor units: what a currency field of 18 digits holds, and nearly what 64 bits hold. Sums may
leave them all the same: that is an error of the store (`SumTooLarge`), never a wrong sum."""

USUAL_MINOR_UNITS: Final = 2

# ISO 4217 list one, column "Mnr unt", as published by SIX for the maintenance agency
# (https://www.six-group.com/en/products-services/financial-information/data-standards.html);
# codes that are not listed here have two digits.
_EXCEPTIONS: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"),
                *("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
            ),
            0,
        ),
        **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
        **dict.fromkeys(("CLF", "UYW"), 4),
    }
)

_MOST_DIGITS: Final = 18
_ENOUGH_DIGITS: Final = Context(prec=60)
_STEPS: Final = tuple(Decimal(1).scaleb(-digits) for digits in range(10))


class TooLarge(ValueError):
    """A number that the store's integers cannot hold."""


class NotFinite(ValueError):
    """NaN or infinity, which no sum survives."""


def minor_units(currency: str) -> int:
    """Digits after the point of a currency (ISO 4217): EUR 2, JPY 0, KWD 3."""
    return _EXCEPTIONS.get(currency, USUAL_MINOR_UNITS)


def unusual_minor_units() -> Mapping[str, int]:
    """The currencies that have not two digits after the point, and how many they have."""
    return _EXCEPTIONS


def to_minor(amount: Decimal, currency: str) -> int:
    """An amount in whole minor units of its currency, rounded half up (away from zero).

    Raises:
        ValueError: the amount is not a number, or lies beyond ±10^18 minor units.
    """
    return scaled(amount, minor_units(currency), LARGEST_AMOUNT)


def from_minor(units: int, currency: str) -> Decimal:
    """The amount in major units that `to_minor` stored."""
    return Decimal(units).scaleb(-minor_units(currency))


def scaled(number: Decimal, digits: int, largest: int) -> int:
    """A number times 10^digits, rounded once, half up.

    Raises:
        NotFinite: it is NaN or infinite.
        TooLarge: the result lies beyond ±`largest`.
    """
    if not number.is_finite():
        raise NotFinite("not a finite number")
    # Looked at before rounding: the exponent may be in the millions.
    if number and number.adjusted() + digits > _MOST_DIGITS:
        raise TooLarge(f"beyond {largest} units of 10^-{digits}")
    shifted = number.scaleb(digits, context=_ENOUGH_DIGITS)
    units = int(shifted)
    if units != shifted:
        # Rounded once, from the number itself, however many digits it has.
        rounded = number.quantize(_STEPS[digits], rounding=ROUND_HALF_UP, context=_ENOUGH_DIGITS)
        units = int(rounded.scaleb(digits, context=_ENOUGH_DIGITS))
    if abs(units) > largest:
        raise TooLarge(f"beyond {largest} units of 10^-{digits}")
    return units
