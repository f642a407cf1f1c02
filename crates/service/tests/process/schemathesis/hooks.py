"""What schemathesis is told of this service: whose things paths name, and that nobody reaches a peer's.

The test beside this file makes two users, Alice and Bob, with something of each kind, and names all of it in
`PEERS` (JSON). Generated ids would mostly be unknown; here most requests name what exists, and some what is Bob's.
"""

import json
import os
import random
import threading
from urllib.parse import unquote

import schemathesis

PEERS = json.loads(os.environ["PEERS"])
OWN, FOREIGN = PEERS["own"], PEERS["foreign"]
# As whom this run asks: `alice`, or somebody who may reach everybody.
IDENTITY = PEERS["identity"]
# What would take away what the other requests stand on; such a request names somebody of its own.
ENDS = {"delete_user"}
CHANCE = random.Random(PEERS["seed"])
LOCK = threading.Lock()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Names something that exists, mostly one's own, and now and then leaves what was generated."""
    parameters = case.path_parameters
    if not parameters:
        return
    with LOCK:
        chance = CHANCE.random()
    if (case.operation.definition.raw.get("operationId") or "") in ENDS:
        things = FOREIGN if IDENTITY == "alice" else PEERS["victim"]
    elif chance < 0.55:
        things = OWN
    elif chance < 0.85:
        things = FOREIGN
    else:
        return
    for name in parameters:
        if name in things:
            parameters[name] = things[name]


@schemathesis.check
def nobody_reaches_a_peer(context, response, case):
    """Alice asks for something of Bob's: whatever the method, it is never a success."""
    # OPTIONS is answered before anybody looks at the path: it is what browsers ask for CORS.
    if IDENTITY != "alice" or case.method == "OPTIONS" or not 200 <= response.status_code < 300:
        return
    path = unquote(response.request.path_url.split("?")[0])
    for name, thing in FOREIGN.items():
        if f"/{thing}" in path and thing not in OWN.values() and name != "model":
            raise AssertionError(f"Alice reached Bob's {name}: {case.method} {path} answered {response.status_code}")
