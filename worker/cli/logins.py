"""The ways into a CRM that `init` knows: what each needs, where that comes from, how it is written.

A login is told by `--login`, or found by what the environment holds. What a file says of a
credential is only ever where it is: a variable, or a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_UNFIT: Final = frozenset('${}"\\\n')
"""Letters that the path of a secret file must not have: the configuration could not name it."""


@dataclass(frozen=True, slots=True)
class Credential:
    """One secret or name by which a CRM lets us in."""

    key: str
    """Its key under `auth`."""
    variable: str
    """The environment variable that holds it."""
    meaning: str
    """For whoever has to find it."""
    is_secret: bool = True
    is_needed: bool = True
    is_file: bool = False
    """It has several lines: whoever types it names its file instead."""

    @property
    def file_variable(self) -> str:
        """The environment variable that names the file it stands in."""
        return f"{self.variable}_FILE"


@dataclass(frozen=True, slots=True)
class Login:
    """One way in."""

    flow: str
    credentials: tuple[Credential, ...]
    address_key: str | None = None
    """Under which key of `auth` the org's address stands; None: it needs none."""
    is_address_needed: bool = True
    is_renewing: bool = False
    """Each login may replace the credential: what the newest brought is kept in the store."""

    def variables(self) -> frozenset[str]:
        """The environment variables that it surely needs."""
        return frozenset(one.variable for one in self.credentials if one.is_needed)


_SF_CLIENT_ID: Final = Credential(
    "client_id", "SF_CLIENT_ID", "the consumer key of your external client app"
)
_SF_USERNAME: Final = Credential(
    "username", "SF_USERNAME", "the integration user's name", is_secret=False
)

LOGINS: Final[Mapping[str, tuple[Login, ...]]] = {
    "salesforce": (
        Login(
            "client_credentials",
            (
                _SF_CLIENT_ID,
                Credential(
                    "client_secret",
                    "SF_CLIENT_SECRET",
                    "the consumer secret of your external client app",
                ),
            ),
            address_key="domain",
        ),
        Login(
            "jwt",
            (
                _SF_USERNAME,
                _SF_CLIENT_ID,
                Credential(
                    "private_key",
                    "SF_PRIVATE_KEY",
                    "the private key of the app's certificate (PEM)",
                    is_file=True,
                ),
            ),
            address_key="domain",
        ),
        Login(
            "token",
            (Credential("access_token", "SF_ACCESS_TOKEN", "a ready access token"),),
            address_key="instance_url",
        ),
        Login(
            "password",
            (
                _SF_USERNAME,
                Credential("password", "SF_PASSWORD", "the integration user's password"),
                Credential(
                    "security_token",
                    "SF_SECURITY_TOKEN",
                    "its security token; empty where the network is trusted",
                    is_needed=False,
                ),
            ),
            address_key="domain",
            is_address_needed=False,
        ),
    ),
    "hubspot": (
        Login(
            "token",
            (Credential("token", "HUBSPOT_TOKEN", "a service key or private app token (pat-...)"),),
        ),
        Login(
            "refresh_token",
            (
                Credential("client_id", "HUBSPOT_CLIENT_ID", "the app's client id"),
                Credential("client_secret", "HUBSPOT_CLIENT_SECRET", "the app's client secret"),
                Credential(
                    "refresh_token",
                    "HUBSPOT_REFRESH_TOKEN",
                    "the refresh token that installing the app brought",
                ),
            ),
            is_renewing=True,
        ),
    ),
}
"""CRM -> its logins, the recommended one first."""


def login_of(crm: str, flow: str) -> Login | None:
    """A login by its name."""
    return next((one for one in LOGINS[crm] if one.flow == flow), None)


def likeliest(crm: str, environment: Mapping[str, str]) -> Login:
    """The login that the environment has most for; where it says nothing, the recommended one."""
    logins = LOGINS[crm]

    def fit(login: Login) -> tuple[bool, int]:
        held = sum(_is_held(one, environment) for one in login.credentials if one.is_needed)
        return held == len(login.variables()), held

    # Stable: of several that fit alike the recommended one.
    return max(logins, key=lambda one: (fit(one), -logins.index(one)))


def _is_held(one: Credential, environment: Mapping[str, str]) -> bool:
    return bool(
        environment.get(one.variable) or (one.is_file and environment.get(one.file_variable))
    )


@dataclass(frozen=True, slots=True)
class Told:
    """Where a credential is."""

    reference: str
    """As the configuration writes it."""
    variable: str | None = None
    """The environment variable; None: a file."""
    value: str | None = None
    """What was typed in, for now only."""


def from_environment(one: Credential, environment: Mapping[str, str]) -> Told | None:
    """Where the environment has a credential; None: nowhere.

    Raises:
        ValueError: the file that it names cannot be, with the reason.
    """
    if environment.get(one.variable):
        return Told(by_variable(one), one.variable)
    if one.is_file and environment.get(one.file_variable):
        return by_file(environment[one.file_variable])
    return None


def by_variable(one: Credential) -> str:
    """The reference to a credential in the environment."""
    return f"${{{one.variable}:?{one.meaning}}}"


def by_file(name: str) -> Told:
    """The reference to a credential in a file.

    Raises:
        ValueError: there is no such file, or its path cannot be written.
    """
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if _UNFIT & set(str(path)):
        raise ValueError(f"the path {path} has letters that the configuration cannot write")
    return Told(f"${{file:{path}}}")


def flows_of(crm: str) -> Sequence[str]:
    """The names of a CRM's logins."""
    return [one.flow for one in LOGINS[crm]]
