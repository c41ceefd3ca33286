"""What a single value may be: durations, schedules, percentages, names, secrets.

Each reader takes the value as YAML gave it (or text that replaced a `${...}`) and returns the
typed one, or raises `Fault` with a sentence in which ``{value}`` stands for the value: the loader
fills it in, unless it is a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from config.currencies import CURRENCIES
from config.errors import did_you_mean, nearest
from config.interpolate import Substituted

FAULT: Final = "fault"
"""The type of the errors raised here, among pydantic's."""

JsonSchema: TypeAlias = dict[str, object]

_REFERENCE: Final[JsonSchema] = {"type": "string", "pattern": r"\$\{"}

LONGEST: Final = timedelta(days=3660)


def fault(message: str, hint: str = "") -> PydanticCustomError:
    """A value that cannot stand here; ``{value}`` in the message is the value as written."""
    return PydanticCustomError(FAULT, "not acceptable", {"message": message, "hint": hint})


@dataclass(frozen=True, slots=True, eq=False)  # by identity: annotations must be hashable
class Reads:
    """Annotation: how a field is read from YAML, and how an editor may check it."""

    read: Callable[[object], object]
    schema: JsonSchema

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The reader decides alone."""
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        """For editors."""
        return dict(self.schema)


# ---------------------------------------------------------------- text and names


def read_text(value: object) -> str:
    """Text that is not empty."""
    if not isinstance(value, str):
        raise fault("{value} is not text.", "Put it in quotes.")
    if not value.strip():
        raise fault("A text is missing here.", "Write it, or leave the key out.")
    return str(value)


def read_secret(value: object) -> SecretStr:
    """A secret; it shows as stars wherever it is printed."""
    return SecretStr(read_text(value))


def named(pattern: str, what: str) -> Callable[[object], str]:
    """A reader for names of one form."""
    form = re.compile(pattern, re.ASCII)

    def read(value: object) -> str:
        text = read_text(value)
        if not form.fullmatch(text):
            raise fault(f"{{value}} is not {what}.")
        return text

    return read


Text: TypeAlias = Annotated[str, Reads(read_text, {"type": "string", "minLength": 1})]
Secret: TypeAlias = Annotated[SecretStr, Reads(read_secret, {"type": "string", "minLength": 1})]

_WORD: Final = r"[a-z][a-z0-9_]{0,62}"
_NAME: Final = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
_CRM_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,99}"
_CRM_NUMBER: Final = r"[0-9]-[0-9]{1,12}"
"""HubSpot's number of a kind of record, such as 2-1234567 of a custom object."""

Word: TypeAlias = Annotated[
    str,
    Reads(
        named(_WORD, "a name of small letters, digits and _"),
        {"type": "string", "pattern": f"^{_WORD}$"},
    ),
]
"""The name of a KPI, a dimension, an own field."""

Name: TypeAlias = Annotated[
    str,
    Reads(
        named(_NAME, "a name of letters, digits, - and _ that begins with a letter"),
        {"type": "string", "pattern": f"^{_NAME}$"},
    ),
]
"""The name of a connection, a write-back, a sink."""

CrmName: TypeAlias = Annotated[
    str,
    Reads(
        named(_CRM_NAME, "the API name of a field or object (letters, digits and _)"),
        {"type": "string", "pattern": f"^{_CRM_NAME}$"},
    ),
]
"""A CRM's own API name of an object or a field."""

CrmObject: TypeAlias = Annotated[
    str,
    Reads(
        named(
            rf"(?:{_CRM_NAME}|{_CRM_NUMBER})",
            "the API name of an object (letters, digits and _), or its number in HubSpot (2-123)",
        ),
        {"type": "string", "pattern": f"^(?:{_CRM_NAME}|{_CRM_NUMBER})$"},
    ),
]
"""A CRM's own API name of an object."""

CrmPath: TypeAlias = Annotated[
    str,
    Reads(
        named(
            rf"{_CRM_NAME}(\.(?:{_CRM_NAME}|{_CRM_NUMBER})){{0,4}}",
            "the API name of a field, or a path to one such as Account.Region__c",
        ),
        {
            "type": "string",
            "pattern": rf"^{_CRM_NAME}(\.(?:{_CRM_NAME}|{_CRM_NUMBER})){{0,4}}$",
        },
    ),
]
"""A CRM field, or a path over links to a parent's field."""


# ---------------------------------------------------------------- numbers


