"""Which records carry the values of which groups, where the keys alone do not say it."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, insert

from store import targets
from store.engine import reading, writing
from store.tables import ACCOUNTS, IDENTITY, OWNERS


@pytest.fixture
def filled(store: Engine) -> Engine:
    """One customer that both CRMs know, twice in HubSpot; one that each knows alone."""
    accounts = [
        ("sf:A1", "sf:U1", "EMEA", False, '{"customer_no": "C-1"}'),
        ("sf:A2", "sf:U2", "EMEA", False, '{"customer_no": "C-2"}'),
        ("sf:A3", "sf:U2", None, True, None),
        ("hs:1", "hs:7", "EMEA", False, '{"customer_no": "C-2"}'),
        ("hs:2", "hs:7", None, False, None),
        ("hs:3", None, "APAC", False, None),
    ]
    with writing(store) as conn:
        conn.execute(
            insert(ACCOUNTS),
            [
                {"ref": ref, "owner": owner, "region": region, "deleted": deleted, "extra": extra}
                for ref, owner, region, deleted, extra in accounts
            ],
        )
        conn.execute(
            insert(OWNERS),
            [{"ref": ref, "deleted": False, "is_active": True} for ref in ("sf:U1", "sf:U2")],
        )
        conn.execute(
            insert(IDENTITY),
            [
                {"stream": "accounts", "ref": "hs:1", "canonical": "sf:A1"},
                {"stream": "accounts", "ref": "hs:2", "canonical": "sf:A1"},
                {"stream": "accounts", "ref": "sf:A3", "canonical": None},
                {"stream": "owners", "ref": "hs:7", "canonical": "sf:U1"},
            ],
        )
    return store


def test_each_record_of_a_customer_carries_its_values(filled: Engine) -> None:
    keys = ["sf:A1", "sf:A2", "sf:A3", "hs:3"]
    with reading(filled) as conn:
        there = targets.members(conn, "accounts", "hs", keys)
        here = targets.members(conn, "accounts", "sf", keys)

    assert there == {"sf:A1": ["1", "2"], "sf:A2": [], "sf:A3": [], "hs:3": ["3"]}
    assert here == {"sf:A1": ["A1"], "sf:A2": ["A2"], "sf:A3": [], "hs:3": []}


def test_records_are_grouped_by_their_own_fields_and_links_by_whom_they_stand_for(
    filled: Engine,
) -> None:
    with reading(filled) as conn:
        by_owner = targets.grouped_by(conn, "accounts", "hs", "owner")
        by_region = targets.grouped_by(conn, "accounts", "sf", "region")
        by_number = targets.grouped_by(conn, "accounts", "sf", "customer_no")
        everybody = targets.everybody(conn, "accounts", "sf")

    assert by_owner == {"sf:U1": ["1", "2"]}
    assert by_region == {"EMEA": ["A1", "A2"]}
    assert by_number == {"C-1": ["A1"], "C-2": ["A2"]}
    assert everybody == ["A1", "A2"]


def test_a_value_names_records_by_id_or_by_a_mapped_field_and_may_name_several(
    filled: Engine,
) -> None:
    with reading(filled) as conn:
        by_id = targets.keys_of_values(conn, "account", "hs", None, ["1", "3", "hs:2"])
        by_field = targets.keys_of_values(conn, "account", "sf", "customer_no", ["C-1", "C-9"])
        plain = targets.keys_of_values(conn, "region", "sf", None, ["EMEA"])

    assert by_id == {"1": ["sf:A1"], "3": ["hs:3"], "hs:2": ["sf:A1"]}
    assert by_field == {"C-1": ["sf:A1"]}
    assert plain == {"EMEA": ["EMEA"]}
