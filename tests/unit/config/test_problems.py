"""Every fault is reported at its place, in plain words, with a remedy."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from config.errors import ConfigurationError, Problem
from tests.unit.config.loading import BASE, loaded, marked, problems_of

WRITEBACK = """\
writebacks:
  health:
    to: sf.Account
    fields: {KPI_A__c: revenue}
"""

# name: (configuration with a mark where the fault stands, path, in the message, in the hint)
FAULTS: dict[str, tuple[str, str, str, str]] = {
    # --- keys
    "an unknown key at the top": (
        BASE + "¦kpi: {use: [sales]}\n",
        "kpi",
        '"kpi" is not a key of the configuration',
        'Did you mean "kpis"?',
    ),
    "an unknown key of the company": (
        "company: {currency: EUR, ¦time_zone: UTC}\n" + BASE.partition("\n")[2].partition("\n")[2],
        "company.time_zone",
        '"time_zone" is not a key of company',
        'Did you mean "timezone"?',
    ),
    "an unknown key deep inside": (
        BASE + "    streams:\n      deals:\n        fields:\n          a: {from: b, ¦typ: text}\n",
        "connections.hs.streams.deals.fields.a.typ",
        '"typ" is not a key',
        'Did you mean "type"?',
    ),
    "an unknown key of the guard": (
        BASE + WRITEBACK + "    guard: {¦max_record: 5}\n",
        "writebacks.health.guard.max_record",
        '"max_record" is not a key of writebacks.health.guard',
        'Did you mean "max_records"?',
    ),
    "a key set twice": (
        BASE + "kpis: {use: [sales], ¦use: [customer]}\n",
        "kpis.use",
        '"use" is set twice; the first time at ',
        "Keep one",
    ),
    "a missing key": (
        BASE + "writebacks:\n  ¦health: {to: sf.Account}\n",
        "writebacks.health.fields",
        '"fields" is missing',
        "API name of a field",
    ),
    "no connections": (
        "¦version: 1\ncompany: {currency: EUR, timezone: UTC}\n",
        "connections",
        '"connections" is missing',
        "CRMs to read",
    ),
    "an empty list of connections": (
        "version: 1\n¦connections: {}\n",
        "connections",
        "At least one connection",
        "type: salesforce",
    ),
    "an unknown stream": (
        BASE + "    streams: {¦deal: {}}\n",
        "connections.hs.streams.deal",
        '"deal" is not known in connections.hs.streams',
        'Did you mean "deals"?',
    ),
    "an implied stream": (
        BASE + "    streams: {¦stages: {}}\n",
        "connections.hs.streams.stages",
        '"stages" needs no entry',
        "Remove it",
    ),
    "a connection with a bad name": (
        BASE + "  ¦9 lives: {type: hubspot, auth: {flow: token, token: x}}\n",
        "connections.9 lives",
        '"9 lives" is not a name of letters',
        "",
    ),
    # --- types
    "text instead of a section": (
        BASE + "kpis: ¦sales\n",
        "kpis",
        '"sales" stands where keys are expected',
        "KEY: VALUE",
    ),
    "text instead of a list": (
        BASE + "kpis: {use: ¦sales}\n",
        "kpis.use",
        '"sales" is not a list',
        "square brackets",
    ),
    "a number where text is needed": (
        BASE + "    api_version: ¦62.0\n",
        "connections.hs.api_version",
        '"62.0" is not text',
        "in quotes",
    ),
    "YAML 1.1's yes": (
        BASE + WRITEBACK + "    guard: {never_blank: ¦yes}\n",
        "writebacks.health.guard.never_blank",
        '"yes" is neither true nor false',
        "Write true or false",
    ),
    "a quoted number": (
        BASE + 'advanced: {canary: ¦"20"}\n',
        "advanced.canary",
        '"20" is not a whole number',
        "",
    ),
    "a number out of range": (
        BASE + "advanced: {retry_attempts: ¦0}\n",
        "advanced.retry_attempts",
        '"0" is out of range: 1 to 100',
        "",
    ),
    "a version nobody knows": (
        BASE.replace("version: 1", "version: ¦2"),
        "version",
        '"2" is no version',
        "version: 1",
    ),
    "a version that is no number": (
        BASE.replace("version: 1", "version: ¦true"),
        "version",
        '"true" is no version',
        "version: 1",
    ),
    "a percentage without its sign": (
        BASE + WRITEBACK + "    guard: {max_changed: ¦25}\n",
        "writebacks.health.guard.max_changed",
        '"25" is not a percentage',
        "25%",
    ),
    # --- names from a list
    "an unknown CRM": (
        BASE.replace("type: hubspot", "type: hubspott").replace("  hs:\n    ", "  hs:\n    ¦"),
        "connections.hs",
        '"hubspott" is no known "type"',
        'Did you mean "hubspot"?',
    ),
    "a type that no installed package brings": (
        BASE.replace("type: hubspot", "type: pipedream").replace("  hs:\n    ", "  hs:\n    ¦"),
        "connections.hs",
        '"pipedream" is no known "type"',
        "Install the package that brings it.",
    ),
    "a connection without a type": (
        BASE + "  new:\n    ¦every: 5m\n",
        "connections.new",
        '"type" is missing',
        "salesforce, hubspot",
    ),
    "an unknown flow": (
        BASE + "  new: {type: hubspot, auth: ¦{flow: tokn, token: x}}\n",
        "connections.new.auth",
        '"tokn" is no known "flow"',
        'Did you mean "token"?',
    ),
    "an unknown pack": (
        BASE + "kpis: {use: [¦sale]}\n",
        "kpis.use[0]",
        '"sale" cannot stand here',
        'Did you mean "sales"?',
    ),
    "an unknown period": (
        BASE + "kpis: {periods: [month, ¦quater]}\n",
        "kpis.periods[1]",
        '"quater" cannot stand here',
        'Did you mean "quarter"?',
    ),
    "an unknown currency": (
        "company: {currency: ¦eur, timezone: UTC}\n" + BASE.split("\n", 2)[2],
        "company.currency",
        '"eur" is not a currency code',
        'Did you mean "EUR"?',
    ),
    "an unknown time zone": (
        "company: {currency: EUR, timezone: ¦Europe/Berln}\n" + BASE.split("\n", 2)[2],
        "company.timezone",
        '"Europe/Berln" is not a time zone',
        'Did you mean "Europe/Berlin"?',
    ),
    "an unknown month": (
        "company: {currency: EUR, timezone: UTC, fiscal_year_starts: ¦Febuary}\n"
        + BASE.split("\n", 2)[2],
        "company.fiscal_year_starts",
        '"Febuary" is not the name of a month',
        'Did you mean "february"?',
    ),
    # --- durations and schedules
    "a schedule in words": (
        BASE + "    every: ¦hourly\n",
        "connections.hs.every",
        "neither an interval nor a cron expression",
        "15m",
    ),
    "a cron expression of six fields": (
        BASE + '    every: ¦"0 0 6 * * mon"\n',
        "connections.hs.every",
        "has 6 fields, a cron expression has 5",
        "minute hour day month weekday",
    ),
    "a week that ends in sunday": (
        BASE + '    full_refresh: ¦"0 3 * * fri-sun"\n',
        "connections.hs.full_refresh",
        "The day-of-week field",
        "fri,sat,sun",
    ),
    "the 30th of February": (
        BASE + '    full_refresh: ¦"0 3 30 2 *"\n',
        "connections.hs.full_refresh",
        "The day-of-month field",
        "Five fields",
    ),
    "a duration of nothing": (
        BASE + "advanced: {lease: ¦0s}\n",
        "advanced.lease",
        '"0s" is too short',
        "1s",
    ),
    "a duration without a unit": (
        BASE + "advanced: {read_timeout: ¦60}\n",
        "advanced.read_timeout",
        '"60" is not a duration',
        "90s, 15m",
    ),
    "a duration of centuries": (
        BASE + "advanced: {keep_outbox: ¦999999999d}\n",
        "advanced.keep_outbox",
        "longer than ten years",
        "",
    ),
    # --- links between parts
    "a write-back to nowhere": (
        BASE + WRITEBACK.replace("to: sf", "to: ¦sff"),
        "writebacks.health.to",
        'There is no connection "sff"',
        'Did you mean "sf"?',
    ),
    "a write-back without an object": (
        BASE + WRITEBACK.replace("sf.Account", "¦sf"),
        "writebacks.health.to",
        '"sf" is not CONNECTION.OBJECT',
        "salesforce.Account",
    ),
    "a write-back in hours that are none": (
        BASE + WRITEBACK + "    quiet: ¦22-6\n",
        "writebacks.health.quiet",
        "is no span of hours",
        "22:00-06:00",
    ),
    "a range that ends before it begins": (
        BASE + WRITEBACK + "    guard: {range: {KPI__c: ¦[1, 0]}}\n",
        "writebacks.health.guard.range.KPI__c",
        "The range ends before it begins",
        "lower bound first",
    ),
    "a write-back of nothing": (
        BASE + "writebacks: {health: {to: sf.Account, fields: ¦{}}}\n",
        "writebacks.health.fields",
        "At least one entry",
        "Add one",
    ),
    "two write-backs of one field": (
        BASE + WRITEBACK + "  again: {to: sf.Account, fields: {¦kpi_a__c: buyers}}\n",
        "writebacks.again.fields.kpi_a__c",
        "already written by writebacks.health.fields",
        "undo each other",
    ),
    "a stamp that is a KPI field": (
        BASE + WRITEBACK + "    stamp: ¦KPI_A__c\n",
        "writebacks.health.stamp",
        '"KPI_A__c" already carries a KPI',
        "field of its own",
    ),
    "rounding of a field that is not written": (
        BASE + WRITEBACK + "    round: {¦KPI_B__c: 2}\n",
        "writebacks.health.round.KPI_B__c",
        '"KPI_B__c" is not written',
        'Did you mean "KPI_A__c"?',
    ),
    "a write-back of a skipped KPI": (
        BASE + WRITEBACK.replace(": revenue", ": ¦revenue") + "kpis: {skip: [revenue]}\n",
        "writebacks.health.fields.KPI_A__c",
        '"revenue" is left out by kpis.skip',
        "here or there",
    ),
    "settings of a skipped KPI": (
        BASE + "kpis: {skip: [win_rate], settings: {¦win_rate: {by: [owner]}}}\n",
        "kpis.settings.win_rate",
        '"win_rate" is left out by kpis.skip',
        "here or there",
    ),
    "a KPI skipped twice": (
        BASE + "kpis: {skip: [buyers, ¦buyers]}\n",
        "kpis.skip[1]",
        '"buyers" is listed twice',
        "Remove one",
    ),
    "a dimension twice in a combination": (
        BASE + "kpis: {settings: {win_rate: {by: [owner, ¦[owner, owner]]}}}\n",
        "kpis.settings.win_rate.by[1]",
        "stands twice",
        "once",
    ),
    "a rate of the company's own currency": (
        "company: {currency: EUR, timezone: UTC, fx: {table: {USD: 0.9, ¦EUR: 1}}}\n"
        + BASE.split("\n", 2)[2],
        "company.fx.table.EUR",
        "the company's own currency",
        "Remove it",
    ),
    "a rate of zero": (
        "company: {currency: EUR, timezone: UTC, fx: {table: {USD: ¦0}}}\n"
        + BASE.split("\n", 2)[2],
        "company.fx.table.USD",
        '"0" is not a positive number',
        "0.92",
    ),
    "one CRM value with two meanings": (
        BASE
        + "    streams: {deals: {fields: {kind: {from: t, values: {new: [A], ¦other: [A]}}}}}\n",
        "connections.hs.streams.deals.fields.kind.values.other",
        '"A" already means "new"',
        "once",
    ),
    "a strange address": (
        BASE + "    base_url: ¦http://127.0.0.1:9999\n",
        "connections.hs.base_url",
        'The host of "http://127.0.0.1:9999" is not allowed',
        "security.allow_hosts",
    ),
    "an allowed host on another port": (
        BASE + "    base_url: ¦http://127.0.0.1:9999\nsecurity: {allow_hosts: [127.0.0.1:80]}\n",
        "connections.hs.base_url",
        "is not allowed",
        "security.allow_hosts",
    ),
    "a password in an address": (
        BASE + "    base_url: ¦https://me:pw@proxy.example\n"
        "security: {allow_hosts: [proxy.example]}\n",
        "connections.hs.base_url",
        "carries a user name or password",
        "Leave them out",
    ),
    "an allowed host with its scheme": (
        BASE + "security: {allow_hosts: [¦http://127.0.0.1]}\n",
        "security.allow_hosts[0]",
        "is not a host or host:port",
        "without http://",
    ),
    "an org over plain http": (
        BASE.replace("https://acme", "¦http://acme"),
        "connections.sf.auth.instance_url",
        "plain http",
        "https://",
    ),
    "a database of another kind": (
        BASE + "database: ¦mysql://somewhere/db\n",
        "database",
        "This URL does not begin as it should",
        "sqlite:// or postgresql://",
    ),
    "client credentials at the general login": (
        BASE + "  x: {type: salesforce, auth: {flow: client_credentials, domain: ¦login,"
        ' client_id: "${TOKEN}", client_secret: "${TOKEN}"}}\n',
        "connections.x.auth.domain",
        "My Domain alone",
        "acme.my",
    ),
    "client credentials without a domain": (
        BASE + "  x: {type: salesforce, ¦auth: {flow: client_credentials,"
        ' client_id: "${TOKEN}", client_secret: "${TOKEN}"}}\n',
        "connections.x.auth.domain",
        '"domain" is missing',
        "acme.my",
    ),
    # --- what is not supported yet
    "a sink of another kind": (
        BASE + 'sinks: {bi: {type: ¦mysql, url: "sqlite:///bi.db"}}\n',
        "sinks.bi.type",
        '"mysql" cannot stand here',
        "postgres, sqlite",
    ),
    "an unknown period of a field": (
        BASE + WRITEBACK.replace("revenue", "{kpi: revenue, period: ¦Quarter}"),
        "writebacks.health.fields.KPI_A__c.period",
        '"Quarter" is not a period',
        'Did you mean "quarter"?',
    ),
    # --- YAML itself
    "a tab": (BASE + "kpis:\n¦\tuse: [sales]\n", "", "A tab stands", "spaces"),
    "a colon too many": (BASE + "kpis: use¦: sales\n", "", "A ':' stands", "quotes"),
    "a bracket left open": (BASE + "kpis: {use: [sales¦}\n", "", "not closed", "Complete"),
    "quotes left open": (BASE + 'database: "sqlite:///x\n¦', "", "inside a quoted", "Close"),
    "a slipped indent": (BASE + " ¦kpis: {}\n", "", "line up", "indentation"),
    "a percent sign in front": (BASE + "kpis: ¦%x\n", "", "cannot begin", "quotes"),
    "an unknown escape": (BASE + 'database: "\\¦q"\n', "", "no such backslash escape", "\\\\"),
    "an escape beyond Unicode": (BASE + '¦database: "\\UFFFFFFFF"\n', "", "", ""),
    "half a character": (
        BASE + 'database: ¦"sqlite:///\\ud800"\n',
        "database",
        "no character",
        "Remove",
    ),
    "a tag": (BASE + "database: ¦!!python/name:os.system x\n", "database", "Tags", "Leave"),
    "an anchor": (BASE + "kpis: ¦&all {use: [sales]}\n", "kpis", "Anchors", "Write"),
    "an alias": (BASE + "kpis: ¦*all\n", "kpis", "Aliases", "Write the value out"),
    "a merge key": (BASE + "kpis: {¦<<: {use: [sales]}}\n", "kpis.<<", "is not a key", "one of"),
    "a list as a key": (BASE + "kpis:\n  ¦[a, b]: c\n", "kpis", "A key must be plain", "KEY"),
    "a second document": (BASE + "¦---\nkpis: {}\n", "", "second YAML document", "one document"),
    "an older YAML": ("%YAML 1.1\n¦---\n" + BASE, "", "YAML 1.2", "%YAML"),
    "a control character": (BASE + "kpis: {use: [s¦\x07]}\n", "", "U+0007", "Remove it"),
    "a list at the top": ("¦- a\n- b\n", "", "no KEY: VALUE pairs", "company"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_at_its_place_with_a_remedy(name: str, tmp_path: Path) -> None:
    text, path, message, hint = FAULTS[name]
    text, line, column = marked(text)

    problems = problems_of(tmp_path, text)

    assert [(str(tmp_path / "kpisync.yaml"), line, column, path)] == [
        (found.file, found.line, found.column, found.path) for found in problems
    ], "\n".join(map(str, problems))
    assert message in problems[0].message
    assert hint in problems[0].hint


def test_all_problems_come_at_once_sorted_by_place(tmp_path: Path) -> None:
    text = (
        BASE
        + "    evry: 5m\nkpis: {use: [sales, marketing, nonsense]}\nalerts: {rules: 5}\n"
        + WRITEBACK.replace("sf.Account", "nowhere.Account")
        + '    stamp: "${NOT_SET}"\n'
    )

    problems = problems_of(tmp_path, text)

    assert [found.path for found in problems] == [
        "connections.hs.evry",
        "kpis.use[2]",
        "alerts.rules",
        "writebacks.health.to",
        "writebacks.health.stamp",
    ]
    assert list(problems) == sorted(problems)


def test_an_error_reads_as_place_path_fault_and_remedy() -> None:
    error = ConfigurationError(
        [
            Problem(
                "kpisync.yaml",
                74,
                14,
                "writebacks.account_health.fields",
                '"Win_Rate" is not a field of Account on connection "sales-eu".',
                'Did you mean "Win_Rate__c"?',
            )
        ]
    )

    assert str(error) == (
        "kpisync.yaml:74:14  writebacks.account_health.fields\n"
        '  "Win_Rate" is not a field of Account on connection "sales-eu".\n'
        '  Did you mean "Win_Rate__c"?'
    )
    assert pickle.loads(pickle.dumps(error)).problems == error.problems  # noqa: S301 - our own


def test_the_runtime_reports_in_the_same_form(tmp_path: Path) -> None:
    text, line, column = marked(BASE + WRITEBACK.replace("{KPI_A__c", "{¦KPI_A__c"))
    config = loaded(tmp_path, text)
    path = ("writebacks", "health", "fields", "KPI_A__c")

    unknown_field = config.problem(path, "No such field.", key=True)
    unknown_kpi = config.problem(path, "No such KPI.")

    assert (line, column) == (unknown_field.line, unknown_field.column)
    assert unknown_field.path == "writebacks.health.fields"
    assert (line, column + len("KPI_A__c: ")) == (unknown_kpi.line, unknown_kpi.column)
    assert unknown_kpi.path == "writebacks.health.fields.KPI_A__c"


def test_what_is_not_written_has_the_place_of_its_parent(tmp_path: Path) -> None:
    text, line, column = marked(BASE + WRITEBACK.replace("  health", "  ¦health"))
    config = loaded(tmp_path, text)

    place = config.locate(("writebacks", "health", "guard", "max_records"))

    assert (line, column) == (place.line, place.column)