def whole_number(minimum: int, maximum: int = 1_000_000_000) -> Reads:
    """An integer within bounds."""

    def read(value: object) -> int:
        number = value
        if isinstance(value, Substituted) and re.fullmatch(r"[-+]?[0-9]{1,12}", value, re.ASCII):
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool):
            raise fault("{value} is not a whole number.")
        if not minimum <= number <= maximum:
            raise fault(f"{{value}} is out of range: {minimum} to {maximum}.")
        return number

    return Reads(
        read,
        {"anyOf": [{"type": "integer", "minimum": minimum, "maximum": maximum}, _REFERENCE]},
    )


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, Substituted) and re.fullmatch(
        r"[-+]?[0-9]{1,30}(\.[0-9]{1,30})?", value, re.ASCII
    ):
        return Decimal(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    return value if isinstance(value, Decimal) else None


def read_version(value: object) -> int:
    """The one version of the format that there is."""
    if value != 1 or isinstance(value, bool):
        raise fault("{value} is no version of this format.", "Write version: 1.")
    return 1


def read_rate(value: object) -> Decimal:
    """A positive number, such as an exchange rate."""
    number = _decimal(value)
    if number is None or number <= 0:
        raise fault("{value} is not a positive number.", "Write it like 0.92.")
    return number


def read_boolean(value: object) -> bool:
    """True or false, nothing else (YAML 1.2: `yes` and `on` are text)."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Substituted) and value in {"true", "false"}:
        return value == "true"
    raise fault("{value} is neither true nor false.", "Write true or false, without quotes.")


_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%", re.ASCII)


def read_percent(value: object) -> Decimal:
    """``25%`` as the ratio 0.25."""
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise fault("{value} is not a percentage.", "Write it like 25%.")
    ratio = Decimal(match[1]) / 100
    if ratio > 1:
        raise fault("{value} is more than 100%.")
    return ratio


_SIGNED_PERCENT = re.compile(r"(-?[0-9]{1,6}(?:\.[0-9]{1,6})?) ?%", re.ASCII)


def read_threshold(value: object) -> Decimal:
    """A number of either sign, or a percentage as its ratio."""
    match = _SIGNED_PERCENT.fullmatch(value) if isinstance(value, str) else None
    number = Decimal(match[1]) / 100 if match else _decimal(value)
    if number is None:
        raise fault("{value} is neither a number nor a percentage.", "Write it like 12.5 or 20%.")
    return number


def read_bounds(value: object) -> tuple[Decimal | None, Decimal | None]:
    """``[0, 1]``: the lowest and the highest value; null where there is no bound."""
    if not isinstance(value, tuple) or len(value) != 2:  # noqa: PLR2004 - lowest, highest
        raise fault("This is no range.", "Write it like [0, 1], or [0, null] for no upper bound.")
    low, high = (None if bound is None else read_threshold(bound) for bound in value)
    if low is not None and high is not None and low > high:
        raise fault("The range ends before it begins.", "Write the lower bound first.")
    return low, high


_THRESHOLD_SCHEMA: Final[JsonSchema] = {
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^-?[0-9.]+ ?%$|\$\{"}]
}
Threshold: TypeAlias = Annotated[Decimal, Reads(read_threshold, _THRESHOLD_SCHEMA)]
Bounds: TypeAlias = Annotated[
    tuple[Decimal | None, Decimal | None],
    Reads(
        read_bounds,
        {
            "type": "array",
            "items": {"anyOf": [_THRESHOLD_SCHEMA, {"type": "null"}]},
            "minItems": 2,
            "maxItems": 2,
        },
    ),
]


def read_percent_or_count(value: object) -> Decimal | int:
    """``20%`` as a ratio, or a whole number."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return read_percent(value)


Boolean: TypeAlias = Annotated[
    bool, Reads(read_boolean, {"anyOf": [{"type": "boolean"}, _REFERENCE]})
]
Version: TypeAlias = Annotated[int, Reads(read_version, {"const": 1})]
Rate: TypeAlias = Annotated[
    Decimal, Reads(read_rate, {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _REFERENCE]})
]
_PERCENT_SCHEMA: Final[JsonSchema] = {"type": "string", "pattern": r"^[0-9.]+ ?%$|\$\{"}
Percent: TypeAlias = Annotated[Decimal, Reads(read_percent, _PERCENT_SCHEMA)]
PercentOrCount: TypeAlias = Annotated[
    Decimal | int,
    Reads(read_percent_or_count, {"anyOf": [_PERCENT_SCHEMA, {"type": "integer", "minimum": 1}]}),
]


# ---------------------------------------------------------------- time


@dataclass(frozen=True, slots=True)
class Interval:
    """Due again when `every` has passed."""

    every: timedelta


