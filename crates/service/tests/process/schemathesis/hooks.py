"""What schemathesis is told of this service: whose things paths name, and that nobody reaches a peer's.

`run.py` makes two users, Alice and Bob, with something of each kind, and names all of it in `PEERS` (JSON). Generated
ids would mostly be unknown; here requests to one operation name what is one's own and what is the other's in turn,
and now and then what was generated.
"""

import json
import os
import threading
from collections import Counter
from urllib.parse import unquote

import schemathesis

PEERS = json.loads(os.environ["PEERS"])
OWN, FOREIGN = PEERS["own"], PEERS["foreign"]
# Whether this run asks as Alice, or as somebody who may reach everybody.
ALICE = PEERS["identity"] == "alice"
# What would take away what the other requests stand on; such a request names somebody of its own.
ENDS = {"delete_user", "suspend_user", "merge_users"}
# What is nobody's in particular.
SHARED = {"model"}
ASKED = Counter()
LOCK = threading.Lock()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Names something that exists."""
    if not case.path_parameters:
        return
    operation = case.operation.definition.raw.get("operationId", "")
    with LOCK:
        ASKED[operation] += 1
        turn = ASKED[operation]
    if operation in ENDS:
        things = FOREIGN if ALICE else PEERS["victim"]
    elif turn % 7 == 0:
        return
    else:
        things = FOREIGN if turn % 2 == 1 else OWN
    for name in case.path_parameters:
        if name in things:
            case.path_parameters[name] = things[name]


@schemathesis.check
def nobody_reaches_a_peer(context, response, case):
    """Alice asks for something of Bob's: whatever the method, it is never a success."""
    # OPTIONS is answered before anybody looks at the path: it is what browsers ask for CORS.
    if not ALICE or case.method == "OPTIONS" or not 200 <= response.status_code < 300:
        return
    path = unquote(response.request.path_url.split("?")[0])
    for name, thing in FOREIGN.items():
        if name not in SHARED and f"/{thing}" in path:
            raise AssertionError(f"Alice reached Bob's {name}: {case.method} {path} answered {response.status_code}")
