"""init: a first configuration from what a CRM shows, and what it says where it cannot be made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from config.loader import load
from config.models import Config
from connectors.base import Books
from sandbox.hubspot_settings import ALL_SCOPES
from store import approvals
from store.engine import open_store, writing
from store.schema import ensure_current
from tests.fixtures.sandboxes import Sandbox, launch
from worker.cli.app import load_commands, run_command
from worker.cli.firstlook import CrmLook, StreamLook
from worker.cli.firstyaml import KINDS, Access, Draft, first_yaml
from worker.cli.logins import LOGINS, likeliest

SECRETS = {
    "SF_CLIENT_ID": "sandbox-client",
    "SF_CLIENT_SECRET": "sandbox-secret",
    "HUBSPOT_TOKEN": "pat-na1-sandbox",
}
WRONG = "wrong-and-very-secret"
USERNAME = "integration@sandbox.example"
PASSWORDS = {
    "SF_USERNAME": USERNAME,
    "SF_PASSWORD": "sandbox-password",
    "SF_SECURITY_TOKEN": "sandbox-security-token",
}
GRANT = {
    "HUBSPOT_CLIENT_ID": "sandbox-app",
    "HUBSPOT_CLIENT_SECRET": "sandbox-app-secret",
    "HUBSPOT_REFRESH_TOKEN": "sandbox-refresh",
}


@dataclass
class Said:
    """What a command left behind."""

    exit_code: int
    text: str


@dataclass
class Init:
    """Runs ``kpisync init`` in this process, in a folder of its own and without a terminal."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def file(self) -> Path:
        return self.folder / "kpisync.yaml"

    @property
    def config(self) -> Config:
        return load(self.file, SECRETS)

    def __call__(self, *arguments: str) -> Said:
        self.capture.readouterr()
        code = run_command(["init", *arguments])
        said = self.capture.readouterr()
        return Said(code, said.out + said.err)


@pytest.fixture(scope="module")
def company() -> Iterator[Sandbox]:
    with launch("--seed", "7", "--size", "20") as sandbox:
        yield sandbox


@pytest.fixture
def init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Init:
    load_commands()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("KPISYNC_CONFIG", raising=False)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return Init(tmp_path, capsys)


def salesforce(company: Sandbox, *more: str) -> list[str]:
    return ["--connect", "salesforce", "--base-url", company.salesforce.url, *more]


def hubspot(company: Sandbox, *more: str) -> list[str]:
    return ["--connect", "hubspot", "--base-url", company.hubspot.url, *more]


