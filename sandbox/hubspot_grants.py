"""The OAuth grant of a portal's app: which tokens are good, and until when.

"Manage OAuth access tokens" guide: an access token lives for half an hour, here of the portal's
clock; the refresh token that comes back with it is the one to keep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

CLIENT_ID = "sandbox-app"
CLIENT_SECRET = "sandbox-app-secret"  # noqa: S105 - the sandbox's well-known credentials
REFRESH_TOKEN = "sandbox-refresh"  # noqa: S105 - the same


@dataclass(slots=True)
class Grants:
    """What the app was granted, and the tokens issued for it."""

    token_seconds: int = 1800
    rotate_refresh_tokens: bool = True
    """Whether a refresh answers with another refresh token, and the old one dies."""
    refresh_tokens: set[str] = field(default_factory=lambda: {REFRESH_TOKEN})
    _expires: dict[str, datetime] = field(default_factory=dict)
    _revoked: set[str] = field(default_factory=set)

    def set(self, name: str, value: object) -> bool:
        """Change what docs/sandbox.md lists for OAuth; False: the name is none of these."""
        if name == "token_seconds" and isinstance(value, int) and not isinstance(value, bool):
            self.token_seconds = value
        elif name == "rotate_refresh_tokens":
            self.rotate_refresh_tokens = bool(value)
        elif name == "refresh_tokens" and isinstance(value, list):
            # An empty list: whoever installed the app has removed it.
            self.refresh_tokens = {str(one) for one in value}
        elif name == "revoke_access_tokens":
            self._revoked |= self._expires.keys()
            self._expires.clear()
        else:
            return False
        return True

    def refresh(self, refresh_token: str, *, now: datetime, random: Random) -> tuple[str, str]:
        """A new access token and the refresh token to keep.

        Raises:
            KeyError: the refresh token is dead.
        """
        self.refresh_tokens.remove(refresh_token)
        kept = refresh_token
        if self.rotate_refresh_tokens:
            kept = f"refresh-{random.getrandbits(96):024x}"
        self.refresh_tokens.add(kept)
        access_token = f"CN{random.getrandbits(160):040x}"
        self._expires[access_token] = now + timedelta(seconds=self.token_seconds)
        return access_token, kept

    def knows(self, access_token: str) -> bool:
        """Whether it was issued here, whatever became of it."""
        return access_token in self._expires or access_token in self._revoked

    def expires_at(self, access_token: str) -> datetime | None:
        """When an access token ends; None: it was revoked, or never issued."""
        return self._expires.get(access_token)
