#!/usr/bin/env python3
"""What answers behind the workspace runtime: its card, and every message in capitals.

The rest of that runtime (register, heartbeat, delegations) speaks as a client, and the test does that part itself.
Started by the platform in place of its own agent: it listens on PORT and leaves its environment in `environment.json` in
its working directory.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: dict) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        known = self.path in ("/.well-known/agent-card.json", "/.well-known/agent.json")
        self.answer(200 if known else 404, {"name": os.environ["WORKSPACE_NAME"], "skills": []})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = request["params"]["message"]
        text = "".join(part["text"] for part in message["parts"]).upper()
        said = {"kind": "message", "role": "agent", "messageId": message["messageId"]}
        self.answer(200, {"jsonrpc": "2.0", "id": request["id"],
                          "result": said | {"parts": [{"kind": "text", "text": text}]}})


with open("environment.json", "w", encoding="utf-8") as there:
    json.dump(dict(os.environ), there)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
