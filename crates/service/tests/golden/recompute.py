#!/usr/bin/env python3
"""Works the golden set out once more, without any code of the service: exact decimals, no binary fractions.

    recompute.py            compares arithmetic, cost_usd and credits of each case; exit 1 at a difference
    recompute.py --write    writes them anew, after a case was added or changed by hand

A case is given by hand: usage, quantities (read off the provider's own documentation), prices. From those:
cost_usd is the sum of quantity times price, of seconds in thousandths; credits are 500 to the dollar,
rounded half up to a millionth.
"""

import json
import sys
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path

CREDITS_PER_USD = Decimal(500)
# Tokens in and out: what each pool belongs to.
INTO = "input cached_input cache_write cache_write_1h audio_input cached_audio_input image_input".split()
OUT_OF = "output reasoning audio_output image_output".split()


def plain(number):
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def worked_out(case):
    quantities, prices = case["quantities"], case["prices"]
    assert set(quantities) == set(prices), f"{case['name']}: each pool needs a price"
    for side, pools in (("prompt_tokens", INTO), ("completion_tokens", OUT_OF)):
        total = sum(quantities.get(pool, 0) for pool in pools)
        assert total == case[side], f"{case['name']}: the pools of {side} sum to {total}"
    terms, cost = [], Decimal(0)
    for pool, quantity in quantities.items():
        units = Decimal(quantity) / 1000 if pool == "second" else Decimal(quantity)
        terms.append(f"{plain(units)} × {prices[pool]}")
        cost += units * Decimal(prices[pool])
    credits = (cost * CREDITS_PER_USD).quantize(Decimal("0.000001"), ROUND_HALF_UP)
    arithmetic = f"{' + '.join(terms)} = {plain(cost)}"
    return {"arithmetic": arithmetic, "cost_usd": plain(cost), "credits": plain(credits)}


def text_of(cases):
    """One line for each member, so that a difference between two versions can be read."""
    members = lambda case: ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in case.items()
    )
    return "[\n" + ",\n".join("  {\n" + members(case) + "\n  }" for case in cases) + "\n]\n"


def main():
    write, wrong, count = "--write" in sys.argv[1:], 0, 0
    for path in sorted((Path(__file__).parent / "usage").glob("*.json")):
        # Numbers of a payload stay as they are written.
        cases = json.loads(path.read_text("utf-8"))
        for case in cases:
            count += 1
            with localcontext() as context:
                context.prec = 60
                results = worked_out(case)
            if not write:
                for name, value in results.items():
                    if case.get(name) != value:
                        wrong += 1
                        print(f"{path.name}: {case['name']}: {name} is {case.get(name)}, worked out {value}")
            case.update(results)
        if write:
            path.write_text(text_of(cases), "utf-8")
    print(f"{count} cases, {wrong} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