@dataclass(frozen=True, slots=True)
class Cron:
    """Due at the minutes of a five-field cron expression, in the company's zone."""

    expression: str
    """With names in capitals, as cronsim reads it: ``0 6 * * MON-FRI``."""


_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION_HINT: Final = "Write a number and s, m, h or d: 90s, 15m, 1h, 1d."


def read_duration(value: object) -> timedelta:
    """``90s``, ``15m``, ``1h``, ``1d``; at least a second."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise fault("{value} is not a duration.", _DURATION_HINT)
    number = int(match[1])
    if number > LONGEST.total_seconds():
        raise fault("{value} is longer than ten years.", _DURATION_HINT)
    span = timedelta(**{_UNITS[match[2]]: number})
    if span < timedelta(seconds=1):
        raise fault("{value} is too short.", "The shortest duration is 1s.")
    if span > LONGEST:
        raise fault("{value} is longer than ten years.", _DURATION_HINT)
    return span


_CRON_HINT: Final = 'Five fields, minute hour day month weekday: "0 6 * * mon-fri".'
_CRON_FIELDS: Final = 5
_LONGEST_CRON: Final = 200


def read_schedule(value: object) -> Interval | Cron:
    """An interval (``15m``) or a five-field cron expression."""
    if isinstance(value, str) and len(value.split()) > 1:
        return Cron(_cron(value))
    try:
        return Interval(read_duration(value))
    except PydanticCustomError as error:
        if _DURATION.fullmatch(str(value)):
            raise
        raise fault(
            "{value} is neither an interval nor a cron expression.",
            'Write 90s, 15m, 1h, 1d, or five cron fields: "0 6 * * mon-fri".',
        ) from error


def _cron(text: str) -> str:
    if len(text) > _LONGEST_CRON:
        raise fault(f"This cron expression is longer than {_LONGEST_CRON} characters.", _CRON_HINT)
    fields = text.upper().split()
    expression = " ".join(fields)
    if len(fields) != _CRON_FIELDS:
        raise fault(f"{{value}} has {len(fields)} fields, a cron expression has 5.", _CRON_HINT)
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        reason = str(error).removeprefix("Bad ")
        hint = _CRON_HINT
        if reason == "day-of-week":
            hint += " The week begins with sun (0): write fri-sun as fri,sat,sun."
        raise fault(f"The {reason} field of {{value}} is not right.", hint) from None
    except StopIteration:
        raise fault("{value} never comes due.", _CRON_HINT) from None
    return expression


Duration: TypeAlias = Annotated[
    timedelta, Reads(read_duration, {"type": "string", "pattern": r"^[0-9]{1,9}[smhd]$|\$\{"})
]
Schedule: TypeAlias = Annotated[
    Interval | Cron,
    Reads(
        read_schedule,
        {"type": "string", "pattern": r"^[0-9]{1,9}[smhd]$|^\S+( +\S+){4}$|\$\{"},
    ),
]


_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


def read_hours(value: object) -> tuple[time, time]:
    """``22:00-06:00``: from a time of the day to another, past midnight where that is later."""
    match = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise fault("{value} is no span of hours.", 'Write it like "22:00-06:00".')
    start, stop = time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
    if start == stop:
        raise fault("{value} is no time at all.", 'Write it like "22:00-06:00".')
    return start, stop


HoursOfDay: TypeAlias = Annotated[
    tuple[time, time],
    Reads(read_hours, {"type": "string", "pattern": r"^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$|\$\{"}),
]


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def read_timezone(value: object) -> ZoneInfo:
    """A zone of the IANA database."""
    text = read_text(value)
    if text not in _zones():
        candidate = nearest(text, _zones())
        raise fault(
            "{value} is not a time zone.",
            f'Did you mean "{candidate}"?' if candidate else "Write it like Europe/Berlin.",
        )
    return ZoneInfo(text)


def read_currency(value: object) -> str:
    """An ISO 4217 code."""
    text = read_text(value)
    if text not in CURRENCIES:
        is_case = text.upper() in CURRENCIES
        raise fault(
            "{value} is not a currency code of ISO 4217.",
            f'Did you mean "{text.upper()}"?' if is_case else "Write it like EUR.",
        )
    return text


TimeZone: TypeAlias = Annotated[ZoneInfo, Reads(read_timezone, {"type": "string"})]
Currency: TypeAlias = Annotated[
    str, Reads(read_currency, {"type": "string", "pattern": r"^[A-Z]{3}$|\$\{"})
]

_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _choice(options: Sequence[str], what: str) -> Reads:
    def read(value: object) -> str:
        text = read_text(value)
        if text not in options:
            raise fault(f"{{value}} is not {what}.", did_you_mean(text, options))
        return text

    return Reads(read, {"enum": list(options)})


Month: TypeAlias = Annotated[str, _choice(_MONTHS, "the name of a month")]
WeekStart: TypeAlias = Annotated[str, _choice(_DAYS, "the name of a day")]


def month_number(month: str) -> int:
    """1 for january."""
    return _MONTHS.index(month) + 1


def weekday_number(day: str) -> int:
    """0 for monday, as `date.weekday`."""
    return _DAYS.index(day)


# ---------------------------------------------------------------- periods

CALENDAR_PERIODS: Final = (
    "day", "week", "month", "quarter", "year", "fiscal_month", "fiscal_quarter", "fiscal_year",
)  # fmt: skip
_PERIOD_LABEL = re.compile(
    r"[0-9]{4}|[0-9]{4}-Q[1-4]|[0-9]{4}-(0[1-9]|1[0-2])|[0-9]{4}-W(0[1-9]|[1-4][0-9]|5[0-3])"
    r"|[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])|FY[0-9]{4}(-Q[1-4]|-M(0[1-9]|1[0-2]))?",
    re.ASCII,
)
ROLLING_PERIOD: Final = re.compile(r"last_[1-9][0-9]{0,3}d", re.ASCII)


def read_period(value: object) -> str:
    """``all``, ``now``, a kind (the running period), a label, or ``last_90d``."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise fault("{value} is not text.", f'Put the year in quotes: "{value}".')
    text = read_text(value)
    known = ("all", "now", *CALENDAR_PERIODS)
    if text in known or _PERIOD_LABEL.fullmatch(text) or ROLLING_PERIOD.fullmatch(text):
        return text
    candidate = nearest(text, known)
    raise fault(
        "{value} is not a period.",
        f'Did you mean "{candidate}"?'
        if candidate
        else "Write all, now, a kind such as quarter, or a label such as 2026-Q1.",
    )


