"""Leases: who may work, by the database's clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from store import leases
from store.approvals import approve, is_approved
from store.engine import operating, reading, writing
from store.errors import LeaseLost, StoreUnavailable
from store.leases import Lease

LONG = timedelta(minutes=5)
SHORT = timedelta(milliseconds=150)
NAME = "pull:salesforce:deals"


def acquire(engine: Engine, holder: str, ttl: timedelta = LONG) -> Lease | None:
    with operating(engine) as conn:
        return leases.acquire(conn, NAME, holder, ttl)


def taken(engine: Engine, holder: str, ttl: timedelta = LONG) -> Lease:
    lease = acquire(engine, holder, ttl)
    assert lease is not None
    return lease


def test_a_held_lease_cannot_be_taken_and_a_released_one_can(store: Engine) -> None:
    first = taken(store, "first")
    refused = acquire(store, "second")
    with operating(store) as conn:
        leases.release(conn, first)
    second = taken(store, "second")

    assert refused is None
    assert first.token < second.token


def test_an_expired_lease_is_taken_and_its_old_holder_can_do_nothing(store: Engine) -> None:
    frozen = taken(store, "frozen", SHORT)
    time.sleep(0.2)
    heir = taken(store, "heir")

    def commit_as_frozen() -> None:
        with writing(store) as conn:
            approve(conn, "w", "written by the frozen one")
            leases.ensure(conn, frozen)

    with pytest.raises(LeaseLost, match="taken over"):
        commit_as_frozen()
    with pytest.raises(LeaseLost), operating(store) as conn:
        leases.renew(conn, frozen, LONG)
    with operating(store) as conn:
        leases.release(conn, frozen)
    with writing(store) as conn:
        leases.ensure(conn, heir)
        assert not is_approved(conn, "w", "written by the frozen one")


def test_an_expired_lease_is_lost_even_if_nobody_took_it(store: Engine) -> None:
    lease = taken(store, "slow", SHORT)
    time.sleep(0.2)

    with pytest.raises(LeaseLost), writing(store) as conn:
        leases.ensure(conn, lease)


def test_a_renewed_lease_lasts(store: Engine) -> None:
    lease = taken(store, "worker", SHORT)
    with operating(store) as conn:
        leases.renew(conn, lease, LONG)
    time.sleep(0.2)

    assert acquire(store, "other") is None
    with writing(store) as conn:
        leases.ensure(conn, lease)


def test_the_token_only_rises(store: Engine) -> None:
    tokens = []
    for _ in range(5):
        lease = taken(store, "worker")
        tokens.append(lease.token)
        with operating(store) as conn:
            leases.release(conn, lease)

    assert sorted(set(tokens)) == tokens


@pytest.mark.usefixtures("store")
def test_of_many_who_try_at_once_one_gets_it(open_again: Callable[[], Engine]) -> None:
    got: list[Lease | None] = []
    engines = [open_again() for _ in range(6)]
    barrier = threading.Barrier(len(engines))

    def race(engine: Engine, holder: str) -> None:
        barrier.wait()
        got.append(acquire(engine, holder))

    racers = [
        threading.Thread(target=race, args=(engine, f"racer {number}"))
        for number, engine in enumerate(engines)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert len(engines) == len(got)
    assert sum(lease is not None for lease in got) == 1


def test_a_lease_cannot_change_hands_between_ensure_and_commit(
    store: Engine, open_again: Callable[[], Engine]
) -> None:
    """The holder's time runs out inside its transaction; the heir comes after the commit."""
    lease = taken(store, "slow", SHORT)
    other = open_again()
    events: list[str] = []

    def inherit() -> None:
        while True:
            try:
                with operating(other) as conn:
                    heir = leases.acquire(conn, NAME, "heir", LONG)
                    if heir is not None:
                        events.append(f"heir sees {is_approved(conn, 'w', 'f')}")
                        return
            except StoreUnavailable:
                pass
            time.sleep(0.02)

    with writing(store) as conn:
        leases.ensure(conn, lease)
        heir = threading.Thread(target=inherit)
        heir.start()
        time.sleep(0.4)
        approve(conn, "w", "f")
        events.append("slow commits")
    heir.join()

    assert events == ["slow commits", "heir sees True"]


def test_every_lease_is_shown_with_its_holder(store: Engine) -> None:
    taken(store, "worker")

    with reading(store) as conn:
        (state,) = leases.every(conn)

    assert (state.name, state.token, state.holder, state.is_held) == (NAME, 1, "worker", True)
