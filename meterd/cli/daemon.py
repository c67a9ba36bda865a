"""HTTP client of the running daemon's API."""

import http.client
import json
import os
import ssl
from typing import Any

from meterd.config.api import ApiSettings
from meterd.errors import GeneralCode, MeterdError

TOKEN_VARIABLE = "METERD_TOKEN"  # noqa: S105 (the name of a variable)
_TIMEOUT_S = 310.0  # a little more than the daemon's own limit, so that its error arrives
_LOOPBACK_OF_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (nothing is bound here)


def post(api: ApiSettings, path: str, body: object) -> Any:
    """POST `body` to a path below /api/v1. Raises MeterdError with the daemon's text and hint."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    connection = _connection(api)
    try:
        connection.request("POST", f"{api.base_path}/api/v1/{path}", json.dumps(body), headers)
        response = connection.getresponse()
        document = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        text = f"meterd runs, and its API on {api.listen} cannot be reached: {error}"
        raise MeterdError(text, code=GeneralCode.API) from error
    finally:
        connection.close()
    if response.status == 200:
        return document
    hint = str(document.get("hint") or "")
    if response.status in (401, 403):
        hint = f"put a token into {TOKEN_VARIABLE}: `meterd token add NAME --scope admin` makes one"
    raise MeterdError(
        f"{document.get('detail')}" + (f"; hint: {hint}" if hint else ""), code=GeneralCode.API
    )


def _connection(api: ApiSettings) -> http.client.HTTPConnection:
    host = _LOOPBACK_OF_ANY.get(api.host, api.host)
    if api.tls is None:
        return http.client.HTTPConnection(host, api.port, timeout=_TIMEOUT_S)
    # The certificate itself is trusted; its name need not match the listen address.
    context = ssl.create_default_context(cafile=api.tls.certificate)
    context.check_hostname = False
    return http.client.HTTPSConnection(host, api.port, timeout=_TIMEOUT_S, context=context)
