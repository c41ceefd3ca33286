"""The schema's version: creating, upgrading and recognising it.

Recognising it is every command's first act, so alembic is imported only where a database is
really upgraded: it takes a fifth of a command's start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from store import (  # noqa: F401 - METADATA is whole only with these tables, too
    history_tables,
    identity_tables,
)
from store.engine import is_postgresql, place, reading, writing
from store.errors import SchemaTooNew, SchemaTooOld, StoreError
from store.migrations import HEAD, REVISIONS
from store.tables import METADATA

_VERSION_TABLE: Final = "alembic_version"
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest revision; creates it in an empty database.

    One transaction on both stores: it happens wholly or not at all, and of several processes
    that start at once one does it while the others wait and find it done.

    Raises:
        SchemaTooNew: a newer kpisync has been here.
        StoreError: the database belongs to something else.
    """
    with writing(engine) as conn:
        _upgrade_within(engine, conn)


def current_revision(engine: Engine) -> str | None:
    """The revision the database is at; None: kpisync has never been here."""
    with reading(engine) as conn:
        return _revision(conn)


def head_revision() -> str:
    """The newest revision this version of kpisync knows."""
    return HEAD


def ensure_current(engine: Engine) -> None:
    """Make sure this version of kpisync fits the schema, or say what to do.

    An empty database gets the schema; an older SQLite file is upgraded (one host uses it), an
    older PostgreSQL database waits for ``kpisync db upgrade``.

    Raises:
        SchemaTooOld: upgrade first.
        SchemaTooNew: install the newer kpisync.
        StoreError: the database belongs to something else.
    """
    revision = current_revision(engine)
    if revision == head_revision():
        return
    if revision is None or engine.dialect.name == "sqlite":
        upgrade(engine)
        return
    _refuse_newer(engine, revision)
    raise SchemaTooOld(
        f"{place(engine)} has schema {revision}, this kpisync needs {head_revision()}; "
        "run `kpisync db upgrade`"
    )


def _upgrade_within(engine: Engine, conn: Connection) -> None:
    revision = _revision(conn)
    if revision is None:
        _refuse_strangers(engine, conn)
    else:
        _refuse_newer(engine, revision)
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    configuration = Config()
    # Percent signs are alembic's own in options.
    configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = conn
    command.upgrade(configuration, "head")


def _refuse_newer(engine: Engine, revision: str) -> None:
    if revision not in REVISIONS:
        raise SchemaTooNew(
            f"{place(engine)} has schema {revision}, which this kpisync (up to "
            f"{head_revision()}) does not know; install the newer kpisync"
        )


def _refuse_strangers(engine: Engine, conn: Connection) -> None:
    schema = "public" if is_postgresql(conn) else None
    strangers = sorted(set(inspect(conn).get_table_names(schema=schema)) & set(METADATA.tables))
    if strangers:
        raise StoreError(
            f"{place(engine)} already holds tables of these names, but not kpisync's: "
            f"{', '.join(strangers[:5])}; choose another database"
        )


def _revision(conn: Connection) -> str | None:
    """What alembic keeps in its own table of one row."""
    if not inspect(conn).has_table(_VERSION_TABLE):
        return None
    found: str | None = conn.execute(
        text(f"SELECT version_num FROM {_VERSION_TABLE}")  # noqa: S608  # a constant
    ).scalar_one_or_none()
    return found
