"""The little of nacre's HTTP API that a load needs, by urllib alone."""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Mapping, Optional

#: What a request may take; the server's own limits are shorter.
_REQUEST_SECONDS = 60.0
#: Refused for now: sent again. 504 is an answer that did not come in time.
_AGAIN = {429, 502, 503, 504}


class NacreError(Exception):
    """Whatever keeps rows from being published."""


class Problem(NacreError):
    """An error that the server answered (RFC 9457)."""

    def __init__(self, status: int, body: Mapping[str, Any], asked: str) -> None:
        self.status = status
        #: The error's code, as in ``/errors/load-not-found``.
        self.code = str(body.get("type", "")).rsplit("/", 1)[-1]
        self.detail = str(body.get("detail") or body.get("title") or "no detail")
        super().__init__(f"{asked}: {status} {self.code}: {self.detail}")


class Unreachable(NacreError):
    """No answer, however often it was asked: what was asked may have been done."""


class Client:
    """A server, and what is said to it. Every request here may be sent twice: begins carry a key, the rest is
    idempotent. So lost connections and refusals for now are tried again until ``patience`` seconds have passed."""

    def __init__(self, server: str, token: Optional[str] = None, patience: float = 120.0) -> None:
        if not server.startswith(("http://", "https://")):
            raise NacreError(f"server {server!r}: expected http://host:port or https://host:port")
        self._server = server.rstrip("/")
        self._token = token
        self._patience = patience

    def ask(
        self,
        method: str,
        path: str,
        body: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
        patience: Optional[float] = None,
        content_type: str = "application/json",
    ) -> Any:
        """The answer's JSON. Raises :class:`Problem`, or :class:`Unreachable`."""
        sent = {"Accept": "application/json", **(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = content_type
        until = time.monotonic() + (self._patience if patience is None else patience)
        pause = 0.1
        while True:
            request = urllib.request.Request(self._server + path, data=data, headers=sent, method=method)
            wait = None
            failure: NacreError
            try:
                with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:
                    text = answer.read()
                return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                with error:
                    failure = Problem(error.code, _problem(error), f"{method} {path}")
                if error.code not in _AGAIN:
                    raise failure from None
                wait = _seconds(error.headers.get("Retry-After"))
            except (OSError, ValueError, EOFError) as error:
                # URLError, time-outs, connections that were cut, answers that are no JSON.
                failure = Unreachable(f"{method} {path}: no answer from {self._server}: {error}")
            wait = wait if wait is not None else pause * random.uniform(0.5, 1.5)
            if time.monotonic() + wait > until:
                raise failure
            time.sleep(wait)
            pause = min(pause * 2, 5.0)


def _problem(error: urllib.error.HTTPError) -> Mapping[str, Any]:
    try:
        body = json.loads(error.read())
    except (OSError, ValueError):
        body = None
    return body if isinstance(body, dict) else {"detail": error.reason}


def _seconds(retry_after: Optional[str]) -> Optional[float]:
    try:
        return min(max(float(retry_after or ""), 0.1), 30.0)
    except ValueError:
        return None


class Table:
    """A table of a server, and its loads."""

    def __init__(self, client: Client, name: str) -> None:
        namespace, slash, table = name.partition("/")
        if not slash:
            namespace, table = "default", name
        if not namespace or not table or "/" in table:
            raise NacreError(f"table {name!r}: expected \"table\" or \"namespace/table\"")
        self._client = client
        self.name = f"{namespace}/{table}"
        quoted = [urllib.parse.quote(part, safe="") for part in (namespace, table)]
        self._path = f"/v1/namespaces/{quoted[0]}/tables/{quoted[1]}"

    def describe(self) -> dict[str, Any]:
        return self._client.ask("GET", self._path)

    def create(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return self._client.ask("PUT", self._path, settings)

    def declare_key(self, key: Any) -> dict[str, Any]:
        """Says what keys are, of a table that nobody has said it of."""
        return self._client.ask("PATCH", self._path, {"key": key}, content_type="application/merge-patch+json")

    def begin(self, body: Mapping[str, Any], key: str) -> dict[str, Any]:
        """A load; the one that was begun under ``key`` before, unless that failed, was cancelled or reverted."""
        return self._client.ask("POST", f"{self._path}/loads", body, {"Idempotency-Key": key})

    def load(self, load_id: str) -> dict[str, Any]:
        return self._client.ask("GET", f"{self._path}/loads/{load_id}")

    def files(self, load_id: str) -> list[dict[str, Any]]:
        return self._client.ask("GET", f"{self._path}/loads/{load_id}/files")

    def commit(self, load_id: str, files: Optional[list[str]], rows: Optional[int]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if files is not None:
            body = {"files": files, "rows": rows}
        return self._client.ask("POST", f"{self._path}/loads/{load_id}:commit", body)

    def cancel(self, load_id: str) -> None:
        # Somebody waits to hear of the failure itself.
        self._client.ask("POST", f"{self._path}/loads/{load_id}:cancel", {}, patience=10.0)