Period: TypeAlias = Annotated[str, Reads(read_period, {"type": "string"})]


# ---------------------------------------------------------------- addresses


class Address(str):
    """A URL that may carry a password: it is an ordinary string, but shows as stars."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Address('**********')"


def _address(schemes: Sequence[str], example: str) -> Callable[[object], Address]:
    def read(value: object) -> Address:
        if not isinstance(value, str):
            raise fault("This is not a URL.", f"Write it like {example}.")
        try:
            scheme = urlsplit(value).scheme
        except ValueError:
            scheme = ""
        if scheme not in schemes:
            raise fault(
                "This URL does not begin as it should.",
                f"It begins with {' or '.join(f'{known}://' for known in schemes)}, "
                f"like {example}.",
            )
        return Address(value)

    return read


def read_broker(value: object) -> Address:
    """A Redis URL, or nothing."""
    if value is None or value == "":
        return Address("")
    return _address(("redis", "rediss"), "redis://127.0.0.1:6379/0")(value)


def read_https_url(value: object) -> str:
    """An http or https URL of a host, without credentials, query or fragment."""
    text = read_text(value)
    try:
        parts = urlsplit(text)
        is_fine = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_fine = is_fine and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine:
        raise fault("{value} is not a web address.", "Write it like https://crm.example.com.")
    if parts.username is not None or parts.password is not None:
        raise fault("The address carries a user name or password.", "Leave them out of it.")
    if parts.query or parts.fragment:
        raise fault("{value} has a '?' or '#' part.", "Write the host alone.")
    return text.rstrip("/")


_HOST = re.compile(
    r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:[0-9]{1,5})?",
    re.ASCII,
)


def read_host(value: object) -> str:
    """A host name or address, with or without a port."""
    text = read_text(value)
    if not _HOST.fullmatch(text):
        raise fault(
            "{value} is not a host or host:port.",
            "Write it like 127.0.0.1 or 127.0.0.1:8080, without http://.",
        )
    return text.lower()


DatabaseUrl: TypeAlias = Annotated[
    Address,
    Reads(
        _address(
            ("sqlite", "postgresql", "postgres", "postgresql+psycopg"),
            "sqlite:///kpisync.db or postgresql://user@host/name",
        ),
        {"type": "string"},
    ),
]
BrokerUrl: TypeAlias = Annotated[Address, Reads(read_broker, {"type": ["string", "null"]})]
WebAddress: TypeAlias = Annotated[str, Reads(read_https_url, {"type": "string"})]
Host: TypeAlias = Annotated[str, Reads(read_host, {"type": "string"})]
