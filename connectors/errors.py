"""Every way a CRM can fail us, as few classes as the caller can act on differently.

Arguments are positional so that errors survive pickling. No message carries a secret.
"""

from __future__ import annotations

from datetime import datetime


class ConnectorError(Exception):
    """Something between us and a CRM went wrong."""

    retryable = False

    def __init__(self, connection: str, message: str) -> None:
        super().__init__(connection, message)
        self.connection = connection
        self.message = message

    def __str__(self) -> str:
        """Name the connection, then the fault."""
        return f"{self.connection}: {self.message}"


class AuthenticationFailed(ConnectorError):
    """The CRM does not accept the credentials; a person must act."""


class PermissionMissing(ConnectorError):
    """The credentials are fine but may not do this; names the missing right."""


class MisconfiguredConnection(ConnectorError):
    """The configuration cannot work: an object or required field is missing, a host is refused."""


class StreamPaused(ConnectorError):
    """A stream cannot go on until somebody acts, such as on a required field that is hidden.

    What is stored of it stays, and the other streams go on.
    """


class OrgChanged(ConnectorError):
    """The credentials lead to another org or portal than the stored data came from."""


class RequestRefused(ConnectorError):
    """The CRM understood the request and will never accept it."""


class CursorExpired(ConnectorError):
    """The CRM forgot the place of a running query; start again from the last checkpoint."""

    retryable = True


class MustStartOver(ConnectorError):
    """What the cursor stands for is no more: everything has to be read, to see what is gone.

    Raised before the first page of a pull from a cursor; the worker begins a full pull at once.
    """


class RateLimited(ConnectorError):
    """The CRM asked us to slow down."""

    retryable = True

    def __init__(self, connection: str, message: str, wait_seconds: float) -> None:
        super().__init__(connection, message)
        self.args = (connection, message, wait_seconds)
        self.wait_seconds = wait_seconds


class QuotaExhausted(ConnectorError):
    """No calls are left until `until`; pause, do not retry."""

    def __init__(self, connection: str, message: str, until: datetime) -> None:
        super().__init__(connection, message)
        self.args = (connection, message, until)
        self.until = until


class NothingLeft(QuotaExhausted):
    """The CRM itself refuses every call: not even the reserve for writing is left."""


class CrmUnavailable(ConnectorError):
    """No answer, a server error or a broken connection; worth another try."""

    retryable = True


class MalformedAnswer(ConnectorError):
    """An answer that is not what it should be: HTML with 200, cut JSON, no result list."""

    retryable = True
