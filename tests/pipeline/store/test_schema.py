"""Creating, upgrading and recognising the schema."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from store import migrations
from store.engine import open_store, operating, reading
from store.errors import SchemaTooNew, SchemaTooOld, StoreError
from store.schema import current_revision, ensure_current, head_revision, upgrade
from store.tables import METADATA


@pytest.fixture
def store_url(database_url: str) -> str:
    """Here every store begins as an empty database."""
    return database_url


@pytest.fixture
def store(open_again: Callable[[], Engine]) -> Engine:
    """A store whose schema was just made."""
    engine = open_again()
    ensure_current(engine)
    return engine


def test_the_migrations_lead_to_exactly_the_tables_of_the_code(store: Engine) -> None:
    with reading(store) as conn:
        differences = compare_metadata(MigrationContext.configure(conn), METADATA)

    assert differences == []


def test_what_alembic_does_not_compare_is_equal_too(
    store: Engine, open_again: Callable[[], Engine]
) -> None:
    """Keys, defaults, index conditions and collations, against tables made from the code."""
    with reading(store) as conn:
        migrated = _described(conn.engine)
    with operating(store) as conn:
        METADATA.drop_all(conn)
        METADATA.create_all(conn)

    assert _described(open_again()) == migrated


def _described(engine: Engine) -> dict[str, object]:
    with reading(engine) as conn:
        if conn.dialect.name == "sqlite":
            rows = conn.exec_driver_sql(
                "SELECT name, replace(replace(replace(sql, char(10), ''), char(9), ''), ' ', '')"
                " FROM sqlite_schema WHERE name != 'alembic_version'"
                " AND tbl_name != 'alembic_version'"
            )
            return {row[0]: row[1] and sorted(row[1]) for row in rows}
        inspector = inspect(conn)
        return {
            table: (
                inspector.get_pk_constraint(table)["constrained_columns"],
                sorted(str(sorted(index.items())) for index in inspector.get_indexes(table)),
                [
                    (column["name"], repr(column["type"]), column["default"], column["nullable"])
                    for column in inspector.get_columns(table)
                ],
            )
            for table in METADATA.tables
        }


def test_an_empty_database_gets_the_schema_and_then_nothing_changes(
    open_again: Callable[[], Engine],
) -> None:
    engine = open_again()
    assert current_revision(engine) is None

    ensure_current(engine)
    upgrade(engine)
    ensure_current(engine)

    assert head_revision() == current_revision(engine)


def test_processes_that_start_at_once_make_one_schema(
    database_url: str, open_again: Callable[[], Engine]
) -> None:
    program = (
        "import sys; from store.engine import open_store; from store.schema import ensure_current;"
        "ensure_current(open_store(sys.argv[1]))"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", program, database_url],
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]

    results = [(starter.communicate()[1], starter.returncode) for starter in starters]

    assert results == [(b"", 0)] * 3
    assert head_revision() == current_revision(open_again())


def test_a_newer_schema_is_left_alone(store: Engine) -> None:
    with operating(store) as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaTooNew, match="9999"):
        ensure_current(store)
    with pytest.raises(SchemaTooNew, match="newer kpisync"):
        upgrade(store)


def test_an_older_schema_waits_for_the_upgrade_on_postgresql(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_store(postgres_database)
    ensure_current(engine)
    monkeypatch.setattr("store.schema.head_revision", lambda: "0002")

    with pytest.raises(SchemaTooOld, match="kpisync db upgrade"):
        ensure_current(engine)
    engine.dispose()


def test_a_database_of_something_else_is_refused(open_again: Callable[[], Engine]) -> None:
    engine = open_again()
    with operating(engine) as conn:
        conn.execute(text("CREATE TABLE deals (id INTEGER)"))

    with pytest.raises(StoreError, match="deals"):
        ensure_current(engine)
    assert current_revision(engine) is None


def test_the_migrations_are_found_from_any_folder(
    sqlite_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = open_store(sqlite_database)

    upgrade(engine)

    assert head_revision() == current_revision(engine)
    engine.dispose()


def test_the_revisions_named_in_the_code_are_those_of_the_scripts() -> None:
    configuration = AlembicConfig()
    configuration.set_main_option("script_location", str(Path(migrations.__file__).parent))
    configuration.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(configuration)

    names = tuple(script.revision for script in scripts.walk_revisions())

    assert names[::-1] == migrations.REVISIONS
