"""Receives webhooks and verifies them with the official library of Standard Webhooks.

Every line of its input is a JSON object: "secrets", texts by path, and "answers", statuses by path; the first also has
"port", 0 for any. It is answered with a line {"port": number}. Every delivery is a line of output, written before it is
answered: {"path", "id", "timestamp", "signatures", "body"} if the library verified it, or {"path", "refused"}.
"""

import http.server
import json
import sys
import threading

import standardwebhooks

SECRETS: dict[str, standardwebhooks.Webhook] = {}
ANSWERS: dict[str, int] = {}
WRITING = threading.Lock()


def write(line: dict) -> None:
    with WRITING:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def take(line: str) -> dict:
    asked = json.loads(line)
    SECRETS.update({path: standardwebhooks.Webhook(secret) for path, secret in asked.get("secrets", {}).items()})
    ANSWERS.update(asked.get("answers", {}))
    return asked


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.received(body))
        self.send_header("content-length", "0")
        self.end_headers()

    def received(self, body: bytes) -> int:
        answer = ANSWERS.get(self.path, 204)
        if answer >= 300:
            return answer
        try:
            SECRETS[self.path].verify(body, dict(self.headers))
        except (KeyError, ValueError, standardwebhooks.WebhookVerificationError) as error:
            write({"path": self.path, "refused": repr(error)})
            return 401
        seen = {name: self.headers[f"webhook-{name}"] for name in ("id", "timestamp")}
        signatures = len(self.headers["webhook-signature"].split(" "))
        write({"path": self.path, **seen, "signatures": signatures, "body": body.decode("utf-8")})
        return answer

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Says nothing: whoever sends may be killed in the middle of a request."""


first = take(sys.stdin.readline())
server = Server(("127.0.0.1", first["port"]), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
write({"port": server.server_port})
for asked in sys.stdin:
    take(asked)
    write({"port": server.server_port})
