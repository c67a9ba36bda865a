"""Asks the daemon that keeps the store, over its own API."""

import http.client
import json
import os
import ssl
from typing import Any

from meterd.config.api import ApiSettings
from meterd.errors import GeneralCode, MeterdError

TOKEN = "METERD_TOKEN"  # noqa: S105 (the name of a variable)
_PATIENCE = 310.0  # seconds; the daemon gives up a little earlier, and says so
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (nothing is bound here)


def post(api: ApiSettings, path: str, body: object) -> Any:
    """The answer to a POST below /api/v1. Raises MeterdError with what the daemon says."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(TOKEN):
        headers["Authorization"] = f"Bearer {token}"
    connection = _connection(api)
    try:
        connection.request("POST", f"{api.base_path}/api/v1/{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        text = f"meterd runs, and its API on {api.listen} cannot be reached: {error}"
        raise MeterdError(text, code=GeneralCode.API) from error
    finally:
        connection.close()
    if answer.status == 200:
        return said
    hint = str(said.get("hint") or "")
    if answer.status in (401, 403):
        hint = f"put a token into {TOKEN}: `meterd token add NAME --scope admin` makes one"
    raise MeterdError(
        f"{said.get('detail')}" + (f"; hint: {hint}" if hint else ""), code=GeneralCode.API
    )


def _connection(api: ApiSettings) -> http.client.HTTPConnection:
    host = _EVERYWHERE.get(api.host, api.host)
    if api.tls is None:
        return http.client.HTTPConnection(host, api.port, timeout=_PATIENCE)
    # Its own certificate is known here, whatever name it is made out to.
    context = ssl.create_default_context(cafile=api.tls.certificate)
    context.check_hostname = False
    return http.client.HTTPSConnection(host, api.port, timeout=_PATIENCE, context=context)
