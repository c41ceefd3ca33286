"""Promises of bad days: what passes is waited out, what does not is named, nothing is guessed."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from connectors.base import Connector
from connectors.contract.copies import Copy
from connectors.contract.org import DEAD_ADDRESS, QUICK, Ability, Calls, Fault, Org
from connectors.contract.part import Part, needs
from connectors.errors import (
    AuthenticationFailed,
    CrmUnavailable,
    MalformedAnswer,
    QuotaExhausted,
)
from connectors.registry import connect


class Troubles(Part):
    """Outages, answers that are none, quotas, refused logins."""

    @needs(Ability.FAULTS)
    def test_a_passing_outage_is_waited_out_and_told(self, org: Org) -> None:
        org.add_accounts(["Account 0001"])
        waits: list[str] = []
        settings = replace(org.settings(), on_wait=lambda reason, _seconds: waits.append(reason))
        org.spoil(Fault.BUSY, Calls.READS, times=2)
        copy = Copy()

        copy.pull(connect(settings), "accounts")

        assert copy.names() == {"Account 0001"}
        assert len(waits) == 2
        assert all("503" in reason for reason in waits)

    @needs(Ability.FAULTS)
    @pytest.mark.parametrize("fault", [Fault.HTML, Fault.CUT, Fault.EMPTY, Fault.STRANGE])
    def test_an_answer_that_is_not_one_is_asked_for_again(self, org: Org, fault: Fault) -> None:
        org.add_accounts(["Account 0001"])
        org.spoil(fault, Calls.READS)
        copy = Copy()

        copy.pull(connect(org.settings()), "accounts")

        assert copy.names() == {"Account 0001"}

    @needs(Ability.FAULTS)
    @pytest.mark.parametrize("fault", [Fault.HTML, Fault.CUT, Fault.STRANGE])
    def test_an_answer_that_is_never_one_is_a_fault_not_the_end(
        self, org: Org, fault: Fault
    ) -> None:
        org.add_accounts(["Account 0001"])
        org.spoil(fault, Calls.READS, times=None)

        with pytest.raises(MalformedAnswer):
            Copy().pull(connect(org.settings()), "accounts")

    @needs(Ability.FAULTS)
    def test_a_crm_that_never_answers_is_given_up_in_time(self, org: Org) -> None:
        tuning = replace(
            QUICK, read_timeout=timedelta(seconds=1), total_timeout=timedelta(seconds=3)
        )
        connector = connect(org.settings(tuning=tuning))
        org.spoil(Fault.SILENCE, Calls.READS, times=None)
        started = time.monotonic()

        with pytest.raises(CrmUnavailable, match="in time"):
            Copy().pull(connector, "accounts")

        assert time.monotonic() - started < 6
        org.mend()

    @needs(Ability.QUOTA)
    def test_a_used_up_quota_is_a_pause_not_the_end(self, org: Org, connector: Connector) -> None:
        org.add_accounts(["Account 0001"])
        org.use_up_the_quota()

        with pytest.raises(QuotaExhausted) as caught:
            Copy().pull(connector, "accounts")

        assert caught.value.until.tzinfo is not None

    @needs(Ability.LOGIN)
    def test_refused_credentials_say_so_without_showing_them(self, org: Org) -> None:
        connector = connect(org.settings(auth=org.wrong_credentials))

        with pytest.raises(AuthenticationFailed) as caught:
            Copy().pull(connector, "accounts")

        assert "wrong-secret" not in f"{caught.value!r} {caught.value}"

    @needs(Ability.ADDRESS)
    def test_a_crm_that_is_down_is_named_with_its_address(self, org: Org) -> None:
        with pytest.raises(CrmUnavailable) as caught:
            Copy().pull(connect(org.dead()), "accounts")

        assert DEAD_ADDRESS in str(caught.value)
