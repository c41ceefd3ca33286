"""The machine and its servers: what would bite later, found now."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import redis
from sqlalchemy import Engine, make_url

from config.models import Config
from store import heartbeats, schema
from store.engine import database_now, open_store, reading
from store.errors import StoreError
from worker.health import FRESH

LEAST_FREE_BYTES: Final = 1_000_000_000
MOST_CLOCK_SECONDS: Final = 5.0
_REDIS_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_fine: bool
    words: str
    """What was seen and, where it is not fine, what to do."""


def examine(config: Config) -> Iterator[Finding]:
    """Look at database, schema, clock, disk, broker and heartbeats; raises for none of them."""
    engine = open_store(config.database)
    try:
        yield from _database(engine, config)
    finally:
        engine.dispose()
    yield _disk(config)
    if config.broker:
        yield from _broker(str(config.broker))
    else:
        yield Finding("broker", True, "none: embedded mode (kpisync run)")


def _database(engine: Engine, config: Config) -> Iterator[Finding]:
    kind = engine.dialect.name
    try:
        with reading(engine) as conn:
            now = database_now(conn)
    except StoreError as error:
        yield Finding("database", False, str(error))
        return
    yield Finding("database", True, f"{kind} answers")
    apart = abs((datetime.now(UTC) - now).total_seconds())
    yield Finding(
        "clock",
        apart <= MOST_CLOCK_SECONDS,
        f"{apart:.1f} s apart from the database's"
        + ("" if apart <= MOST_CLOCK_SECONDS else ": set this machine's clock (NTP)"),
    )
    revision, head = schema.current_revision(engine), schema.head_revision()
    yield Finding(
        "schema",
        revision == head,
        f"revision {revision or 'empty'}"
        + ("" if revision == head else f", newest is {head}: run `kpisync db upgrade`"),
    )
    if revision == head:
        yield from _heartbeats(engine, is_server=bool(config.broker))


def _heartbeats(engine: Engine, *, is_server: bool) -> Iterator[Finding]:
    with reading(engine) as conn:
        beats = heartbeats.every(conn)
    fresh = {beat.role for beat in beats if beat.silent_seconds <= FRESH.total_seconds()}
    for role in ("worker", "beat") if is_server else ():
        words = "alive" if role in fresh else f"no sign of life: start `kpisync {role}`"
        yield Finding(role, role in fresh, words)


def _disk(config: Config) -> Finding:
    address = make_url(config.database)
    is_file = address.get_backend_name() == "sqlite" and address.database
    folder = Path(str(address.database)).absolute().parent if is_file else Path.cwd()
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", False, f"{folder}: {error.strerror}")
    is_fine = free >= LEAST_FREE_BYTES
    words = f"{free / 1e9:,.1f} GB free where the database is"
    return Finding("disk", is_fine, words if is_fine else words + ": make room")


def _broker(url: str) -> Iterator[Finding]:
    client = redis.Redis.from_url(
        url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
    )
    try:
        client.ping()
    except redis.RedisError as error:
        yield Finding("redis", False, f"does not answer ({type(error).__name__}): is it running?")
        return
    yield Finding("redis", True, "answers")
    for what, name, is_fine, remedy in _REDIS_SETTINGS:
        yield _setting(client, what, name, is_fine, remedy)
    client.close()


def _setting(
    client: redis.Redis,
    what: str,
    name: str,
    is_fine: Callable[[str], bool],
    remedy: str,
) -> Finding:
    try:
        found = client.config_get(name)
    except redis.RedisError:
        return Finding(what, True, f"{name} cannot be read here (a managed Redis?): {remedy}")
    value = str(found.get(name, "")) if isinstance(found, dict) else ""
    good = is_fine(value)
    return Finding(what, good, f"{name} is {value or 'unset'}" + ("" if good else f": {remedy}"))


_REDIS_SETTINGS: Final = (
    (
        "redis eviction",
        "maxmemory-policy",
        lambda value: value == "noeviction",
        "set it to noeviction, or Redis silently deletes queued work",
    ),
    (
        "redis persistence",
        "appendonly",
        lambda value: value == "yes",
        "set it to yes; otherwise a restart forgets what was rung for until the next ring",
    ),
)
