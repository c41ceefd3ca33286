"""Sessions of the fake Salesforce org and the query cursors they hold open."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sandbox.org import Org, Record
from sandbox.salesforce_ids import make_id

READY_TOKEN: Final = "sandbox-token"  # noqa: S105 - the sandbox's published credentials
CLIENT_ID: Final = "sandbox-client"
CLIENT_SECRET: Final = "sandbox-secret"  # noqa: S105 - the sandbox's published credentials
USERNAME: Final = "integration@sandbox.example"
PASSWORD: Final = "sandbox-password"  # noqa: S105 - the sandbox's published credentials
SECURITY_TOKEN: Final = "sandbox-security-token"  # noqa: S105 - the sandbox's published credentials
LOCATOR_LIFE: Final = timedelta(days=2)  # App Limits Cheat Sheet, "Query cursors"
OPEN_LOCATORS: Final = 10  # SOAP API guide, queryMore(): older cursors are released


@dataclass(frozen=True, slots=True)
class Locator:
    """An open query cursor: what is left of one query, for one session."""

    token: str
    opened_at: datetime
    rows: tuple[Record, ...]
    show: Callable[[Record], dict[str, object]]
    page_rows: int


class Sessions:
    """The tokens that are good, and the open cursors, each of which belongs to one token."""

    def __init__(self, org: Org) -> None:
        self.rotates = False
        """Whether a new login ends the sessions before it, as with token rotation."""
        self.takes_client_credentials = True
        self.takes_soap_login = True
        """Whether the org still has SOAP login() switched on; new orgs have not."""
        self.trusts_network = False
        """Whether a password is enough, without a security token."""
        self.pre_authorized: set[str] = {USERNAME}
        """Usernames that may use the JWT flow."""
        self.public_key: str | None = None
        """What verifies assertions, in PEM; None: the app has no certificate."""
        self._org = org
        self._tokens: set[str] = {READY_TOKEN}
        self._locators: dict[str, Locator] = {}
        self._token_numbers = itertools.count(1)
        self._locator_numbers = itertools.count(1)

    def knows(self, token: str | None) -> bool:
        """Whether the token is good."""
        return token in self._tokens

    def issue(self, org_id: str) -> str:
        """A new token."""
        if self.rotates:
            self.revoke()
        secret = f"{next(self._token_numbers):06d}{self._org.random.getrandbits(96):024x}"
        token = f"{org_id[:15]}!AQ{secret}"
        self._tokens.add(token)
        return token

    def revoke(self) -> None:
        """End every session and its cursors, the ready token's too."""
        self._tokens.clear()
        self._locators.clear()

    def revoke_one(self, token: str) -> None:
        """End one session and its cursors."""
        self._tokens.discard(token)
        self._locators = {
            name: each for name, each in self._locators.items() if each.token != token
        }

    def open_locator(self, locator: Locator) -> str:
        """Keep a cursor and return its name; the oldest goes when there are too many."""
        name = f"0r8{make_id('0r8', next(self._locator_numbers))[3:15]}"
        self._locators[name] = locator
        while len(self._locators) > OPEN_LOCATORS:
            del self._locators[next(iter(self._locators))]
        return name

    def locator(self, name: str, token: str) -> Locator | None:
        """The cursor of this session, unless it is unknown, another's, or too old."""
        found = self._locators.get(name)
        if found is None or found.token != token:
            return None
        return found if self._org.now() - found.opened_at < LOCATOR_LIFE else None

    def close_locators(self) -> None:
        """Let every cursor expire."""
        self._locators.clear()
