"""Promises of `check`: everything that is wrong, each with a place and a remedy, no secret."""

from __future__ import annotations

from connectors.base import Connector, FieldSource, StreamSettings
from connectors.contract.copies import but_rights
from connectors.contract.org import DEAD_ADDRESS, Ability, Calls, Fault, Org
from connectors.contract.part import Part, needs
from connectors.registry import connect


class Looking(Part):
    """``check``, and what is shown of settings."""

    def test_a_good_connection_has_no_problem(self, org: Org, connector: Connector) -> None:
        org.add_accounts(["Account 0001"])
        org.add_deals(1)

        report = connector.check()

        assert but_rights(report.problems) == []
        assert report.org_id or Ability.ORG_ID in org.lacks

    @needs(Ability.LOGIN)
    def test_check_names_wrong_credentials_and_the_remedy(self, org: Org) -> None:
        report = connect(org.settings(auth=org.wrong_credentials)).check()

        (problem,) = report.problems
        assert problem.is_error
        assert problem.place == f"connections.{org.name}.auth"
        assert problem.remedy
        assert "wrong-secret" not in repr(report)

    @needs(Ability.ADDRESS)
    def test_check_names_a_crm_that_is_down(self, org: Org) -> None:
        report = connect(org.dead()).check()

        assert not report.is_ok
        assert DEAD_ADDRESS in report.problems[0].message

    @needs(Ability.FAULTS)
    def test_check_of_a_crm_in_trouble_reports_instead_of_raising(
        self, org: Org, connector: Connector
    ) -> None:
        org.spoil(Fault.HTML, Calls.ALL, times=None)

        assert not connector.check().is_ok

    @needs(Ability.FIELD_RIGHTS, Ability.OWN_FIELDS)
    def test_check_names_every_missing_field(self, org: Org) -> None:
        mapping = {"note": FieldSource("no_such_field__c")}
        hidden = org.hide_amounts()
        connector = connect(org.settings(streams={"deals": StreamSettings(fields=mapping)}))

        problems = but_rights(connector.check().problems)

        (required,) = (problem for problem in problems if problem.is_error)
        (optional,) = (problem for problem in problems if not problem.is_error)
        assert hidden in required.message
        assert "no_such_field__c" in optional.message

    @needs(Ability.LOGIN)
    def test_settings_and_connector_show_no_secret(self, org: Org) -> None:
        settings = org.settings(auth=org.wrong_credentials)

        assert "wrong-secret" not in f"{settings!r} {connect(settings)!r}"
