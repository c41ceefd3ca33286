"""From configured values to what connectors, KPIs and write-backs are built with.

Faults that only show here, because the catalogue or a connector must be asked, are configuration
problems like all others: with file, line and column, all at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from config.connections import (
    FileColumn,
    FilesConnection,
    FileStream,
    FurtherConnection,
    FurtherStream,
    QueryStream,
    Stream,
)
from config.models import Config
from config.section import Section
from connectors.base import (
    ConnectionSettings,
    DailyCalls,
    FieldSource,
    StreamSettings,
    Tuning,
)
from store.canonical import Company
from worker.identity_settings import fields_for_identity

_SWEEP: Final = timedelta(days=1)
_SHORTEST_KEY: Final = 8
"""Characters; what is shorter in a channel's address is no key but part of its form."""


def company_of(config: Config) -> Company:
    """Whose books are kept."""
    return Company(timezone=config.company.timezone, currency=config.company.currency)


def secrets_of(config: Config) -> set[str]:
    """Every text that must never be shown."""
    found: set[str] = set()
    for connection in config.connections.values():
        found.update(
            value.get_secret_value() for _, value in connection.auth if isinstance(value, SecretStr)
        )
    for secret in config.alerts.channels.values():
        found.add(secret.get_secret_value())
        found.update(_parts_of_channel(secret.get_secret_value()))
    return found


def _parts_of_channel(url: str) -> Iterator[str]:
    """The keys in a channel's address, as libraries write them: without what stands around them.

    Any part may be one, the host too (``slack://TokenA/TokenB/TokenC``). Plain words and the names
    of hosts are none.
    """
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    yield from (unquote(part) for part in account.split(":") if part)
    candidates = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
    if "." not in host:
        candidates.append(host.partition(":")[0])
    for part in map(unquote, candidates):
        if len(part) >= _SHORTEST_KEY and not (part.isalpha() and part.islower()):
            yield part


# ---------------------------------------------------------------- connections


def connection_settings(
    config: Config, name: str, *, on_wait: Callable[[str, float], None]
) -> ConnectionSettings:
    """What the connector of a connection is given."""
    section = config.connections[name]
    return ConnectionSettings(
        name=name,
        type=section.type,
        auth=section.auth.resolved(),
        company=company_of(config),
        streams={
            stream: _stream_settings(one, fields_for_identity(config, name, stream))
            for stream, one in section.streams.items()
        },
        base_url=section.base_url,
        api_version=section.api_version,
        tuning=_tuning(config),
        limits_storage=str(config.broker) or "memory://",
        on_wait=on_wait,
        gives_rates=config.company.fx.source == name,
        rated=_rated(config, name),
        written_objects=frozenset(
            one.object for one in config.writebacks.values() if one.connection == name
        ),
        daily_calls=_daily_calls(section.limits.daily_calls),
        options=_connection_options(config, name),
    )


def _rated(config: Config, name: str) -> frozenset[str] | None:
    """The currencies whose rates do not come from this connection; None: nobody knows before."""
    fx = config.company.fx
    is_from_elsewhere = fx.file is not None or fx.source not in {None, name}
    return None if is_from_elsewhere else frozenset(fx.table)


def _stream_settings(section: Stream, needed: Mapping[str, str]) -> StreamSettings:
    return StreamSettings(
        object=section.object,
        where=section.where,
        pipelines=section.pipelines,
        api=section.api,
        touch=section.touch or "created",
        converted_stage=section.converted_stage,
        options=_stream_options(section),
        fields={
            name: FieldSource(
                source=source.source,
                type=source.type,
                values=source.canonical_values(),
                required=source.required,
                of=source.of if isinstance(source, FileColumn) else None,
            )
            for name, source in section.fields.items()
        }
        | {name: FieldSource(source=source, type="text") for name, source in needed.items()},
    )


def _stream_options(section: Stream) -> dict[str, str]:
    if isinstance(section, QueryStream):
        options = {"query": section.query, "key": section.key, "cursor": section.cursor}
        return {name: value for name, value in options.items() if value is not None}
    if isinstance(section, FurtherStream):
        return dict(section.options)
    if not isinstance(section, FileStream):
        return {}
    written = {
        "key": json.dumps(section.key) if section.key else None,
        "encoding": section.encoding,
        "delimiter": section.delimiter,
        "decimal": section.decimal,
        "snapshot": "yes" if section.snapshot else "no",
    }
    return {name: value for name, value in written.items() if value is not None}


def _connection_options(config: Config, name: str) -> dict[str, str]:
    section = config.connections[name]
    if isinstance(section, FurtherConnection):
        return dict(section.options)
    if not isinstance(section, FilesConnection):
        return {}
    # A path in a file is meant from where the file is.
    home = FilePath(config.locate(("connections", name, "folder")).file).absolute().parent
    return {"folder": str(home / section.folder)}


def _daily_calls(written: Decimal | int | None) -> DailyCalls | None:
    if written is None:
        return None
    if isinstance(written, int):
        return DailyCalls(calls=written)
    return DailyCalls(share=written)


def stream_definition(config: Config, connection: str, stream: str) -> str:
    """A digest of everything that decides what a stream's rows look like in the store."""
    sections: dict[str, Section] = dict(config.connections[connection].streams.items())
    mapped = sections[stream].model_dump(mode="json") if stream in sections else None
    company = company_of(config)
    parts = [mapped, company.timezone.key, company.currency]
    needed = fields_for_identity(config, connection, stream)
    if needed:
        parts.append(dict(needed))
    section = config.connections[connection]
    if isinstance(section, FurtherConnection) and section.options:
        # Only the connector knows which of them decide what rows look like.
        parts.append(dict(section.options))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _tuning(config: Config) -> Tuning:
    advanced = config.advanced
    return Tuning(
        lookback=advanced.lookback,
        connect_timeout=advanced.connect_timeout,
        read_timeout=advanced.read_timeout,
        total_timeout=advanced.total_timeout,
        retry_attempts=advanced.retry_attempts,
        retry_wait=advanced.retry_wait,
        retry_wait_max=advanced.retry_wait_max,
        page_size=advanced.page_size,
        push_batch=advanced.push_batch,
        index_lag=advanced.index_lag,
        pause_min=advanced.pause_min,
        sweep=advanced.sweep or _SWEEP,
    )
