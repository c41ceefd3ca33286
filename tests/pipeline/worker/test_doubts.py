"""Doubtful matches in `status`: counted, in words, with the command, and gone when decided."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.loader import load
from store.engine import writing
from worker import doubts, identities, pipeline
from worker.runtime import Runtime, open_runtime
from worker.status import gather

CONFIGURATION = """\
version: 1
database: "{database}"
company: {{name: Test Company, currency: EUR, timezone: Europe/Berlin}}
connections:
  one: {{type: files, folder: one, streams: {{accounts: {{}}}}}}
  two: {{type: files, folder: two, streams: {{accounts: {{}}}}}}
identity: {{accounts: {{match: [{{domain: website}}]}}}}
kpis: {{use: [sales]}}
"""


@pytest.fixture
def runtime(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    path = tmp_path / "kpisync.yaml"
    path.write_text(CONFIGURATION.format(database=database_url), encoding="utf-8")
    with open_runtime(load(path, dict(os.environ))) as runtime:
        yield runtime


def write(tmp_path: Path, connection: str, *rows: str) -> None:
    lines = "\n".join(("id,name,domain", *rows))
    (tmp_path / connection / "accounts.csv").write_text(lines + "\n", encoding="utf-8")


def read(runtime: Runtime) -> None:
    for connection in ("one", "two"):
        pipeline.pull_connection(runtime, connection)
    pipeline.compute(runtime)


def said(runtime: Runtime) -> list[str]:
    return [one for one in gather(runtime).sentences if one.startswith("identity:")]


def test_status_counts_the_matches_that_wait_for_a_person_until_they_are_decided(
    runtime: Runtime, tmp_path: Path
) -> None:
    never = said(runtime)
    write(tmp_path, "one", "1,Zebra GmbH,zebra.de", "2,Acme,acme.com", "3,Yak,yak.org")
    write(tmp_path, "two", "8,Quokka AG,www.zebra.de", "9,Acme Inc.,acme.com", "7,Gnu,yak.org")
    read(runtime)
    counted, whole = said(runtime), gather(runtime).to_json()["doubtful"]
    identities.decide(runtime, "one:1", "two:8", is_same=False)
    outdated = said(runtime)
    pipeline.compute(runtime)
    one_left = said(runtime)
    write(tmp_path, "two", "8,Quokka AG,www.zebra.de", "9,Acme Inc.,acme.com", "7,Yak,yak.org")
    read(runtime)
    none = said(runtime)
    identities.decide(runtime, "one:1", "two:8", is_same=None)
    pipeline.compute(runtime)

    assert never == [
        (
            "identity: doubtful matches are not counted yet; kpisync compute counts them, "
            "kpisync identity review shows them"
        )
    ]
    assert counted == [
        "identity: 2 doubtful matches wait for a person (2 of accounts): kpisync identity review"
    ]
    assert isinstance(whole, dict)
    assert (whole["matches"], whole["is_current"]) == ({"accounts": 2}, True)
    assert "records have changed since" in outdated[0]
    assert one_left == [
        "identity: 1 doubtful match waits for a person (1 of accounts): kpisync identity review"
    ]
    assert none == []
    assert said(runtime) == one_left


def test_a_count_that_took_long_is_not_repeated_with_every_computation(
    runtime: Runtime, tmp_path: Path
) -> None:
    write(tmp_path, "one", "1,Zebra GmbH,zebra.de")
    read(runtime)
    with writing(runtime.engine) as conn:
        doubts.note_count(conn, runtime, {"accounts": 0}, seconds=60)

    write(tmp_path, "two", "8,Quokka AG,www.zebra.de")
    read(runtime)

    found = gather(runtime).doubtful
    assert found is not None
    assert (found.total, found.is_current) == (0, False)
