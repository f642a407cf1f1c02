"""Agents with a budget of ten credits: whatever they try, alone or eight at once, ten is the most that they spend.

An agent here does what a careful one does: it sets credits aside, works, says what the work has cost, and stops when it
is refused. What it was told is compared with the ledger to the last digit.
"""

import asyncio
import os
import random
from decimal import Decimal

from agent import SERVICE, SERVICE_KEY, call, connected, http_client, refused, run

BUDGET = Decimal(10)
AGENTS = 8
REST = SERVICE["url"].removesuffix("/mcp")
SEED = int(os.environ.get("MCP_SEED", "7"))


async def rest(method, path, body=None, expect=200):
    """A request to the service itself, for what is no tool."""
    async with http_client(SERVICE_KEY) as http:
        answer = await http.request(method, f"{REST}/api/v1{path}", json=body)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()


async def user_with_budget(client, name):
    """A user who has exactly the budget; nobody is welcomed with credits here."""
    await call(client, "user_ensure_exists", auth0_id=name, email=f"{name.split('|')[1]}@example.com", name="Agent")
    await rest("POST", f"/users/{name}/credits/grants", {"amount": str(BUDGET), "source": "promo"})
    await settled(name, spent=Decimal(0))


def exact(number):
    return Decimal(str(number))


async def ledger(name):
    """What the ledger says: what was spent, by its entries, and what can be spent."""
    entries = (await rest("GET", f"/users/{name}/credits/transactions?limit=1000"))["data"]
    spent = [exact(entry["amount"]) for entry in entries if entry["transaction_type"] in ("consume", "capture")]
    balance = (await rest("GET", f"/users/{name}/credits/balance"))["balance"]
    return sum(spent, Decimal(0)), exact(balance["available"]), exact(balance["held"])


async def settled(name, spent):
    """The ledger agrees with what the agents were told, nothing is held any more, and the budget was kept."""
    found, available, held = await ledger(name)
    assert found == spent, f"{name}: the agents were told {spent}, the ledger says {found}"
    assert found <= BUDGET and available == BUDGET - found and held == 0, f"{name}: {found} {available} {held}"


def lacking(refusal):
    """How much was asked for, how much there is, and whether it may be there later."""
    told = refusal["details"]
    assert told["top_up_url"] is None or told["top_up_url"].startswith("http"), told
    return exact(told["required"]), exact(told["available"]), told.get("retryable")


async def one_hold(client):
    """One hold for one job. Each step says what the job has cost so far; the step that the budget cannot pay is refused, and
    the agent ends with what it had before that step."""
    name, chance = "agent|one-hold", random.Random(SEED)
    await user_with_budget(client, name)
    hold = (await call(client, "credits_hold", auth0_id=name, amount=10))["data"]["hold_id"]
    # What is set aside is nobody else's, whichever tool asks.
    for tool, more in [("credits_consume", {"reason": "work"}), ("credits_hold", {})]:
        need, free, later = lacking(await refused(client, tool, SHORT, auth0_id=name, amount=0.000001, **more))
        assert (need, free) == (Decimal("0.000001"), Decimal(0)), (tool, need, free)
    refusal = await refused(client, "usage_charge", SHORT, auth0_id=name, event_type="step", credits=0.5)
    assert lacking(refusal) == (Decimal("0.5"), Decimal(0), True), refusal
    spent, steps = Decimal(0), 0
    while True:
        so_far = spent + Decimal(chance.randrange(100_000, 2_000_000)) / 1_000_000
        expect = 200 if so_far <= BUDGET else 402
        answer = await rest("POST", f"/users/{name}/credits/holds/{hold}/tick", {"amount": str(so_far)}, expect)
        if expect == 402:
            told = answer["error_details"]
            assert exact(told["required"]) == so_far - BUDGET and exact(told["available"]) == 0, told
            break
        spent, steps = so_far, steps + 1
    assert steps > 3, "the agent worked"
    # More than is held: what is held is charged and no more. Then the ledger is at ten, or at what was ticked.
    captured = (await call(client, "credits_capture", auth0_id=name, hold_id=hold))["data"]
    assert exact(captured["captured"]) == spent, captured
    # Settling again is answered again, and spends nothing.
    assert (await call(client, "credits_capture", auth0_id=name, hold_id=hold))["data"] == captured
    await settled(name, spent)


