"""A correct configuration becomes frozen, typed values."""

from __future__ import annotations

import pickle
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from config.loader import load_with_warnings
from config.models import Cron, Interval
from config.scalars import month_number, weekday_number
from tests.unit.config.loading import BASE, ENV, loaded, problems_of, write


def test_what_is_left_out_has_sane_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, "connections: {hs: {type: hubspot, auth: {flow: token, token: x}}}")

    assert (config.version, config.database, config.broker) == (1, "sqlite:///kpisync.db", "")
    assert ZoneInfo("UTC") == config.company.timezone
    connection = config.connections["hs"]
    assert Interval(timedelta(minutes=15)) == connection.every
    assert Cron("0 3 * * SUN") == connection.full_refresh
    assert {"accounts", "deals"} == set(connection.streams)
    assert config.kpis.use == ("sales", "customer")
    assert config.kpis.periods == ("month", "quarter", "year")
    assert (timedelta(seconds=5), timedelta(seconds=60)) == (
        config.advanced.connect_timeout,
        config.advanced.read_timeout,
    )


def test_assumed_books_are_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, 'connections: {hs: {type: hubspot, auth: {flow: token, token: "${T}"}}}')

    _, warnings = load_with_warnings(path, {"T": "x"})

    assert [found.path for found in warnings] == ["company.currency", "company.timezone"]
    assert "USD is assumed" in warnings[0].message


def test_short_and_long_forms_mean_the_same(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        BASE
        + """\
    streams:
      deals:
        fields:
          region: Account.Region__c
          arr: {from: ARR__c, type: money, required: true}
          kind: {from: Type, values: {new: New Business, upsell: [Upsell, Cross-sell]}}
      accounts:
writebacks:
  health:
    to: sf.Account
    fields: {KPI_A__c: revenue, KPI_B__c: {kpi: win_rate, period: quarter}}
    round: {KPI_B__c: 3}
""",
    )

    fields = config.connections["hs"].streams["deals"].fields
    assert (
        fields["region"].source,
        fields["region"].type,
        fields["region"].required,
    ) == ("Account.Region__c", None, False)
    assert (
        fields["arr"].source,
        fields["arr"].type,
        fields["arr"].required,
    ) == ("ARR__c", "money", True)
    assert fields["kind"].canonical_values() == {
        "New Business": "new",
        "Upsell": "upsell",
        "Cross-sell": "upsell",
    }
    assert config.connections["hs"].streams["accounts"].object is None
    writeback = config.writebacks["health"]
    assert (writeback.connection, writeback.object) == ("sf", "Account")
    assert (
        writeback.fields["KPI_A__c"].kpi,
        writeback.fields["KPI_A__c"].period,
    ) == ("revenue", None)
    assert writeback.fields["KPI_B__c"].period == "quarter"
    assert writeback.round == {"KPI_B__c": 3}
    assert (
        writeback.approve,
        writeback.on_edit,
        writeback.guard.max_records,
        writeback.guard.max_changed,
        writeback.guard.never_blank,
    ) == ("first_time", "restore", 2000, None, True)


def test_dimensions_and_combinations(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        BASE
        + "kpis: {settings: {win_rate: {by: [owner, segment, [owner, region]]}, buyers: {by: []}}}",
    )

    assert config.kpis.settings["win_rate"].by == (("owner",), ("segment",), ("owner", "region"))
    assert config.kpis.settings["buyers"].by == ()


def test_numbers_are_exact(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "company: {currency: EUR, timezone: UTC, fx: {table: {USD: 0.92, JPY: 0.0061, XOF: 1}}}\n"
        + BASE.split("\n", 2)[2]
        + "writebacks: {w: {to: sf.Account, fields: {K__c: buyers}, guard: {max_changed: 2.5%}}}",
    )

    assert {"USD": Decimal("0.92"), "JPY": Decimal("0.0061"), "XOF": Decimal(1)} == (
        config.company.fx.table
    )
    assert Decimal("0.025") == config.writebacks["w"].guard.max_changed


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("15m", 900), ("1h", 3600), ("1d", 86400)]
)
def test_durations(text: str, seconds: int, tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE + f"    every: {text}\nadvanced: {{lease: {text}}}\n")

    assert Interval(timedelta(seconds=seconds)) == config.connections["hs"].every
    assert timedelta(seconds=seconds) == config.advanced.lease


def test_cron_names_may_be_small_or_capital(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE + '    every: "0 6 * Jan-mar mon-FRI"\n')

    assert Cron("0 6 * JAN-MAR MON-FRI") == config.connections["hs"].every


def test_yaml_1_2_leaves_words_and_times_alone(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        BASE + "    streams: {deals: {pipelines: [NO, on, 12:30, 2026-01-01, 0b1, 1_000]}}\n",
    )

    assert (config.connections["hs"].streams["deals"].pipelines) == (
        "NO",
        "on",
        "12:30",
        "2026-01-01",
        "0b1",
        "1_000",
    )


def test_months_and_days_have_numbers() -> None:
    assert tuple(map(month_number, ("january", "february", "december"))) == (1, 2, 12)
    assert tuple(map(weekday_number, ("monday", "sunday"))) == (0, 6)


def test_an_allowed_host_may_be_named_with_or_without_its_port(tmp_path: Path) -> None:
    for allowed in ("127.0.0.1", "127.0.0.1:8123"):
        config = loaded(
            tmp_path,
            BASE
            + "    base_url: http://127.0.0.1:8123/\n"
            + f'security: {{allow_hosts: ["{allowed}"]}}\n',
        )

        assert config.connections["hs"].base_url == "http://127.0.0.1:8123"


def test_another_address_makes_the_orgs_own_one_needless(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        """\
connections:
  sf:
    type: salesforce
    auth: {flow: client_credentials, client_id: a, client_secret: b}
    base_url: http://127.0.0.1:8123
security: {allow_hosts: [127.0.0.1]}
""",
    )

    assert problems == ()


def test_values_are_frozen_and_survive_pickling(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE)

    with pytest.raises(ValidationError):
        config.version = 2  # type: ignore[misc] - that it is refused is the point
    copy = pickle.loads(pickle.dumps(config))  # noqa: S301 - our own
    assert config == copy
    assert config.locate(("connections", "sf")) == copy.locate(("connections", "sf"))


def test_the_same_values_are_equal_wherever_they_are_written(tmp_path: Path) -> None:
    assert loaded(tmp_path, BASE) == loaded(tmp_path, "# a comment\n" + BASE)


def test_credentials_are_given_by_their_keys(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE)

    assert {
        "flow": "token",
        "access_token": ENV["TOKEN"],
        "instance_url": "https://acme.my.salesforce.com",
    } == config.connections["sf"].auth.resolved()
