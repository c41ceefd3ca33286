"""Statements as text, composed once.

Composing the statements of one page with SQLAlchemy takes longer than running them. They have
no parameters but constants of ours, so their text is kept and given to the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import psycopg
from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement, Select

AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"
"""A SELECT whose columns only the database knows."""


def _psycopg() -> Dialect:
    # The driver's placeholders are percent signs: in the text they are doubled.
    return postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]  # a dialect's constructor


_DIALECTS = {True: _psycopg(), False: sqlite.dialect()}


def text_of(statement: ClauseElement, for_postgresql: bool) -> str:
    """The text of a statement whose only parameters are constants."""
    compiled = statement.compile(
        dialect=_DIALECTS[for_postgresql], compile_kwargs={"literal_binds": True}
    )
    return str(compiled)


Parameters: TypeAlias = "tuple[Any, ...] | Mapping[str, Any]"
"""Bound values as the driver takes them."""


def bound_text_of(statement: ClauseElement, for_postgresql: bool) -> tuple[str, Parameters]:
    """The text of a statement with places for its values, and the values."""
    compiled = statement.compile(
        dialect=_DIALECTS[for_postgresql], compile_kwargs={"render_postcompile": True}
    )
    if not isinstance(compiled, SQLCompiler):
        raise TypeError("only statements about rows have values")
    values = compiled.params
    if compiled.positiontup is None:
        return str(compiled), values
    return str(compiled), tuple(values[name] for name in compiled.positiontup)


def in_written_order(text: str, for_postgresql: bool) -> str:
    """The statement whose joins SQLite makes in the order in which they are written.

    Without statistics SQLite may read a whole base table first and look its rows up in the
    temporary one. A CROSS JOIN keeps it from choosing:
    https://sqlite.org/optoverview.html#manual_control_of_query_plans_using_cross_join
    """
    return text if for_postgresql else text.replace(" JOIN ", " CROSS JOIN ")


def run_all(conn: Connection, texts: Iterable[str]) -> None:
    """Run statements without parameters whose results nobody reads, in their order.

    PostgreSQL gets them in one go: otherwise each waits for the answer to the one before, and
    every millisecond of the network counts as often as there are statements.
    https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
    """
    listed = list(texts)
    if conn.dialect.name != "postgresql" or not listed:
        for text in listed:
            conn.exec_driver_sql(text)
        return
    driver: psycopg.Connection[Any] = conn.connection.driver_connection  # type: ignore[assignment]  # the pool does not know its driver
    with driver.pipeline(), driver.cursor() as cursor:
        for text in listed:
            # Without parameters a percent sign would stay doubled, see `_psycopg`.
            cursor.execute(text, ())


def rows_of(conn: Connection, text: str) -> list[tuple[Any, ...]]:
    """All rows of a statement that has no parameters, as the driver gives them.

    SQLAlchemy's rows, fetched one by one, cost more than those of the database.
    """
    result = conn.exec_driver_sql(text)
    rows = list(result.cursor.fetchall())
    result.close()
    return rows