async def greedy_capture(client):
    """An agent that only counts at the end: a capture of more than the budget charges the budget and says what is missing."""
    name = "agent|greedy"
    await user_with_budget(client, name)
    hold = (await call(client, "credits_hold", auth0_id=name, amount=10))["data"]["hold_id"]
    captured = (await call(client, "credits_capture", auth0_id=name, hold_id=hold, amount=12.5))["data"]
    assert (exact(captured["captured"]), exact(captured["short_by"])) == (BUDGET, Decimal("2.5")), captured
    assert lacking(await refused(client, "credits_hold", SHORT, auth0_id=name, amount=1)) == (1, 0, False)
    await settled(name, BUDGET)


async def step_by_step(client, name, chance):
    """Holds what a step may cost, works, and pays what it did cost; ends when the service says that waiting is of no use."""
    spent = Decimal(0)
    while True:
        estimate = Decimal(chance.randrange(50_000, 1_500_000)) / 1_000_000
        result = await client.call_tool("credits_hold", {"auth0_id": name, "amount": float(estimate)})
        if result.is_error:
            need, free, later = lacking(result.structured_content)
            assert need == estimate and free < need, (need, free, estimate)
            if not later:
                return spent
            # Somebody else's hold may return.
            await asyncio.sleep(chance.uniform(0.001, 0.01))
            continue
        hold = result.structured_content["data"]["hold_id"]
        await asyncio.sleep(chance.uniform(0, 0.005))
        if chance.random() < 0.2:
            await call(client, "credits_release", auth0_id=name, hold_id=hold)
            continue
        cost = estimate * chance.randrange(50, 130) / 100
        cost = max(cost.quantize(Decimal("0.000001")), Decimal("0.000001"))
        captured = await call(client, "credits_capture", auth0_id=name, hold_id=hold, amount=float(cost))
        spent += exact(captured["data"]["captured"])


async def straight(client, name, chance):
    """Spends at once, by the one tool or the other, until even the smallest step is refused."""
    spent, largest = Decimal(0), Decimal(1)
    while largest >= Decimal("0.000001"):
        amount = largest.quantize(Decimal("0.000001"))
        if chance.random() < 0.5:
            asked = ("credits_consume", {"auth0_id": name, "amount": float(amount), "reason": "a step"})
        else:
            asked = ("usage_charge", {"auth0_id": name, "event_type": "step", "credits": float(amount)})
        result = await client.call_tool(*asked)
        if result.is_error:
            need, free, _ = lacking(result.structured_content)
            assert need == amount and free < need, (need, free, amount)
            largest /= 3
        else:
            spent += amount
    return spent


async def eight_at_once(kind):
    """Eight agents over connections of their own, all on one account."""
    name = f"agent|eight-{kind.__name__.replace('_', '-')}"
    async with connected(SERVICE_KEY) as client:
        await user_with_budget(client, name)

    async def agent(number):
        async with connected(SERVICE_KEY) as client:
            return await kind(client, name, random.Random(f"{SEED} {number}"))

    told = await asyncio.gather(*(agent(number) for number in range(AGENTS)))
    await settled(name, sum(told, Decimal(0)))
    return told


SHORT = "InsufficientCreditsException"


async def story():
    async with connected(SERVICE_KEY) as client:
        await one_hold(client)
        await greedy_capture(client)
    await eight_at_once(step_by_step)
    told = await eight_at_once(straight)
    # Whoever spends down to the smallest unit leaves nothing behind.
    assert sum(told, Decimal(0)) > BUDGET - Decimal("0.00001"), told


run(story)
