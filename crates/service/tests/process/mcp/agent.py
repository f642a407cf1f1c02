"""How an agent reaches the service: with the official SDK, over HTTP or stdio, in any revision of the protocol.

`MCP_SERVICE` says where it is, as JSON: `{"url": …}` for Streamable HTTP, or `{"command": […], "env": {…}, "cwd": …}` for a
service that is started and spoken to by stdin and stdout.
"""

import asyncio
import base64
import hmac
import json
import os
import sys
import time
from contextlib import asynccontextmanager

import httpx2
import mcp.client.session as sdk
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

SERVICE = json.loads(os.environ["MCP_SERVICE"])
SERVICE_KEY = os.environ["MCP_SERVICE_KEY"]
JWT_SECRET = os.environ["MCP_JWT_SECRET"]
# The two that begin with a handshake, and the one in which each request stands alone.
REVISIONS = ["2025-06-18", "2025-11-25", "2026-07-28"]
WAIT_SECONDS = 60


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(user, role=None):
    """A token as the identity provider would issue it."""
    now = int(time.time())
    claims = {"sub": user, "email": f"{user.split('|')[1]}@example.com", "iss": "supabase", "aud": "authenticated",
              "role": "authenticated", "iat": now, "exp": now + 3600, "app_metadata": {"role": role} if role else {}}
    signed = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{base64url(hmac.digest(JWT_SECRET.encode(), signed.encode(), 'sha256'))}"


def http_client(credential):
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    return httpx2.AsyncClient(headers=headers, trust_env=False, timeout=WAIT_SECONDS)


@asynccontextmanager
async def connected(credential, revision=REVISIONS[-1]):
    """A client whose connection speaks `revision`."""
    if "url" in SERVICE:
        async with http_client(credential) as http:
            async with spoken(streamable_http_client(SERVICE["url"], http_client=http), revision) as client:
                yield client
    else:
        program, *arguments = SERVICE["command"]
        environment = SERVICE["env"] | ({"MCP_TOKEN": credential} if credential else {})
        server = StdioServerParameters(command=program, args=arguments, env=environment, cwd=SERVICE["cwd"])
        async with spoken(stdio_client(server, errlog=sys.stderr), revision) as client:
            yield client


@asynccontextmanager
async def spoken(transport, revision):
    by_handshake = revision in HANDSHAKE_PROTOCOL_VERSIONS
    if by_handshake:
        # The SDK offers the newest of these; the older ones are offered by clients that were built before.
        sdk.LATEST_HANDSHAKE_VERSION = revision
    mode = "legacy" if by_handshake else "auto"
    async with Client(transport, mode=mode, read_timeout_seconds=WAIT_SECONDS, cache=None) as client:
        assert client.protocol_version == revision, f"asked for {revision}, speaks {client.protocol_version}"
        yield client


async def call(client, tool, **arguments):
    """What a tool answers where it must succeed; the SDK holds it against the tool's output schema."""
    result = await client.call_tool(tool, arguments)
    said = " ".join(part.text for part in result.content)
    assert not result.is_error, f"{tool} {arguments}: {said}"
    structured = result.structured_content
    assert structured["success"] is True, f"{tool}: {structured}"
    assert said and any(is_same(part.text, structured) for part in result.content), f"{tool}: the text says {said}"
    return structured


def is_same(text, structured):
    """Whether a text is the structured answer, for clients that read texts only."""
    try:
        return json.loads(text) == structured
    except ValueError:
        return False


async def refused(client, tool, code, **arguments):
    """What a tool answers where it must refuse, with an error that a program can act on."""
    result = await client.call_tool(tool, arguments)
    said = " ".join(part.text for part in result.content)
    assert result.is_error, f"{tool} {arguments} is not refused: {said}"
    structured = result.structured_content
    assert isinstance(structured, dict), f"{tool}: {said}"
    error = structured["error"]
    found = error["code"] if isinstance(error, dict) else error
    assert found == code, f"{tool} {arguments}: {found} and not {code}: {said}"
    assert said.strip(), f"{tool}: a refusal says why"
    return structured


def run(story):
    """Runs a story to its end within its time."""
    async def limited():
        async with asyncio.timeout(float(os.environ.get("MCP_LIMIT_SECONDS", "120"))):
            await story()
    asyncio.run(limited())
