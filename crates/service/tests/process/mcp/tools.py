"""Every tool, resource and prompt, with success and with what it typically refuses, in every revision of the protocol.

The SDK holds each result against the output schema of its tool. A tool that is listed and not called here, or never
refused here, fails the story.
"""

from jsonschema import Draft202012Validator

from agent import REVISIONS, SERVICE_KEY, MCPError, call, connected, refused, run, token

TOOLS = {
    "user_ensure_exists", "user_get_info", "credits_consume", "user_service_status", "credits_balance", "credits_quote",
    "usage_charge", "credits_hold", "credits_capture", "credits_release", "usage_stats", "session_create",
    "session_append", "session_messages", "limits_check", "transaction_explain",
}
READS = {
    "user_get_info", "user_service_status", "credits_balance", "credits_quote", "usage_stats", "session_messages",
    "limits_check", "transaction_explain",
}
CHANGES = {"credits_consume", "usage_charge", "credits_capture", "credits_release", "user_ensure_exists"}
INVALID, SHORT, FORBIDDEN = "ValidationException", "InsufficientCreditsException", "AuthorizationException"


async def listed(client):
    """The tools as they are listed: names, schemas, what they do to the world."""
    tools, cursor = {}, None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools |= {tool.name: tool for tool in page.tools}
        cursor = page.next_cursor
        if not cursor:
            break
    for name, tool in tools.items():
        assert tool.title and tool.description, f"{name} says what it is for"
        for schema in (tool.input_schema, tool.output_schema):
            Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object", f"{name}: {schema}"
        for field, about in tool.input_schema["properties"].items():
            assert about.get("description"), f"{name} says what {field} is"
        hints = tool.annotations
        assert hints.open_world_hint is False, f"{name} touches nothing beyond the service"
        assert hints.read_only_hint is (name in READS), f"{name}: {hints}"
        if name not in READS:
            assert hints.destructive_hint is (name in CHANGES), f"{name}: {hints}"
    return tools


