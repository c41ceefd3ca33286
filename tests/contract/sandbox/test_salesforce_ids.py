"""Ids have the vendor's checksum and order."""

from sandbox.salesforce_ids import checksum, is_id, long_id, make_id


def test_the_checksum_is_the_vendors() -> None:
    # The account id of the REST API Developer Guide's examples.
    assert checksum("001D000000IqhSL") == "IAZ"


def test_15_characters_become_18_and_lost_case_comes_back() -> None:
    assert long_id("001D000000IqhSL") == "001D000000IqhSLIAZ"
    assert long_id("001d000000iqhslIAZ") == "001D000000IqhSLIAZ"


def test_what_is_no_id_stays_as_it_is() -> None:
    assert not is_id("001D000000Iqh")
    assert not is_id("001D000000IqhS-")
    assert long_id("nonsense") == "nonsense"


def test_ids_sort_as_they_were_made_and_some_differ_by_case_alone() -> None:
    made = [make_id("006", number) for number in range(200)]

    assert made == sorted(made)
    assert len(set(made)) == 200
    assert len({each[:15].lower() for each in made}) < 200
