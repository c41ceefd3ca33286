"""The HTTP side of simple-salesforce, made safe.

simple-salesforce sets no timeout, follows redirects, and builds every address as ``https://``.
The session given to it here bounds every call, follows no redirect, sends everything to
`ConnectionSettings.base_url` where one is set, reads JSON numbers exactly and counts the calls.
What is asked for as a stream goes into a file of the caller, part by part.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import IO, Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError, ReadTimeoutError

from connectors.base import CallCounter, Tuning

_CHUNK_BYTES: Final = 65_536
_LONGEST_INTEGER: Final = 400
"""Digits; Python refuses to parse beyond 4,300, and no CRM value comes near."""


@dataclass(slots=True)
class LastAnswer:
    """Status and headers of the latest answer: the client's exceptions do not carry them."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=CaseInsensitiveDict)
    path: str = ""
    body: bytes = b""


class ExactResponse(requests.Response):
    """An answer whose JSON numbers lose nothing."""

    def json(self, **_: object) -> Any:
        """Decode the body with decimals for fractions, whatever the caller prefers.

        Raises:
            ValueError: the body is not JSON.
        """
        try:
            return json.loads(self.content, parse_float=Decimal, parse_int=_integer)
        except RecursionError:
            raise json.JSONDecodeError("nested too deeply", "", 0) from None


class Session(requests.Session):
    """A requests session that stays on its host and remembers the latest answer."""

    def __init__(
        self,
        tuning: Tuning,
        calls: CallCounter,
        base_url: str | None,
        on_call: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._seen = threading.local()
        self._total_seconds = tuning.total_timeout.total_seconds()
        adapter = BoundedAdapter(tuning, calls, base_url, on_call)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        # Without an auth of its own requests would look into ~/.netrc and replace our token.
        self.auth = _leave_as_it_is
        self.hooks["response"].append(self._remember)

    @property
    def last(self) -> LastAnswer:
        """The latest answer to this thread."""
        return getattr(self._seen, "last", LastAnswer())

    def download(self, url: str, into: IO[bytes], headers: Mapping[str, str]) -> requests.Response:
        """GET the body of an answer into an empty file; that of a refusal stays in the answer.

        Raises:
            requests.RequestException: no answer, or not the whole of it in time.
        """
        deadline = time.monotonic() + self._total_seconds
        response = self.get(url, headers=dict(headers), stream=True)
        if response.status_code == HTTPStatus.OK:
            for part in _parts(response, deadline):
                into.write(part)
        return response

    def get_redirect_target(self, resp: requests.Response) -> None:
        """No redirect is followed: a token must not travel to another host."""
        del resp

    def _remember(self, response: requests.Response, **_: object) -> requests.Response:
        exact = ExactResponse()
        exact.__dict__.update(response.__dict__)
        self._seen.last = LastAnswer(
            status=exact.status_code,
            headers=exact.headers,
            path=urlsplit(exact.url or "").path,
            body=exact.content if _is_read(exact) else b"",
        )
        return exact


class BoundedAdapter(HTTPAdapter):
    """Sends with timeouts, to another address where one is given, and reads within a deadline."""

    def __init__(
        self,
        tuning: Tuning,
        calls: CallCounter,
        base_url: str | None,
        on_call: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(max_retries=0)
        self._timeout = (
            tuning.connect_timeout.total_seconds(),
            tuning.read_timeout.total_seconds(),
        )
        self._total_seconds = tuning.total_timeout.total_seconds()
        self._calls = calls
        self._on_call = on_call
        self._base_url = base_url.rstrip("/") if base_url else None

    def send(  # noqa: PLR0917  # the signature is requests'
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: object = None,
        verify: bool | str = True,
        cert: object = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send one request and read its whole answer, but leave a good stream to the caller.

        Raises:
            requests.RequestException: no answer, or not the whole of it in time.
        """
        del timeout
        self._calls.made += 1
        if self._on_call is not None:
            self._on_call()
        deadline = time.monotonic() + self._total_seconds
        if self._base_url is not None:
            request.headers["X-Forwarded-Host"] = urlsplit(request.url or "").netloc
            request.url = self._base_url + request.path_url
            proxies = None
        response = super().send(
            request,
            stream=True,
            timeout=self._timeout,
            verify=verify,
            cert=cert,  # type: ignore[arg-type]  # passed through as it came
            proxies=proxies,
        )
        if stream and response.status_code == HTTPStatus.OK:
            return response
        response._content = _body(response, deadline)  # noqa: SLF001  # as requests does itself
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001  # untyped
        return response


def _body(response: requests.Response, deadline: float) -> bytes:
    return b"".join(_parts(response, deadline))


def _parts(response: requests.Response, deadline: float) -> Iterator[bytes]:
    """The whole body; a read timeout alone would let a dripping answer go on for ever."""
    is_whole = False
    try:
        while part := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            yield part
            if time.monotonic() > deadline:
                raise requests.ReadTimeout("the answer did not end in time", response=response)
        is_whole = True
    except ReadTimeoutError as error:
        raise requests.ReadTimeout("the answer stopped", response=response) from error
    except HTTPError as error:
        raise requests.ConnectionError(
            f"the answer broke off ({type(error).__name__})", response=response
        ) from error
    finally:
        # A connection with half an answer in it must not carry the next call.
        if is_whole:
            response.raw.release_conn()
        else:
            response.raw.close()


def _is_read(response: requests.Response) -> bool:
    return bool(response._content_consumed)  # type: ignore[attr-defined]  # noqa: SLF001  # untyped


def _leave_as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < _LONGEST_INTEGER else Decimal(digits)
