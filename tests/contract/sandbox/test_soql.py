"""The SOQL parser is as strict as the vendor's."""

# ruff: noqa: S608 - SOQL for an org that exists for this test alone

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from sandbox.soql import Comparison, Junction, SoqlError, like_pattern, parse, plain_text


def where(condition: str) -> object:
    return parse(f"SELECT Id FROM Opportunity WHERE {condition}").where


def refused(text: str) -> SoqlError:
    with pytest.raises(SoqlError) as caught:
        parse(text)
    return caught.value


def literal(text: str) -> object:
    comparison = where(f"Field__c = {text}")
    assert isinstance(comparison, Comparison)
    return comparison.values[0].value


def test_a_whole_statement_is_taken_apart() -> None:
    query = parse(
        "SELECT Id, Owner.Name FROM Opportunity WHERE IsWon = true "
        "ORDER BY SystemModstamp, Id DESC NULLS LAST LIMIT 2000 OFFSET 5"
    )

    assert [field.text for field in query.fields] == ["Id", "Owner.Name"]
    assert query.object == "Opportunity"
    assert [(o.field.text, o.descending, o.nulls_last) for o in query.order] == [
        ("SystemModstamp", False, False),
        ("Id", True, True),
    ]
    assert (query.limit, query.offset, query.is_count) == (2000, 5, False)


def test_keywords_may_be_written_in_any_case() -> None:
    query = parse("select Id from Account where Name like 'A%' order by Name limit 1")

    assert query.limit == 1


def test_an_alias_and_the_object_name_may_stand_before_a_field() -> None:
    query = parse("SELECT o.Id, Opportunity.Owner.Name FROM Opportunity o WHERE o.Amount > 1")

    assert [field.names for field in query.fields] == [("Id",), ("Owner", "Name")]
    assert isinstance(query.where, Comparison)
    assert query.where.field.names == ("Amount",)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'x'", "x"),
        ("12.50", Decimal("12.50")),
        ("-3", Decimal(-3)),
        ("TRUE", True),
        ("null", None),
        ("2026-11-22", date(2026, 11, 22)),
        ("2026-11-22T02:00:00Z", datetime(2026, 11, 22, 2, tzinfo=UTC)),
        ("2026-11-22T02:00:00.000+0100", datetime(2026, 11, 22, 1, tzinfo=UTC)),
    ],
)
def test_a_literal_has_the_kind_its_spelling_gives_it(text: str, value: object) -> None:
    assert literal(text) == value


@pytest.mark.parametrize("text", ["2026-11-22T02:00:00", "2026-02-30", "2026-11-22 02:00:00", "x"])
def test_an_instant_without_zone_an_impossible_day_and_a_bare_word_are_refused(text: str) -> None:
    assert refused(f"SELECT Id FROM A WHERE B = {text}").code == "MALFORMED_QUERY"


def test_escapes_in_strings_are_read_and_others_refused() -> None:
    assert literal(r"'it\'s \"a\" \\ \n\u00e9'") == 'it\'s "a" \\\\ \né'
    assert plain_text(r"a\\b\_c\%") == r"a\b_c%"
    assert refused(r"SELECT Id FROM A WHERE B = 'a\q'").code == "MALFORMED_QUERY"


def test_and_and_or_may_not_be_mixed_without_parentheses() -> None:
    for mixed in ("A = 1 AND B = 2 OR C = 3", "A = 1 OR B = 2 AND C = 3", "NOT A = 1 AND B = 2"):
        error = refused(f"SELECT Id FROM X WHERE {mixed}")
        assert error.code == "MALFORMED_QUERY"
        assert "unexpected token" in error.message

    assert isinstance(where("A = 1 AND (B = 2 OR C = 3) AND (NOT D = 4)"), Junction)


def test_not_in_the_middle_needs_parentheses() -> None:
    assert (
        "unexpected token: 'NOT'" in refused("SELECT Id FROM X WHERE A = 1 AND NOT B = 2").message
    )


def test_the_error_names_row_and_column() -> None:
    error = refused("SELECT Id FRM Account")

    assert "ERROR at Row:1:Column:11" in error.message
    assert "unexpected token: 'FRM'" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM Account",
        "SELECT Id, FROM Account",
        "SELECT Id FROM Account WHERE Name == 'x'",
        "SELECT Id FROM Account WHERE Name IN ()",
        "SELECT Id FROM Account WHERE SomeField__c IS NULL",
        'SELECT Id FROM Account WHERE Name = "x"',
        "SELECT Id FROM Account WHERE Name = 'x",
        "SELECT Id FROM Account LIMIT x",
        "SELECT Id FROM Account LIMIT 1 LIMIT 2",
        "SELECT COUNT(), Id FROM Account",
        "SELECT COUNT() FROM Account ORDER BY Name",
        "",
    ],
)
def test_what_the_vendor_cannot_read_is_malformed(text: str) -> None:
    assert refused(text).code == "MALFORMED_QUERY"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT COUNT(Id) FROM Account",
        "SELECT Id, (SELECT Id FROM Contacts) FROM Account",
        "SELECT StageName FROM Opportunity GROUP BY StageName",
        "SELECT Id FROM Opportunity WHERE CloseDate = THIS_QUARTER",
        "SELECT Id FROM Account WHERE Id IN (SELECT AccountId FROM Opportunity)",
    ],
)
def test_what_only_the_sandbox_cannot_do_says_so(text: str) -> None:
    assert "the sandbox does not simulate" in refused(text).message


def test_an_offset_above_2000_is_refused() -> None:
    assert refused("SELECT Id FROM A LIMIT 1 OFFSET 2001").code == "NUMBER_OUTSIDE_VALID_RANGE"


def test_a_statement_above_100000_characters_is_refused() -> None:
    assert refused(f"SELECT Id FROM A WHERE B = '{'x' * 100_000}'").code == "MALFORMED_QUERY"


def test_count_is_the_only_element() -> None:
    assert parse("SELECT COUNT() FROM Account WHERE Name = 'x'").is_count


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("a%", "Acme", True),
        ("%", "", True),
        ("a_me", "ACME", True),
        ("a_me", "Acmee", False),
        (r"50\%", "50%", True),
        (r"50\%", "500", False),
        ("a.c", "abc", False),
    ],
)
def test_like_knows_two_wildcards_and_no_case(pattern: str, text: str, *, fits: bool) -> None:
    assert (like_pattern(pattern).fullmatch(text) is not None) is fits
