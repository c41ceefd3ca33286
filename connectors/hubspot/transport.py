"""The connection pool below the client library: answers arrive whole, and within a deadline."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any, Final

from urllib3 import BaseHTTPResponse, HTTPResponse, PoolManager
from urllib3.exceptions import ReadTimeoutError

_CHUNK: Final = 65_536


class BoundedPool:
    """One connection pool for all API objects; bodies arrive whole and within a deadline.

    A read timeout alone bounds the silence between two bytes, not a body that trickles.
    """

    def __init__(self, total_seconds: float) -> None:
        self._manager = PoolManager(cert_reqs="CERT_REQUIRED", retries=False)
        self._total_seconds = total_seconds

    def request(self, method: str, url: str, **options: Any) -> HTTPResponse:
        """Send a request and read its whole answer; redirects are not followed."""
        deadline = time.monotonic() + self._total_seconds
        options.update(preload_content=False, redirect=False)
        response = self._manager.request(method, url, **options)
        try:
            body = self._body(response, url, deadline)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return HTTPResponse(
            body=body,
            headers=response.headers,
            status=response.status,
            reason=response.reason,
            decode_content=False,
        )

    def _body(self, response: BaseHTTPResponse, url: str, deadline: float) -> BytesIO:
        body = BytesIO()
        while chunk := response.read1(_CHUNK, decode_content=True):
            body.write(chunk)
            if time.monotonic() > deadline:
                pool = self._manager.connection_from_url(url)
                raise ReadTimeoutError(pool, url, "the answer trickles")
        body.seek(0)
        return body

    def clear(self) -> None:
        """Close idle connections."""
        self._manager.clear()
