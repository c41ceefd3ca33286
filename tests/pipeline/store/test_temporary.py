"""Temporary tables: what a rollback took back is made again."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Integer, MetaData

from store import temporary
from store.engine import open_store

TABLE = temporary.table("remembered", MetaData(), Column("number", Integer, index=True))


def _count(conn: Connection) -> int:
    found: int = conn.exec_driver_sql("SELECT count(*) FROM remembered").scalar_one()
    return found


def test_a_table_that_was_rolled_back_is_made_again_and_one_that_lasts_is_emptied(
    database_url: str,
) -> None:
    engine = open_store(database_url)
    counts = []

    with engine.connect() as conn:
        for is_kept in (False, False, True, False, True):
            transaction = conn.begin()
            for _ in range(2):
                temporary.prepare(conn, [TABLE])
                counts.append(_count(conn))
                conn.exec_driver_sql("INSERT INTO remembered (number) VALUES (1), (2)")
                temporary.analyze(conn, TABLE.name, 2)
            counts.append(_count(conn))
            if is_kept:
                transaction.commit()
            else:
                transaction.rollback()
    engine.dispose()

    assert counts == [0, 0, 2] * 5


def test_dead_rows_of_a_postgresql_table_do_not_pile_up(migrated_postgres: str) -> None:
    engine = open_store(migrated_postgres)
    sizes = []

    for _ in range(12):
        with engine.connect() as conn, conn.begin():
            temporary.prepare(conn, [TABLE])
            assert _count(conn) == 0
            conn.exec_driver_sql("INSERT INTO remembered (number) SELECT generate_series(1, 2000)")
            size = "SELECT pg_relation_size('remembered')"
            sizes.append(conn.exec_driver_sql(size).scalar_one())
    engine.dispose()

    one_page = sizes[0]
    assert max(sizes) <= temporary.MOST_DEAD + one_page
    assert min(sizes[1:]) == one_page
