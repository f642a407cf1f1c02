"""Signs webhooks with Stripe's own library: one JSON object per line in, one header per line out.

A line is {"payload": base64, "secrets": [text, ...], "timestamp": seconds}. Each signature is verified by
the library before the header is printed; what cannot be signed is answered with "error: ...".
"""

import base64
import json
import sys

import stripe


def header_of(payload: str, secrets: list[str], timestamp: int) -> str:
    signed = []
    for secret in secrets:
        header = stripe.WebhookSignature.generate_signature_header(payload, secret, timestamp)
        # The tests have a clock of their own, so the library is not asked about the time.
        stripe.WebhookSignature.verify_header(payload, header, secret, tolerance=None)
        if is_event(payload):
            stripe.Webhook.construct_event(payload, header, secret, tolerance=None)
        signed.append(header.partition(",")[2])
    return ",".join([f"t={timestamp}", *signed])


def is_event(payload: str) -> bool:
    try:
        found = json.loads(payload)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("object") == "event"


for line in sys.stdin:
    asked = json.loads(line)
    try:
        payload = base64.b64decode(asked["payload"]).decode("utf-8")
        print(header_of(payload, asked["secrets"], asked["timestamp"]), flush=True)
    except (ValueError, stripe.StripeError) as error:
        print(f"error: {error}".replace("\n", " "), flush=True)
