"""What a record's values say about who it is, as they are compared."""

from __future__ import annotations

import pytest

from sandbox.salesforce_ids import checksum
from store.identity_evidence import certainty, compared_value, domain_of, email_of, with_checksum
from store.identity_rules import MatchRule

DOMAIN = MatchRule("domain", "domain website", (("*", "domain"),))
EMAIL = MatchRule("email", "email email", (("*", "email"),), frozenset({"ignored.org"}))
KEY = MatchRule("key", "key vat", (("*", "vat"),))
SAME = MatchRule("same", "same hub.twin = crm.Id", (("crm", ""),), has_salesforce_ids=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("acme.com", "acme.com"),
        (" https://WWW.Acme.com:8443/about?x=1#top ", "acme.com"),
        ("http://somebody@shop.acme.co.uk/", "acme.co.uk"),
        ("mailto:info@mail.acme.de", "acme.de"),
        ("acme.com.", "acme.com"),
        ("www.münchen.de", "xn--mnchen-3ya.de"),
        # A whole country, or a hoster, is nobody's; what is registered below it is somebody's.
        ("co.uk", None),
        ("github.io", None),
        ("acme.github.io", "acme.github.io"),
        ("foo.bar.ck", "foo.bar.ck"),
        ("www.ck", "www.ck"),
        # A mailbox or a page of many proves nothing.
        ("somebody@gmail.com", None),
        ("https://www.linkedin.com/company/acme", None),
        ("192.0.2.1", None),
        ("https://[2001:db8::1]/", None),
        ("localhost", None),
        ("a..b.com", None),
        ("", None),
    ],
)
def test_of_an_address_the_domain_counts_that_somebody_registered(
    text: str, expected: str | None
) -> None:
    assert domain_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" <Ana@Acme.COM> ", "ana@acme.com"),
        ("ana@acme", None),
        ("ana@b@acme.com", None),
        ("ana b@acme.com", None),
        ("acme.com", None),
    ],
)
def test_an_email_address_is_compared_without_its_case(text: str, expected: str | None) -> None:
    assert email_of(text) == expected


@pytest.mark.parametrize("short", ["001A0000006Vm9r", "a0BzzZZ00000ABC", "000000000000000"])
def test_a_short_id_of_salesforce_is_its_long_one(short: str) -> None:
    long = short + checksum(short)

    assert with_checksum(short) == long
    assert compared_value(SAME, short) == compared_value(SAME, f" {long} ") == long


def test_the_checksum_is_the_vendors() -> None:
    assert with_checksum("001A0000006Vm9r") == "001A0000006Vm9rIAC"
    assert with_checksum("003D000000QV9n2") == "003D000000QV9n2IAD"


def test_own_keys_lose_case_and_blanks_and_what_is_ignored_proves_nothing() -> None:
    assert compared_value(KEY, " DE 123 ab ") == "de123ab"
    assert compared_value(KEY, "x" * 251) is None
    assert compared_value(EMAIL, "ana@ignored.org") is None


@pytest.mark.parametrize(
    ("one", "other", "is_sure"),
    [
        ("Acme GmbH", "ACME, Inc.", True),
        ("Müller & Söhne", "Muller und Sohne", True),
        ("Acme", "Acme Pumps", True),
        ("IBM", "International Business Machines", True),
        ("Acme", None, True),
        ("Acme", "Zebra", False),
    ],
)
def test_names_make_a_match_by_domain_surer_or_a_question(
    one: str, other: str | None, is_sure: bool
) -> None:
    assert (certainty(DOMAIN, "acme.com", one, other) >= 750) is is_sure


def test_a_mailbox_of_an_office_and_two_names_are_a_question() -> None:
    assert certainty(EMAIL, "info@acme.com", "North", "South") < 750
    assert certainty(EMAIL, "ana@acme.com", "North", "South") >= 750
