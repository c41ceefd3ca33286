"""What one part of a configuration must have to do with another.

The checks read unvalidated values, so that they report beside the faults of single values: what
has the wrong shape is skipped here, because it is reported there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from config.errors import Finding, Path, did_you_mean, dotted, quoted
from config.installed import BUILT_IN
from config.interpolate import Substituted, Value
from config.matching import identity_makes_sense

Values: TypeAlias = Mapping[str, Value]


def cross_check(values: Values) -> Iterator[Finding]:
    """Every contradiction between parts of a configuration."""
    for check in _CHECKS:
        yield from check(values)


def look_twice(values: Values, is_inline_secret: Callable[[Path], bool]) -> Iterator[Finding]:
    """What works, but deserves a warning."""
    for path in _secrets(values):
        if is_inline_secret(path):
            yield Finding(
                path,
                "This secret is written in the file.",
                "Refer to it: ${NAME} or ${file:/path}.",
            )
    company = _table(values, "company")
    for key, assumed in (("currency", "USD"), ("timezone", "UTC")):
        if company.get(key) is None:
            yield Finding(
                ("company", key),
                f"{quoted(key)} is not set: {assumed} is assumed.",
                f"Set company.{key}.",
                at_key=True,
            )


def _table(values: Value, *path: str) -> Values:
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _texts(value: Value) -> tuple[str, ...]:
    if not isinstance(value, tuple):
        return ()
    return tuple(item for item in value if isinstance(item, str))


def _named(part: str, whole: str) -> str:
    """A part of a value for a sentence, unless the value came from outside the file."""
    return "of that name" if isinstance(whole, Substituted) else quoted(part)


# ---------------------------------------------------------------- connections


def _needs_a_connection(values: Values) -> Iterator[Finding]:
    if "connections" in values and not _table(values, "connections"):
        yield Finding(
            ("connections",),
            "At least one connection is needed.",
            "Add one: NAME: {type: salesforce, auth: {...}}.",
            at_key=True,
        )


def _addresses_are_allowed(values: Values) -> Iterator[Finding]:
    allowed = {host.lower() for host in _texts(_table(values, "security").get("allow_hosts"))}
    for name, connection in _table(values, "connections").items():
        base_url = _table(connection).get("base_url")
        if isinstance(base_url, str) and not _is_allowed(base_url, allowed):
            yield Finding(
                ("connections", name, "base_url"),
                "The host of {value} is not allowed.",
                "If it is meant, add it to security.allow_hosts.",
            )
        instance_url = _table(connection, "auth").get("instance_url")
        if (
            isinstance(instance_url, str)
            and instance_url.startswith("http://")
            and not _is_allowed(instance_url, allowed)
        ):
            yield Finding(
                ("connections", name, "auth", "instance_url"),
                "The address uses plain http.",
                "Write https://, or add its host to security.allow_hosts.",
            )


def _is_allowed(url: str, allowed: set[str]) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return True  # no URL at all: reported where it is read
    if parts.scheme not in {"http", "https"} or not host:
        return True
    shown = f"[{host}]" if ":" in host else host
    names = {shown, f"{shown}:{port or (443 if parts.scheme == 'https' else 80)}"}
    return bool(names & allowed)


_LOGIN_DOMAINS: Final = frozenset({"login", "test"})


def _salesforce_knows_its_org(values: Values) -> Iterator[Finding]:
    for name, connection in _table(values, "connections").items():
        auth = _table(connection, "auth")
        if _table(connection).get("type") != "salesforce" or not auth:
            continue
        path: Path = ("connections", name, "auth")
        has_address = isinstance(_table(connection).get("base_url"), str)
        if auth.get("flow") == "client_credentials":
            yield from _domain_findings(auth.get("domain"), path, has_address=has_address)
        if auth.get("flow") == "token" and not has_address and "instance_url" not in auth:
            yield Finding(
                (*path, "instance_url"),
                '"instance_url" is missing.',
                "The org's address: https://acme.my.salesforce.com.",
                at_key=True,
            )


def _domain_findings(domain: Value, path: Path, *, has_address: bool) -> Iterator[Finding]:
    if domain is None and not has_address:
        yield Finding(
            (*path, "domain"),
            '"domain" is missing.',
            "The org's My Domain without .salesforce.com, such as acme.my.",
            at_key=True,
        )
    if not isinstance(domain, str):
        return
    if domain in _LOGIN_DOMAINS:
        yield Finding(
            (*path, "domain"),
            "Client credentials log in at the org's My Domain alone.",
            "Write it without .salesforce.com, such as acme.my.",
        )
    elif "/" in domain or domain.lower().endswith(".salesforce.com"):
        yield Finding(
            (*path, "domain"),
            "The domain is written without https:// and without .salesforce.com.",
            "Write it like acme.my or acme--uat.sandbox.my.",
        )


def _canonical_values_are_distinct(values: Values) -> Iterator[Finding]:
    for name, connection in _table(values, "connections").items():
        for stream, settings in _table(connection, "streams").items():
            for field, source in _table(settings, "fields").items():
                path: Path = ("connections", name, "streams", stream, "fields", field, "values")
                yield from _ambiguous_natives(_table(source, "values"), path)


def _ambiguous_natives(values: Values, path: Path) -> Iterator[Finding]:
    meaning: dict[str, str] = {}
    for canonical, natives in values.items():
        listed = (natives,) if isinstance(natives, str) else _texts(natives)
        for native in listed:
            if native in meaning:
                yield Finding(
                    (*path, canonical),
                    f"{_named(native, native)} already means {quoted(meaning[native])}.",
                    "List each CRM value once.",
                    at_key=True,
                )
            meaning.setdefault(native, canonical)


# ---------------------------------------------------------------- company, KPIs, tuning


def _own_currency_has_no_rate(values: Values) -> Iterator[Finding]:
    currency = _table(values, "company").get("currency")
    if isinstance(currency, str) and currency in _table(values, "company", "fx", "table"):
        yield Finding(
            ("company", "fx", "table", currency),
            f"{quoted(currency)} is the company's own currency.",
            "Remove it: rates are units of it for one unit of another currency.",
            at_key=True,
        )


def _lists_repeat_nothing(values: Values) -> Iterator[Finding]:
    for key in ("use", "skip", "periods"):
        listed = _table(values, "kpis").get(key)
        times: dict[str, int] = {}
        for position, item in enumerate(listed if isinstance(listed, tuple) else ()):
            if not isinstance(item, str):
                continue
            times[item] = times.get(item, 0) + 1
            if times[item] == 2:  # noqa: PLR2004  # said once, however often it stands there
                yield Finding(
                    ("kpis", key, position), "{value} is listed twice.", "Remove one of the two."
                )


def _skipped_kpis_are_not_used(values: Values) -> Iterator[Finding]:
    skipped = set(_texts(_table(values, "kpis").get("skip")))
    for kpi in _table(values, "kpis", "settings"):
        if kpi in skipped:
            yield Finding(
                ("kpis", "settings", kpi),
                f"{quoted(kpi)} is left out by kpis.skip.",
                "Remove it here or there.",
                at_key=True,
            )
    for name, writeback in _table(values, "writebacks").items():
        for field, written in _table(writeback, "fields").items():
            path: Path = ("writebacks", name, "fields", field)
            if isinstance(written, Mapping):
                path, written = (*path, "kpi"), written.get("kpi")  # noqa: PLW2901 - the long form
            if isinstance(written, str) and written in skipped:
                yield Finding(path, "{value} is left out by kpis.skip.", "Remove it here or there.")


# ---------------------------------------------------------------- write-backs


def _targets_exist(values: Values) -> Iterator[Finding]:
    connections = _table(values, "connections")
    for name, writeback in _table(values, "writebacks").items():
        to = _table(writeback).get("to")
        if not isinstance(to, str) or to.count(".") != 1:
            continue
        connection = to.partition(".")[0]
        if connections and connection not in connections:
            yield Finding(
                ("writebacks", name, "to"),
                f"There is no connection {_named(connection, to)}.",
                did_you_mean(connection, tuple(connections)),
            )


def _fields_are_written_once(values: Values) -> Iterator[Finding]:
    writer: dict[tuple[str, str], Path] = {}
    for name, writeback in _table(values, "writebacks").items():
        to = _table(writeback).get("to")
        fields = _table(writeback, "fields")
        for field in fields:
            target = (str(to).casefold(), field.casefold())
            path: Path = ("writebacks", name, "fields", field)
            if target in writer:
                yield Finding(
                    path,
                    f"{quoted(field)} is already written by {dotted(writer[target][:-1])}.",
                    "Two write-backs of one field would undo each other: keep one.",
                    at_key=True,
                )
            writer.setdefault(target, path)
        yield from _extras_fit_the_fields(name, _table(writeback), fields)


def _extras_fit_the_fields(name: str, writeback: Values, fields: Values) -> Iterator[Finding]:
    stamp = writeback.get("stamp")
    if isinstance(stamp, str) and stamp.casefold() in {field.casefold() for field in fields}:
        yield Finding(
            ("writebacks", name, "stamp"),
            "{value} already carries a KPI.",
            "Use a date or date-time field of its own.",
        )
    for field in _table(writeback, "round"):
        if field not in fields:
            yield Finding(
                ("writebacks", name, "round", field),
                f"{quoted(field)} is not written by this write-back.",
                did_you_mean(field, tuple(fields)),
                at_key=True,
            )


# ---------------------------------------------------------------- sinks


def _sinks_are_other_places(values: Values) -> Iterator[Finding]:
    taken: dict[tuple[str, str, str], str] = {
        (str(values.get("database")), "", "kpi_values"): "the product's own table"
    }
    for name, sink in _table(values, "sinks").items():
        one = _table(sink)
        url, kind = one.get("url"), one.get("type")
        if not isinstance(url, str) or not isinstance(kind, str):
            continue
        is_file = url.startswith("sqlite")
        if kind in {"postgres", "sqlite"} and is_file != (kind == "sqlite"):
            yield Finding(
                ("sinks", name, "url"),
                f"This is not the address of a {kind} database.",
                "Write type: sqlite with sqlite:///FILE, or type: postgres with postgresql://...",
            )
        if is_file and one.get("schema") is not None:
            yield Finding(
                ("sinks", name, "schema"),
                "A SQLite database has no schemas.",
                "Leave it out.",
                at_key=True,
            )
        schema = str(one.get("schema") or "")
        place = (url, schema, str(one.get("table") or "kpi_values"))
        if place in taken:
            yield Finding(
                ("sinks", name),
                f"This sink writes into {taken[place]}.",
                "Give it another database, schema or table.",
                at_key=True,
            )
        taken.setdefault(place, f"the table of sinks.{name}")


# ---------------------------------------------------------------- secrets

_SECRET_KEYS: Final = frozenset(
    {
        "client_id", "client_secret", "private_key", "access_token", "username", "password",
        "security_token", "token", "refresh_token", "url", "webhook_secret",
    }
)  # fmt: skip
_HARMLESS_KEYS: Final = frozenset({"client_id", "flow", "username"})


def _secrets(values: Values) -> Iterator[Path]:
    for name, connection in _table(values, "connections").items():
        # What the credentials of other packages' types are called, nobody knows.
        is_further = _table(connection).get("type") not in BUILT_IN
        for key, value in _table(connection, "auth").items():
            is_secret = (is_further or key in _SECRET_KEYS) and key not in _HARMLESS_KEYS
            if is_secret and isinstance(value, str):
                yield ("connections", name, "auth", key)
    for name, url in _table(_table(values, "alerts"), "channels").items():
        if isinstance(url, str):
            yield ("alerts", "channels", name)
    for key in ("database", "broker"):
        url = values.get(key)
        if isinstance(url, str) and _has_password(url):
            yield (key,)
    for name, sink in _table(values, "sinks").items():
        url = _table(sink).get("url")
        if isinstance(url, str) and _has_password(url):
            yield ("sinks", name, "url")


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False


_CHECKS: Final[tuple[Callable[[Values], Iterator[Finding]], ...]] = (
    _needs_a_connection,
    _addresses_are_allowed,
    _salesforce_knows_its_org,
    _canonical_values_are_distinct,
    _own_currency_has_no_rate,
    _lists_repeat_nothing,
    _skipped_kpis_are_not_used,
    _targets_exist,
    _fields_are_written_once,
    _sinks_are_other_places,
    identity_makes_sense,
)
