"""Asks every operation of a running service with schemathesis: as Alice, with Bob as her peer, and as a program.

    python run.py ADDRESS SERVICE_KEY JWT_SECRET

Ends with 0 where every answer was a documented one, nothing broke, and nobody reached what is not theirs; else the
requests that show the opposite stand in the output, as curl commands. `SCHEMATHESIS_SEED` and
`SCHEMATHESIS_EXAMPLES` ask for others.
"""

import base64
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import requests

HERE = Path(__file__).resolve().parent
ADDRESS, SERVICE_KEY, JWT_SECRET = sys.argv[1:4]
SEED = int(os.environ.get("SCHEMATHESIS_SEED", "6"))
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "4"))
HTTP = requests.Session()
HTTP.trust_env = False


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class User:
    """A user with something of each kind."""

    def __init__(self, name, role=None):
        self.name = name
        now = int(time.time())
        claims = {"sub": name, "email": f"{name.split('|')[1]}@example.com", "iss": "supabase", "aud": "authenticated",
                  "role": "authenticated", "iat": now, "exp": now + 3600, "app_metadata": {"role": role} if role else {}}
        signed = ".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        signature = hmac.digest(JWT_SECRET.encode(), signed.encode(), "sha256")
        self.token = f"{signed}.{base64url(signature)}"
        self.row = self.ask("POST", "/api/v1/users/ensure", {"name": name})["user_id"]
        self.things = None

    def ask(self, method, path, body=None, **more):
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = HTTP.request(method, ADDRESS + path, json=body, headers=headers, **more)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def own(self, path):
        return f"/api/v1/users/{quote(self.name)}{path}"

    def furnish(self):
        hold = self.ask("POST", self.own("/credits/holds"), {"amount": 5})["data"]
        session = self.ask("POST", self.own("/sessions"), {"title": "A talk"})["data"]
        at = f"/api/v1/sessions/{session['session_id']}"
        message = self.ask("POST", f"{at}/messages", {"role": "user", "content": "hello"})["data"]
        memory = self.ask("POST", f"{at}/memory", {"content": "likes tea"})["data"]
        file = self.ask("POST", self.own("/files/upload"), files={"file": ("a.txt", b"hello", "text/plain")})["data"]
        spent = self.ask("POST", self.own("/credits/consume"), {"amount": 1})
        self.ask("POST", self.own("/usage"), {"event_type": "call", "endpoint": "/chat"})
        self.things = {
            "user_id": self.name,
            "session_id": session["session_id"],
            "message_id": message["id"],
            "memory_id": str(memory["id"]),
            "hold_id": hold["hold_id"],
            "grant_id": f"grt_{self.row}_1",
            "transaction_id": f"txn_{self.row}_1",
            "file_path": file["file_path"],
            "model": "gpt-4",
        }
        return self

    def belongings(self):
        """Everything that the user can see of its own, but what moves with the time."""
        at = f"/api/v1/sessions/{self.things['session_id']}"
        paths = ["/api/v1/users/me", self.own(""), self.own("/credits/balance"), self.own("/credits/transactions"),
                 self.own("/credits/grants"), self.own("/credits/holds"), self.own("/usage"), self.own("/files"),
                 self.own("/limits"), f"{at}", f"{at}/messages", f"{at}/memory"]
        return {path: without_times(self.ask("GET", path)) for path in paths}


def without_times(value):
    moving = {"timestamp", "request_id", "download_url", "expires_in", "url"}
    if isinstance(value, dict):
        return {key: without_times(of) for key, of in value.items() if key not in moving}
    return [without_times(of) for of in value] if isinstance(value, list) else value


def run(identity, credentials, peers, own, foreign, victim, asked):
    """One run of schemathesis; gives its exit code and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        users = [{"name": name, "fixedHeaders": [{"name": header, "value": value}]}
                   for name, header, value in credentials]
        (folder / "auth.json").write_text(json.dumps({"auth": users}))
        text = (HERE / "schemathesis.toml").read_text()
        text += f'\n[auth.wfc]\npath = "{folder}/auth.json"\n'
        text += f"user = {json.dumps(identity)}\npeers = {json.dumps(peers)}\n" if peers else ""
        (folder / "schemathesis.toml").write_text(text)
        told = {"identity": identity, "seed": SEED, "own": own, "foreign": foreign, "victim": victim}
        environment = os.environ | {
            "PEERS": json.dumps(told), "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "*", "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
        }
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", f"{folder}/schemathesis.toml", "run", f"{ADDRESS}/openapi.json",
            *asked, "--seed", str(SEED), "--max-examples", str(EXAMPLES),
            "--no-shrink", "--request-timeout", "20", "--continue-on-failure", "--output-sanitize", "false",
            "--warnings", "off",
            # Streams without an end; who may watch is asked by `contract/matrix.rs`.
            "--exclude-operation-id", "watch_session", "--exclude-operation-id", "watch_user",
        ]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
        return done.returncode, f"===== as {identity}\n{done.stdout}\n{done.stderr}"


def main():
    alice, bob, victim = User("auth0|alice").furnish(), User("auth0|bob").furnish(), User("auth0|victim")
    before = bob.belongings()
    bearer = lambda user: (user.name.split("|")[1], "Authorization", f"Bearer {user.token}")
    service = ("service", "X-API-Key", SERVICE_KEY)
    admin = bearer(User("auth0|admin", role="admin"))
    # What a program does happens to users of its own, so that Bob is as he was.
    carol, dave = User("auth0|carol").furnish(), User("auth0|dave").furnish()
    runs = [
        # Who may ask is decided before the body is read, so good bodies are enough to find who gets through.
        ("alice", [bearer(alice), bearer(bob)], ["alice", "bob"], alice.things, bob.things, {},
         ["--phases", "examples,fuzzing", "--mode", "positive"]),
        # Whoever reaches everything reaches the depths, so here is every edge of every field.
        ("service", [service, admin], None, carol.things, dave.things, {"user_id": victim.name},
         ["--phases", "examples,coverage,fuzzing"]),
    ]
    with ThreadPoolExecutor() as both:
        ended = list(both.map(lambda of: run(*of), runs))
    for code, said in ended:
        print(said)
    after = bob.belongings()
    changed = [path for path in before if before[path] != after[path]]
    for path in changed:
        print(f"CHANGED {path}\n  {before[path]}\n  {after[path]}")
    return 1 if changed or any(code for code, _ in ended) else 0


sys.exit(main())