class Story:
    """What one user does with every tool, by an agent that may act for anybody."""

    def __init__(self, client, revision):
        self.client, self.user, self.called, self.denied = client, f"auth0|tools-{revision}", set(), set()

    async def call(self, tool, **arguments):
        self.called.add(tool)
        return await call(self.client, tool, **arguments)

    async def refused(self, tool, code, **arguments):
        self.denied.add(tool)
        return await refused(self.client, tool, code, **arguments)

    async def invalid(self, tool, field, **arguments):
        """Refused because of one argument, which is named."""
        refusal = await self.refused(tool, INVALID, **arguments)
        named = str(refusal["details"])
        assert field in named, f"{tool}: {field} is not named in {refusal}"

    async def users(self):
        user, mail = self.user, f"{self.user.split('|')[1]}@example.com"
        made = await self.call("user_ensure_exists", auth0_id=user, email=mail, name="Tool User")
        assert (made["created"], made["credits"], made["auth0_id"]) == (True, 1000, user), made
        again = await self.call("user_ensure_exists", user_id=user, email=mail, name="Tool User")
        assert (again["created"], again["user_id"]) == (False, made["user_id"]), again
        await self.invalid("user_ensure_exists", "email", auth0_id=user, email="nowhere", name="Tool User")
        await self.invalid("user_ensure_exists", "name", auth0_id=user, email=mail, name="")
        for name in ("auth0_id", "user_id"):
            found = await self.call("user_get_info", **{name: user})
            assert found["data"]["email"] == mail and found["data"]["credits"] == 1000, found
        await self.refused("user_get_info", "UserNotFoundException", auth0_id="auth0|nobody")
        await self.invalid("user_get_info", "user_id", auth0_id=user, user_id=user)
        await self.invalid("user_get_info", "auth0_id")

    async def spending(self):
        user = self.user
        spent = await self.call("credits_consume", auth0_id=user, amount=25.5, reason="an answer")
        assert (spent["balance"], spent["consumed_amount"]) == (974.5, 25.5), spent
        spent = await self.call("credits_consume", user_id=user, amount=0.000001, reason="a little")
        assert spent["balance"] == 974.499999, spent
        keyed = {"auth0_id": user, "amount": 4.499999, "reason": "once", "idempotency_key": user}
        once = await self.call("credits_consume", **keyed)
        assert once == await self.call("credits_consume", **keyed), "the same key does it once"
        await self.refused("credits_consume", "IdempotencyMismatch", **keyed | {"amount": 5})
        short = await self.refused("credits_consume", SHORT, auth0_id=user, amount=1_000_000, reason="too much")
        assert short["details"]["required"] == 1_000_000 and short["details"]["available"] == 970, short
        assert "top_up_url" in short["details"], short
        for amount in (0, -1, 0.0000001):
            await self.invalid("credits_consume", "amount", auth0_id=user, amount=amount, reason="?")
        await self.invalid("credits_consume", "amount", auth0_id=user, reason="?")
        balance = await self.call("credits_balance", auth0_id=user)
        assert balance["data"] == 970 and balance["balance"]["available"] == 970, balance
        await self.refused("credits_balance", "UserNotFoundException", auth0_id="auth0|nobody")
        why = await self.call("transaction_explain", auth0_id=user, transaction_id=once["transaction_id"])
        assert why["data"]["transaction"]["amount"] == 4.499999 and why["data"]["sentences"], why
        await self.invalid("transaction_explain", "transaction_id", auth0_id=user, transaction_id="txn")
        await self.refused("transaction_explain", "NotFoundException", auth0_id=user, transaction_id="txn_1_999999")
        return once["transaction_id"]

    async def charging(self):
        user = self.user
        tokens = {"model": "gpt-4", "prompt_tokens": 800, "completion_tokens": 450}
        quoted = await self.call("credits_quote", **tokens)
        assert quoted["data"]["credits"] > 0, quoted
        await self.refused("credits_quote", "NotFoundException", model="no-such-model-9", prompt_tokens=1)
        await self.invalid("credits_quote", "prompt_tokens", model="gpt-4", prompt_tokens=-1)
        usage = {"prompt_tokens": 800, "completion_tokens": 450, "total_tokens": 1250}
        asked = {"auth0_id": user, "event_type": "ai_chat", "model_name": "gpt-4", "usage": usage, "event_id": "tools-1"}
        charged = await self.call("usage_charge", **asked)
        assert charged["data"]["credits"] == quoted["data"]["credits"], (charged, quoted)
        again = await self.call("usage_charge", **asked)
        assert again["data"]["duplicate"] is True, again
        short = await self.refused("usage_charge", SHORT, auth0_id=user, event_type="ai_chat", credits=5000)
        assert short["details"]["required"] == 5000 and short["details"]["retryable"] is False, short
        await self.invalid("usage_charge", "event_type", auth0_id=user, credits=1)
        await self.invalid("usage_charge", "usage", auth0_id=user, event_type="ai_chat", model_name="gpt-4")
        await self.invalid("usage_charge", "credits", auth0_id=user, event_type="ai_chat")
        stats = await self.call("usage_stats", auth0_id=user)
        assert stats["data"]["total_records"] == 1 and stats["data"]["by_model"] == {"gpt-4": 1}, stats
        await self.invalid("usage_stats", "start_date", auth0_id=user, start_date="yesterday")
        fits = await self.call("limits_check", auth0_id=user, credits=5)
        assert fits["data"]["allowed"] is True, fits
        await self.invalid("limits_check", "credits", auth0_id=user, credits=-5)

    async def holding(self):
        user = self.user
        before = (await self.call("credits_balance", auth0_id=user))["data"]
        hold = (await self.call("credits_hold", auth0_id=user, amount=10, description="a long answer"))["data"]["hold_id"]
        captured = await self.call("credits_capture", auth0_id=user, hold_id=hold, amount=7.25)
        assert captured["data"]["captured"] == 7.25 and captured["data"]["status"] == "captured", captured
        await self.refused("credits_release", "ConflictException", auth0_id=user, hold_id=hold)
        back = (await self.call("credits_hold", auth0_id=user, amount=10))["data"]["hold_id"]
        released = await self.call("credits_release", auth0_id=user, hold_id=back)
        assert released["data"]["status"] == "released", released
        await self.refused("credits_capture", "ConflictException", auth0_id=user, hold_id=back, amount=1)
        after = (await self.call("credits_balance", auth0_id=user))["data"]
        assert round(before - after, 6) == 7.25, (before, after)
        short = await self.refused("credits_hold", SHORT, auth0_id=user, amount=100_000)
        assert short["details"]["required"] == 100_000, short
        await self.invalid("credits_hold", "expires_in", auth0_id=user, amount=1, expires_in=0)
        await self.invalid("credits_capture", "hold_id", auth0_id=user, hold_id="hold-9", amount=1)
        await self.invalid("credits_capture", "hold_id", auth0_id=user, amount=1)

    async def talking(self):
        user = self.user
        begun = await self.call("session_create", auth0_id=user, title="A talk")
        session = begun["data"]["session_id"]
        for role, content in [("user", "hello"), ("assistant", "good day \N{WAVING HAND SIGN}")]:
            said = await self.call("session_append", session_id=session, role=role, content=content)
            assert said["data"]["content"] == content, said
        heard = await self.call("session_messages", session_id=session, limit=1)
        assert [one["content"] for one in heard["data"]] == ["hello"] and heard["pagination"]["has_more"], heard
        rest = await self.call("session_messages", session_id=session, cursor=heard["pagination"]["next_cursor"])
        assert [one["role"] for one in rest["data"]] == ["assistant"], rest
        await self.invalid("session_create", "title", auth0_id=user, title="x" * 501)
        await self.invalid("session_append", "role", session_id=session, role="robot", content="hello")
        await self.refused("session_append", "SessionNotFoundException", session_id=UNKNOWN, role="user", content="hello")
        await self.refused("session_messages", "SessionNotFoundException", session_id=UNKNOWN)
        await self.invalid("session_messages", "limit", session_id=session, limit=0)
        return session

    async def status(self):
        assert (await self.call("user_service_status"))["success"] is True
        await self.refused("user_service_status", INVALID, verbose=True)


UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def resources(client, user, transaction):
    """A user as a resource, and the prompt that explains a charge."""
    templates = {one.uri_template for one in (await client.list_resource_templates()).resource_templates}
    assert templates == {"user://{auth0_id}/profile", "user://{auth0_id}/balance"}, templates
    for name, word in [("profile", "Tool User"), ("balance", "available")]:
        # As it is written, and with the pipe encoded.
        for written in (user, user.replace("|", "%7C")):
            read = await client.read_resource(f"user://{written}/{name}")
            assert word in read.contents[0].text and read.contents[0].mime_type == "application/json", read
    for uri in ("user://auth0|nobody/profile", f"user://{user}/secrets", "file:///etc/passwd", "user://"):
        await protocol_error(client.read_resource(uri), uri)
    prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
    assert prompts == {"why_was_i_charged"}, prompts
    named = {argument.name for argument in (await client.list_prompts()).prompts[0].arguments}
    assert "transaction_id" in named, named
    by = {name: user for name in named - {"transaction_id"}}
    asked = await client.get_prompt("why_was_i_charged", {"transaction_id": transaction} | by)
    assert any(transaction in message.content.text for message in asked.messages), asked
    await protocol_error(client.get_prompt("why_was_i_charged", {"transaction_id": "txn_1_999999"} | by), "unknown transaction")
    await protocol_error(client.get_prompt("why_was_i_charged", {}), "no transaction")
    await protocol_error(client.get_prompt("why_not"), "unknown prompt")


async def protocol_error(asked, what):
    """An error of the protocol, which says something and nothing of the inside."""
    try:
        answer = await asked
    except MCPError as error:
        assert error.message and "panicked" not in error.message, what
        return
    raise AssertionError(f"{what} is answered: {answer}")


async def strangers(revision, session, transaction):
    """A user may do to itself what an agent may do for it, and nothing to others."""
    owner, mallory = f"auth0|tools-{revision}", f"auth0|mallory-{revision}"
    async with connected(token(owner), revision) as client:
        assert (await call(client, "credits_balance"))["data"] > 0, "whoever names nobody means itself"
        assert (await call(client, "user_get_info", auth0_id=owner))["data"]["auth0_id"] == owner
        uris = {str(one.uri) for one in (await client.list_resources()).resources}
        for uri in uris:
            assert (await client.read_resource(uri)).contents, uri
        assert len(uris) == 2, uris
    async with connected(token(mallory), revision) as client:
        await call(client, "user_ensure_exists", email=f"mallory-{revision}@example.com", name="Mallory")
        foreign = {
            "user_ensure_exists": {"email": "m@example.com", "name": "M"}, "user_get_info": {}, "credits_balance": {},
            "credits_consume": {"amount": 1, "reason": "not mine"}, "credits_hold": {"amount": 1},
            "usage_charge": {"event_type": "call", "credits": 1}, "usage_stats": {}, "session_create": {},
            "credits_capture": {"hold_id": "hld_1_1"}, "credits_release": {"hold_id": "hld_1_1"},
            "limits_check": {"credits": 1}, "transaction_explain": {"transaction_id": transaction},
        }
        for tool, arguments in foreign.items():
            await refused(client, tool, FORBIDDEN, auth0_id=owner, **arguments)
        await refused(client, "session_messages", FORBIDDEN, session_id=session)
        await refused(client, "session_append", FORBIDDEN, session_id=session, role="user", content="hello")
        for name in ("profile", "balance"):
            await protocol_error(client.read_resource(f"user://{owner}/{name}"), f"another user's {name}")
        await protocol_error(client.call_tool("no_such_tool", {}), "an unknown tool")


async def whole(revision):
    async with connected(SERVICE_KEY, revision) as client:
        assert client.server_info.name and client.server_info.version, "the service says who it is"
        tools = await listed(client)
        assert set(tools) == TOOLS, set(tools) ^ TOOLS
        story = Story(client, revision)
        await story.users()
        transaction = await story.spending()
        await story.charging()
        await story.holding()
        session = await story.talking()
        await story.status()
        assert story.called == TOOLS and story.denied == TOOLS, (TOOLS - story.called, TOOLS - story.denied)
        await resources(client, story.user, transaction)
    await strangers(revision, session, transaction)


async def story():
    for revision in REVISIONS:
        try:
            await whole(revision)
        except BaseException as error:
            error.add_note(f"in revision {revision}")
            raise


run(story)
