"""Where what is measured is stored: beside each product a peer to compare it with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, make_url

from store.engine import open_store


@contextmanager
def stores(store: str, folder: Path) -> Iterator[Sequence[str]]:
    """The URLs of two empty stores, that of the product and that of its peer."""
    if store == "sqlite":
        yield [f"sqlite:///{folder / name}.db" for name in ("product", "peer")]
        return
    from tests.fixtures.servers import new_database, start_postgres  # noqa: PLC0415 - only here

    with (
        start_postgres() as server,
        new_database(server.url) as product,
        new_database(server.url) as peer,
    ):
        yield [product, peer]


def copy_of(engine: Engine, url: str) -> Engine:
    """The same store a second time: a copy of its files is faster than writing it again."""
    source, target = engine.url, make_url(url)
    engine.dispose()
    if engine.dialect.name == "sqlite":
        assert source.database is not None
        assert target.database is not None
        shutil.copyfile(source.database, target.database)
        return open_store(url)
    admin = create_engine(
        open_store(url).url.set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as conn:
        conn.exec_driver_sql(f'DROP DATABASE "{target.database}"')
        conn.exec_driver_sql(f'CREATE DATABASE "{target.database}" TEMPLATE "{source.database}"')
    admin.dispose()
    return open_store(url)
