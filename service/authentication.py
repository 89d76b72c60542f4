"""Who may ask: every route but health needs a key, once keys are configured."""

import logging
from collections.abc import Collection
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.keys import Keys
from service.middleware import HttpMiddleware
from service.problems import answer_problem
from service.unread_body import UnreadBody

__all__ = ["ApiKeyMiddleware", "describe_keys", "open_paths"]

_log: Final = logging.getLogger(__name__)
_HEADER: Final = "X-API-Key"
_CHALLENGE: Final = 'Bearer realm="pcdm"'
_HEALTH: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})

_SCHEMES: Final[dict[str, dict[str, Any]]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, as `Authorization: Bearer KEY`."},
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": _HEADER,
        "description": "The same key, in a header of its own.",
    },
}


def open_paths(*, metrics: bool) -> frozenset[str]:
    """The paths that need no key.

    Args:
        metrics: Whether the metrics are among them.
    """
    return _HEALTH | ({"/metrics"} if metrics else set())


class ApiKeyMiddleware(HttpMiddleware):
    """Answers 401 to a request without a known key, before any of its body is read.

    Args:
        app: What is behind it.
        keys: Those that are known.
        exempt: Paths that need none.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, exempt: Collection[str]) -> None:
        super().__init__(app)
        self._keys = keys
        self._exempt = exempt

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the key's name as `key_name` in its state; never with the key."""
        if scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        key = _offered(Headers(scope=scope))
        name = None if key is None else self._keys.name_of(key)
        if name is not None:
            scope.setdefault("state", {})["key_name"] = name
            await self._app(scope, receive, send)
            return
        if key is None:
            detail, challenge = f"an API key is needed: Authorization: Bearer KEY, or {_HEADER}: KEY", _CHALLENGE
        else:
            detail, challenge = "the API key is not known", f'{_CHALLENGE}, error="invalid_token"'
        request = Request(scope)
        _log.warning("request %s: %s", request.state.request_id, detail)
        answer = answer_problem(request, 401, detail, slug="no-access", headers={"WWW-Authenticate": challenge})
        body = UnreadBody(scope, receive, send)
        await answer(scope, body.receive, body.send)


def describe_keys(app: FastAPI, exempt: Collection[str]) -> None:
    """Say in the description of the interface how a key is sent, and which paths need none."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in exempt else [{scheme: []} for scheme in _SCHEMES]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _offered(headers: Headers) -> str | None:
    """The key of a request; a header of its own comes first, as a proxy may use `Authorization` for itself."""
    if _HEADER in headers:
        return headers[_HEADER].strip()
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
