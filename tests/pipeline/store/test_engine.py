"""Engines and transactions."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from store import engine as engine_module
from store.approvals import approve, is_approved
from store.engine import database_now, open_store, operating, reading, tidy, writing
from store.errors import StoreError, StoreUnavailable
from store.schema import ensure_current
from tests.fixtures.servers import start_postgres

# ---------------------------------------------------------------- transactions


def test_a_transaction_commits_at_its_end_and_not_after_an_exception(store: Engine) -> None:
    def fail_after_writing() -> None:
        with writing(store) as conn:
            approve(conn, "failed", "f")
            raise ZeroDivisionError

    with writing(store) as conn:
        approve(conn, "done", "f")
    with pytest.raises(ZeroDivisionError):
        fail_after_writing()

    with reading(store) as conn:
        assert is_approved(conn, "done", "f")
        assert not is_approved(conn, "failed", "f")


def test_there_is_one_writer_at_a_time(store: Engine, open_again: Callable[[], Engine]) -> None:
    order: list[str] = []
    other = open_again()

    def write_second() -> None:
        with writing(other) as conn:
            order.append("second began")
            approve(conn, "w", "second")

    with writing(store) as conn:
        second = threading.Thread(target=write_second)
        second.start()
        time.sleep(0.3)
        approve(conn, "w", "first")
        order.append("first ends")
    second.join()

    assert order == ["first ends", "second began"]
    with reading(store) as conn:
        assert is_approved(conn, "w", "second")


def test_a_reader_sees_one_instant_whatever_is_committed_meanwhile(
    store: Engine, open_again: Callable[[], Engine]
) -> None:
    with reading(store) as conn:
        before = is_approved(conn, "w", "f")
        with writing(open_again()) as other:
            approve(other, "w", "f")
        after = is_approved(conn, "w", "f")

    assert (before, after) == (False, False)
    with reading(store) as conn:
        assert is_approved(conn, "w", "f")


def test_operating_goes_on_beside_the_writer_on_postgresql(postgres_database: str) -> None:
    engine = open_store(postgres_database)
    ensure_current(engine)

    with writing(engine) as conn:
        approve(conn, "w", "f")
        with operating(engine) as other:
            approve(other, "v", "f")

    with reading(engine) as conn:
        assert is_approved(conn, "v", "f")
    engine.dispose()


def test_the_clock_is_the_database_s(store: Engine) -> None:
    with operating(store) as conn:
        now = database_now(conn)
        time.sleep(0.01)
        later = database_now(conn)

    assert now.tzinfo is not None
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)
    assert later > now


# ---------------------------------------------------------------- settings


def test_sqlite_is_opened_for_durable_concurrent_use(sqlite_database: str) -> None:
    engine = open_store(sqlite_database)

    with reading(engine) as conn:
        settings = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "wal_autocheckpoint")
        }
    engine.dispose()

    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 60_000,
        "wal_autocheckpoint": 20_000,
    }


def test_postgresql_connections_carry_their_settings_even_after_a_rollback(
    postgres_database: str,
) -> None:
    engine = open_store(postgres_database)
    names = ("TimeZone", "random_page_cost", "jit", "max_parallel_workers_per_gather")

    for _ in range(2):
        with reading(engine) as conn:
            settings = [conn.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
    engine.dispose()

    assert settings == ["UTC", "1.1", "off", "0"]


def test_the_log_is_moved_into_the_file_when_idle(sqlite_database: str) -> None:
    engine = open_store(sqlite_database)
    ensure_current(engine)
    file = Path(str(engine.url.database))
    before = file.stat().st_size

    tidy(engine)

    assert before < file.stat().st_size
    engine.dispose()


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "url", ["mysql://u:geheim@h/d", "sqlite://", "sqlite:///:memory:", "no url; geheim"]
)
def test_a_url_of_no_use_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url)

    assert "sqlite:///FILE" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable_and_the_password_unsaid() -> None:
    engine = open_store("postgresql://kpi:geheim@127.0.0.1:1/kpis")

    with pytest.raises(StoreUnavailable) as caught, reading(engine):
        pass

    assert "database kpis on 127.0.0.1:1: no connection" in str(caught.value)
    assert "geheim" not in repr(caught.value)
    assert caught.value.retryable


def test_a_server_that_stops_in_the_middle_is_unavailable_and_then_works_again() -> None:
    with start_postgres() as server:
        engine = open_store(server.url)
        ensure_current(engine)

        def stop_in_the_middle() -> None:
            with writing(engine) as conn:
                approve(conn, "w", "f")
                server.stop(signal.SIGQUIT)
                approve(conn, "v", "f")

        with pytest.raises(StoreUnavailable):
            stop_in_the_middle()
        with pytest.raises(StoreUnavailable), reading(engine):
            pass
        server.start()

        with reading(engine) as conn:
            assert not is_approved(conn, "w", "f")
        engine.dispose()


def test_a_database_that_is_missing_or_closed_to_us_is_named(postgres_database: str) -> None:
    engine = open_store(postgres_database + "_gone")

    with pytest.raises(StoreUnavailable, match="does not exist"), reading(engine):
        pass


def test_a_read_only_server_is_unavailable(postgres_database: str) -> None:
    engine = open_store(postgres_database)
    ensure_current(engine)
    with operating(engine) as conn:
        conn.execute(
            text(f'ALTER DATABASE "{engine.url.database}" SET default_transaction_read_only = on')
        )
    engine.dispose()

    with pytest.raises(StoreUnavailable, match="read-only"), operating(engine) as conn:
        approve(conn, "w", "f")
    engine.dispose()


def test_a_locked_file_is_unavailable(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SQLITE_SETTINGS", ("PRAGMA busy_timeout = 50",))
    engine = open_store(sqlite_database)
    ensure_current(engine)
    blocker = sqlite3.connect(str(engine.url.database), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="another process has been"), writing(engine):
        pass
    blocker.close()
    engine.dispose()


def test_a_full_disk_is_unavailable(sqlite_database: str) -> None:
    engine = open_store(sqlite_database)
    ensure_current(engine)

    def fill() -> None:
        with writing(engine) as conn:
            conn.exec_driver_sql("PRAGMA max_page_count = 1")
            for number in range(5000):
                approve(conn, f"w{number}", "f" * 100)

    with pytest.raises(StoreUnavailable, match="disk is full"):
        fill()
    engine.dispose()


def test_a_missing_folder_and_a_file_of_another_kind_are_unavailable(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear sir or madam, " * 100)
    missing = open_store(f"sqlite:///{tmp_path / 'missing' / 'kpisync.db'}")
    stranger = open_store(f"sqlite:///{tmp_path / 'letter.txt'}")

    with pytest.raises(StoreUnavailable, match="folder exists"), reading(missing):
        pass
    with pytest.raises(StoreUnavailable, match="not a SQLite database"), reading(stranger):
        pass


def test_a_fault_of_ours_stays_what_it_is(store: Engine) -> None:
    with pytest.raises(Exception, match=r"nonsense"), reading(store) as conn:
        conn.exec_driver_sql("SELECT nonsense")


def test_a_killed_writer_leaves_nothing_half_done(store: Engine, store_url: str) -> None:
    program = """
import os, sys
from store.approvals import approve
from store.engine import open_store, writing
engine = open_store(sys.argv[1])
with writing(engine) as conn:
    approve(conn, "whole", "f")
with writing(engine) as conn:
    approve(conn, "half", "f")
    print("half", flush=True)
    sys.stdin.read()
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", program, store_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert writer.stdout is not None
    assert writer.stdin is not None
    assert writer.stdout.readline() == b"half\n"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    writer.stdin.close()

    with writing(store) as conn:
        assert is_approved(conn, "whole", "f")
        assert not is_approved(conn, "half", "f")