def test_one_org_becomes_a_valid_file_with_what_it_holds(init: Init, company: Sandbox) -> None:
    crm = company.salesforce
    crm.admin("field", object="Opportunity", name="Segment__c", type="string", label="Segment")
    crm.admin("field", object="Opportunity", name="Rating__c", type="string", label="Rating")
    crm.admin("field", object="Opportunity", name="Unused__c", type="string", label="Unused")
    deals = [str(one["id"]) for one in crm.snapshot()["Opportunity"] if not one["deleted"]]
    crm.edit("Opportunity", deals, {"Segment__c": "Enterprise"})
    crm.edit("Opportunity", deals[: len(deals) // 2], {"Rating__c": "A: #1\n- x: y"})

    said = init(*salesforce(company, "--currency", "EUR", "--company", 'A ${X} "B"\n#: c'))

    assert said.exit_code == 0, said.text
    config, text = init.config, init.file.read_text(encoding="utf-8")
    assert (config.company.currency, config.company.timezone.key) == ("EUR", "UTC")
    assert config.company.name == 'A ${X} "B" #: c'
    streams = config.connections["salesforce"].streams
    assert {"accounts", "deals", "leads", "campaigns", "tickets", "contracts"} <= set(streams)
    mapped = {name: one.source for name, one in streams["deals"].fields.items()}
    assert mapped == {"product": "Product__c", "segment": "Segment__c"}
    assert streams["survey_responses"].object == "Survey_Response__c"
    assert streams["survey_responses"].fields["score"].source == "Score__c"
    assert "x_rating: Rating__c   # string;" in text
    assert "Unused__c" not in text
    assert "Closed Won (won), Closed Lost (lost)" in text
    assert config.kpis.use == ("sales", "customer", "marketing", "service")
    assert {"email_open_rate"} <= set(config.kpis.skip)
    assert config.writebacks["account_kpis"].approve == "first_time"
    assert_no_secret(said.text + text)
    assert run_command(["check"]) == 0
    assert run_command(["check", "--online"]) == 0
    approve("account_kpis", init.folder)
    assert run_command(["check", "--online"]) == 1


def approve(writeback: str, folder: Path) -> None:
    """From now on its fields are known to have been there."""
    engine = open_store(f"sqlite:///{folder / 'kpisync.db'}")
    ensure_current(engine)
    with writing(engine) as conn:
        approvals.approve(conn, writeback, "as it was then")
    engine.dispose()


def test_what_the_login_may_not_read_or_write_stands_in_comments(
    init: Init, company: Sandbox
) -> None:
    scopes = [one for one in ALL_SCOPES if "tickets" not in one and "campaigns" not in one]
    company.hubspot.settings(scopes=scopes, time_zone="Europe/Berlin", company_currency="EUR")
    company.salesforce.settings(hide_objects=["Account", "Case"])
    try:
        said = init(
            *("--connect", "salesforce", "--connect", "hubspot"),
            *("--base-url", f"salesforce={company.salesforce.url}"),
            *("--base-url", f"hubspot={company.hubspot.url}"),
        )
    finally:
        company.salesforce.settings(show_objects=["Account", "Case"])
        company.hubspot.settings(scopes=sorted(ALL_SCOPES), time_zone="UTC", company_currency="USD")

    assert said.exit_code == 0, said.text
    config, text = init.config, init.file.read_text(encoding="utf-8")
    assert (config.company.currency, config.company.timezone.key) == ("USD", "UTC")
    assert "timezone: UTC   # as salesforce has it; hubspot has Europe/Berlin" in text
    assert "currency: USD   # as salesforce has it; hubspot has EUR" in text
    assert "# fx: {table: {EUR: 1.0}}" in text
    streams = {name: set(one.streams) for name, one in config.connections.items()}
    assert streams["salesforce"].isdisjoint({"accounts", "tickets"})
    assert streams["hubspot"].isdisjoint({"tickets", "campaigns"})
    assert reasons(text, "tickets")[1].startswith("The access token lacks the scope")
    assert "read access" in reasons(text, "accounts")[0]
    assert list(config.writebacks) == ["company_kpis"]
    assert "# Not active: accounts cannot be read" in text
    assert "  #   to: salesforce.Account" in text
    assert [rule.email for rule in config.identity.owners.match] == ["email"]
    assert_no_secret(said.text + text)


def reasons(text: str, stream: str) -> list[str]:
    """Why a stream is not read, for each CRM that has it."""
    mark = f"# {stream}: {{}}   # "
    return [line.partition(mark)[2] for line in text.splitlines() if mark in line]


@pytest.mark.parametrize(
    ("books", "expected"),
    [
        (Books(currency="EUR", more_currencies=("USD",), gives_rates=True), "salesforce"),
        (Books(currency="USD", more_currencies=("EUR",), gives_rates=True), "salesforce"),
        (Books(currency="EUR", more_currencies=("USD",)), None),
        (Books(currency="USD", gives_rates=True), None),
    ],
)
def test_several_currencies_need_rates_and_say_so(books: Books, expected: str | None) -> None:
    access = Access(KINDS["salesforce"], LOGINS["salesforce"][0], domain="acme.my")
    look = CrmLook(
        connection="salesforce",
        org_id=None,
        books=books,
        streams=[StreamLook("deals", "Opportunity")],
        write_obstacle=None,
        warnings=[],
        calls=0,
        is_cut_short=False,
    )

    text = first_yaml(Draft([access], currency="EUR", timezone="UTC", looks={"salesforce": look}))

    assert "USD" in text
    assert ("fx: {from: salesforce}" in text) is (expected is not None)
    assert ("# fx: {table: {USD: 1.0}}" in text) is (expected is None)


def test_what_cannot_be_is_said_in_words_and_nothing_is_written(
    init: Init, company: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = init()
    assert silent.exit_code == 2
    assert "--connect salesforce" in silent.text

    nowhere = init("--connect", "salesforce")
    assert nowhere.exit_code == 2
    assert "--domain" in nowhere.text

    unknown = init("--connect", "hubspt")
    assert unknown.exit_code == 2
    assert 'Did you mean "hubspot"?' in unknown.text

    crooked = init("--connect", "salesforce", "--domain", "acme: my\nx: y")
    assert crooked.exit_code == 2
    assert "--domain" in crooked.text

    coin = init(*hubspot(company), "--currency", "EURO")
    assert coin.exit_code == 2
    assert '--currency: "EURO" is not a currency code' in coin.text

    company.salesforce.fault("status", status=403, path="/services/Soap/")
    untold = init(*salesforce(company))
    assert untold.exit_code == 2
    assert "--currency: the company's currency" in untold.text

    monkeypatch.setenv("HUBSPOT_TOKEN", WRONG)
    refused = init(*hubspot(company))
    assert refused.exit_code == 1
    assert "connections.hubspot.auth" in refused.text
    assert "docs/hubspot" in refused.text

    monkeypatch.setenv("SF_CLIENT_SECRET", WRONG)
    locked = init(*salesforce(company), "--currency", "EUR")
    assert locked.exit_code == 1
    assert "connections.salesforce.auth" in locked.text

    monkeypatch.delenv("HUBSPOT_TOKEN")
    bare = init(*hubspot(company))
    assert bare.exit_code == 2
    assert "HUBSPOT_TOKEN is not set" in bare.text

    assert_no_secret(refused.text + locked.text + untold.text)
    assert list(init.folder.iterdir()) == []


def test_a_file_that_is_there_stays_unless_force_says_otherwise(
    init: Init, company: Sandbox
) -> None:
    init.file.write_text("mine", encoding="utf-8")

    refused = init(*hubspot(company))

    assert refused.exit_code == 2
    assert "--force" in refused.text
    assert init.file.read_text(encoding="utf-8") == "mine"

    forced = init(*hubspot(company), "--force")

    assert forced.exit_code == 0, forced.text
    assert init.config.writebacks["company_kpis"].to == "hubspot.companies"
    assert [one.name for one in init.folder.iterdir()] == ["kpisync.yaml"]


def test_a_key_of_a_certificate_in_a_file_is_found_and_named(
    init: Init, company: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    secret = init.folder / "key.pem"
    monkeypatch.delenv("SF_CLIENT_SECRET")
    monkeypatch.setenv("SF_USERNAME", USERNAME)
    monkeypatch.setenv("SF_PRIVATE_KEY_FILE", str(secret))
    company.salesforce.settings(certificate=public.decode(), pre_authorized=[USERNAME])

    lost = init(*salesforce(company, "--currency", "EUR"))
    secret.write_text(private)
    said = init(*salesforce(company, "--currency", "EUR"))

    assert lost.exit_code == 2
    assert f"SF_PRIVATE_KEY_FILE: there is no file {secret}" in lost.text
    assert said.exit_code == 0, said.text
    text = init.file.read_text(encoding="utf-8")
    assert "flow: jwt" in text
    assert f'private_key: "${{file:{secret}}}"' in text
    assert "PRIVATE KEY" not in said.text + text
    assert run_command(["check", "--online"]) == 0


def test_a_user_with_a_password_and_a_ready_token_are_ways_in_as_well(
    init: Init, company: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.salesforce.settings(soap_login=True)
    for name, value in PASSWORDS.items():
        monkeypatch.setenv(name, value)
    eur = ("--currency", "EUR")

    by_password = init(*salesforce(company, "--login", "password", *eur))
    password_text = init.file.read_text(encoding="utf-8")
    monkeypatch.delenv("SF_SECURITY_TOKEN")
    without = init(*salesforce(company, "--login", "salesforce=password", *eur, "--force"))
    answer = requests.post(
        f"{company.salesforce.url}/services/oauth2/token",
        data={
            "grant_type": "client_credentials",
            "client_id": SECRETS["SF_CLIENT_ID"],
            "client_secret": SECRETS["SF_CLIENT_SECRET"],
        },
        timeout=10,
    ).json()
    monkeypatch.setenv("SF_ACCESS_TOKEN", answer["access_token"])
    by_token = init(*salesforce(company, "--login", "token", *eur, "--force"))
    token_text = init.file.read_text(encoding="utf-8")

    assert by_password.exit_code == 0, by_password.text
    assert "flow: password" in password_text
    assert 'security_token: "${SF_SECURITY_TOKEN:?' in password_text
    assert without.exit_code == 1, "an org that trusts no network wants the security token"
    assert by_token.exit_code == 0, by_token.text
    assert 'access_token: "${SF_ACCESS_TOKEN:?' in token_text
    everything = by_password.text + password_text + without.text + by_token.text + token_text
    secrets = (PASSWORDS["SF_PASSWORD"], PASSWORDS["SF_SECURITY_TOKEN"], answer["access_token"])
    assert [one for one in secrets if one in everything] == []


def test_a_refresh_token_that_was_replaced_while_looking_is_not_lost(
    init: Init, company: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HUBSPOT_TOKEN")
    for name, value in GRANT.items():
        monkeypatch.setenv(name, value)

    said = init(*hubspot(company))
    text = init.file.read_text(encoding="utf-8")

    assert said.exit_code == 0, said.text
    assert "flow: refresh_token" in text
    assert 'refresh_token: "${HUBSPOT_REFRESH_TOKEN:?' in text
    assert "the newest is kept, encrypted, in the database" in said.text
    assert [one for one in GRANT.values() if one in said.text + text] == []
    # The one in the environment is dead by now: every command goes on with its heir.
    assert run_command(["check", "--online"]) == 0


def test_a_way_in_that_is_not_there_is_named_with_those_that_are(
    init: Init, company: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = init(*salesforce(company, "--login", "jwtt"))
    elsewhere = init(*hubspot(company, "--login", "salesforce=jwt"))
    monkeypatch.delenv("SF_CLIENT_ID")
    bare = init(*salesforce(company, "--login", "jwt"))

    assert (unknown.exit_code, elsewhere.exit_code, bare.exit_code) == (2, 2, 2)
    assert 'Did you mean "jwt"?' in unknown.text
    assert "client_credentials, jwt, token, password" in unknown.text
    assert '"salesforce" is not connected' in elsewhere.text
    for name in ("SF_USERNAME", "SF_CLIENT_ID", "SF_PRIVATE_KEY or SF_PRIVATE_KEY_FILE"):
        assert f"{name} is not set in the environment" in bare.text


def test_the_environment_says_which_way_in_is_meant() -> None:
    def flow(crm: str, *names: str) -> str:
        return likeliest(crm, dict.fromkeys(names, "x")).flow

    assert flow("salesforce") == "client_credentials"
    assert flow("salesforce", "SF_CLIENT_ID", "SF_CLIENT_SECRET", "SF_USERNAME") == (
        "client_credentials"
    )
    assert flow("salesforce", "SF_CLIENT_ID", "SF_USERNAME", "SF_PRIVATE_KEY_FILE") == "jwt"
    assert flow("salesforce", "SF_USERNAME", "SF_PASSWORD") == "password"
    assert flow("hubspot", "HUBSPOT_CLIENT_ID", "HUBSPOT_REFRESH_TOKEN") == "refresh_token"


def assert_no_secret(text: str) -> None:
    secrets = {SECRETS["SF_CLIENT_SECRET"], SECRETS["HUBSPOT_TOKEN"], WRONG}
    assert [one for one in secrets if one in text] == []
