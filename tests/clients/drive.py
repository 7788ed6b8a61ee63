"""Drives one real client against a fresh server, and says of each step whether it holds.

usage: drive.py sdk CHECKOUT | drive.py connect PROGRAM | drive.py runtime PYTHON

Called by scripts/drive-client, which says what these are.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Longer than any step takes on a loaded machine.
LIMIT = 60


def holds(what: str, is_so: bool, seen: object = "") -> None:
    """Prints a step that holds; ends everything at one that does not."""
    if not is_so:
        sys.exit(f"FAILED  {what}: {seen}")
    print(f"ok      {what}", flush=True)


def until(what: str, probe) -> object:
    """Looks until the probe answers something true, and says so."""
    begun, seen = time.monotonic(), None
    while time.monotonic() - begun < LIMIT:
        seen = probe()
        if seen:
            break
        time.sleep(0.1)
    holds(what, bool(seen), f"not within {LIMIT} s")
    return seen


class Server:
    """A platform of our own, and its operator."""

    def __init__(self, home: pathlib.Path, agent: pathlib.Path | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url, self.data = f"http://127.0.0.1:{port}", home / "data"
        # Only what a program needs to be found: nothing configures the server from outside.
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "RATE_LIMIT": "1000000"}
        if agent:
            environment["COVALENCE_AGENT_PROGRAM"] = str(agent)
        self.output = home / "server.log"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [ROOT / "target/debug/covalence", "serve", "--backend", "process", "--stop-workspaces",
                 "--listen", f"127.0.0.1:{port}", "--data-dir", self.data],
                env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.token = ""
        until("the server is ready", lambda: self.asks("GET", "/ready")[0] == 200)
        self.token = (self.data / "admin-token").read_text().strip()

    def asks(self, method: str, path: str, body: object = None, token: str | None = None) -> tuple[int, object]:
        """Status and body of an answer; the operator asks unless somebody else's token is given."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {token or self.token}")
        data = None if body is None else json.dumps(body).encode()
        if data:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, data, timeout=LIMIT) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def makes(self, **wish: object) -> dict:
        status, made = self.asks("POST", "/workspaces", wish)
        holds(f"a workspace `{wish['name']}`", status == 201, made)
        return made

    def status(self, workspace: str) -> str:
        rows = self.asks("GET", "/workspaces")[1]
        return next((row["status"] for row in rows if row["id"] == workspace), "removed")

    def feed(self, workspace: str) -> list:
        return self.asks("GET", f"/workspaces/{workspace}/activity?limit=100")[1]

    def peer(self) -> tuple[str, str]:
        """An echo that is online, and a token that speaks for it."""
        peer = self.makes(name="Ada", runtime="echo")["id"]
        until("the peer is online", lambda: self.status(peer) == "online")
        return peer, self.asks("POST", f"/workspaces/{peer}/tokens", {})[1]["auth_token"]

    def says(self, workspace: str, text: str, token: str | None = None) -> tuple[int, object]:
        message = {"role": "user", "parts": [{"kind": "text", "text": text}]}
        call = {"method": "message/send", "params": {"message": message}}
        return self.asks("POST", f"/workspaces/{workspace}/a2a", call, token)

    def has_result(self, workspace: str, token: str, text: str) -> bool:
        listed = self.asks("GET", f"/workspaces/{workspace}/delegations", token=token)[1]
        return any(text in one.get("response_preview", "") for one in listed)

    def ends(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LIMIT)


def heard(server: Server, peer: str, sender: str, text: str) -> bool:
    """Whether a workspace was told something by another one."""
    return any(row["source_id"] == sender and text in json.dumps(row.get("data")) for row in server.feed(peer))


def drive_sdk(server: Server, home: pathlib.Path, checkout: str) -> None:
    sys.path.insert(0, checkout)
    from molecule_agent import RemoteAgentClient
    from molecule_agent.inbound import CursorLostError, PollDelivery

    peer, peer_token = server.peer()
    id = server.makes(name="scout", runtime="external", url="remote://no-inbound")["id"]

    def client() -> RemoteAgentClient:
        return RemoteAgentClient(workspace_id=id, platform_url=server.url, agent_card={"name": "scout", "skills": []},
                                 token_dir=home / "token", heartbeat_interval=0.5)

    sdk = client()
    token = sdk.register()
    mode = (home / "token/.auth_token").stat().st_mode & 0o777
    holds("it registers without a credential and keeps its token", bool(token) and mode == 0o600, oct(mode))
    sdk = client()
    holds("at its next start it registers again, with the token that it has", sdk.register() == token)
    sdk.heartbeat(current_task="digging", active_tasks=1)
    holds("a heartbeat brings it online", server.status(id) == "online")
    state = sdk.poll_state()
    holds("it knows its state", (state.status, state.paused, state.deleted) == ("online", False, False), state)
    server.asks("PUT", f"/workspaces/{id}/secrets", {"key": "DRIVEN", "value": "yes"})
    holds("it finds its secrets", sdk.pull_secrets() == {"DRIVEN": "yes"})
    holds("it sees its peer", [one.id for one in sdk.get_peers()] == [peer])
    holds("it discovers its peer", str(sdk.discover_peer(peer)).startswith("http"))
    for direct in (True, False):
        answer = sdk.call_peer(peer, "hello", prefer_direct=direct)
        holds("it calls its peer", "echo Ada: hello" in json.dumps(answer), answer)
    try:
        sdk.fetch_inbound(since_id="0193b1a0-0000-7000-8000-000000000001")
        holds("a cursor that is lost is told", False)
    except CursorLostError:
        holds("a cursor that is lost is told", True)

    ended: list[str] = []

    def loop() -> threading.Thread:
        delivery = PollDelivery(sdk, interval=0.2, cursor_file=home / "cursor")
        thread = threading.Thread(
            target=lambda: ended.append(sdk.run_agent_loop(lambda message, _: message.text.upper(), delivery)))
        thread.start()
        return thread

    running = loop()
    server.says(id, "anybody there?")
    until("it answers a person", lambda: any("ANYBODY THERE?" in (row["summary"] or "") for row in server.feed(id)))
    server.says(id, "well?", peer_token)
    until("it answers a peer", lambda: heard(server, peer, id, "WELL?"))
    server.asks("POST", f"/workspaces/{peer}/delegate", {"target_id": id, "task": "dig"}, peer_token)
    until("it does what is handed to it", lambda: server.has_result(peer, peer_token, "DIG"))
    first, again = (sdk.delegate("deeper", peer, idempotency_key="driven") for _ in range(2))
    holds("it hands a task on, once", first["delegation_id"] == again["delegation_id"], (first, again))
    until("the result comes to it", lambda: server.has_result(id, token, "echo Ada: deeper"))
    server.asks("POST", f"/workspaces/{id}/pause", {})
    running.join(LIMIT)
    holds("it stops when it is paused", ended == ["paused"], ended)
    server.asks("POST", f"/workspaces/{id}/resume", {})
    running = loop()
    until("it comes back", lambda: server.status(id) == "online")
    server.asks("DELETE", f"/workspaces/{id}?confirm=true")
    running.join(LIMIT)
    holds("it stops when it is removed", ended == ["paused", "removed"], ended)


def drive_connect(server: Server, home: pathlib.Path, program: str) -> None:
    peer, peer_token = server.peer()
    made = server.makes(name="laptop", runtime="external")
    id, token = made["id"], made["connection"]["auth_token"]
    command = [program, "connect", id, "--api-url", server.url, "--token", token, "--backend", "mock",
               "--backend-opt", "reply=got %s", "--interval-ms", "200"]
    with (home / "connect.log").open("w") as output:
        bridge = subprocess.Popen(command, env=os.environ | {"HOME": str(home)}, stdin=subprocess.DEVNULL,
                                  stdout=output, stderr=output)
    try:
        until("it registers, and is online", lambda: server.status(id) == "online")
        server.says(id, "well?", peer_token)
        until("it answers a peer", lambda: heard(server, peer, id, "got "))
        server.asks("POST", f"/workspaces/{peer}/delegate", {"target_id": id, "task": "dig"}, peer_token)
        until("it does what is handed to it", lambda: server.has_result(peer, peer_token, "got "))
        server.says(id, "and a person")
        server.says(id, "still there?", peer_token)
        until("a person's message does not stop it", lambda: heard(server, peer, id, "still there?")
              or sum(row["source_id"] == id for row in server.feed(peer)) >= 2)
        holds("it still runs", bridge.poll() is None, (home / "connect.log").read_text())
    finally:
        bridge.send_signal(signal.SIGTERM)
        status = bridge.wait(LIMIT)
    holds("it ends cleanly when it is told to", status == 0, status)


# In place of the platform's own agent. The runtime takes its port from its configuration, and the platform's choice is in PORT.
RUNTIME = """#!/bin/sh
set -e
configs=$(mktemp -d -p "$PWD")
cp "$WORKSPACE_CONFIG_PATH/.auth_token" "$configs"
printf 'name: %s\\nruntime: custom\\nversion: 1.0.0\\nmodel: none\\na2a:\\n  port: %s\\n' \\
    "$WORKSPACE_NAME" "$PORT" >"$configs/config.yaml"
export WORKSPACE_CONFIG_PATH="$configs" CONFIGS_DIR="$configs" HOSTNAME=127.0.0.1
export PYTHONDONTWRITEBYTECODE=1 ADAPTER_MODULE=echo_adapter PYTHONPATH=@CLIENTS@
export DELEGATION_RESULTS_FILE="$configs/results.jsonl"
exec @PYTHON@ -c 'from molecule_runtime.main import main_sync; main_sync()'
"""


def drive_runtime(server: Server, _home: pathlib.Path, _python: str) -> None:
    lead = server.makes(name="lead", runtime="echo")["id"]
    id = server.makes(name="worker", runtime="echo", parent_id=lead)["id"]
    for one in (lead, id):
        until("a runtime beats, and is online", lambda one=one: server.status(one) == "online")
    row = until("it has registered its card", lambda: next(
        (row for row in server.asks("GET", "/workspaces")[1] if row["id"] == id and row["agent_card"]), None))
    holds("under its name", row["agent_card"]["name"] == "worker", row["agent_card"])
    until("it answers", lambda: "HELLO" in json.dumps(server.says(id, "hello")[1]))
    token = server.asks("POST", f"/workspaces/{id}/tokens", {})[1]["auth_token"]
    holds("it may call itself", "WAKE UP" in json.dumps(server.says(id, "wake up", token)[1]))
    task = {"target_id": lead, "task": "approve"}
    holds("it hands a task on", server.asks("POST", f"/workspaces/{id}/delegate", task, token)[0] == 202)
    until("the result comes to it", lambda: server.has_result(id, token, "APPROVE"))
    wakes = "Delegation results are ready"
    until("and wakes it with its next beat", lambda: any(
        row["source_id"] == id and wakes in json.dumps(row.get("request_body")) for row in server.feed(id)))


def main(kind: str, client: str) -> None:
    with tempfile.TemporaryDirectory(prefix="covalence-drive-", ignore_cleanup_errors=True) as place:
        home, agent = pathlib.Path(place), None
        if kind == "runtime":
            agent = home / "covalence-agent"
            text = RUNTIME.replace("@PYTHON@", client).replace("@CLIENTS@", str(ROOT / "tests/clients"))
            agent.write_text(text)
            agent.chmod(0o700)
        server = Server(home, agent)
        try:
            {"sdk": drive_sdk, "connect": drive_connect, "runtime": drive_runtime}[kind](server, home, client)
        except BaseException:
            for log in [*home.glob("*.log"), *server.data.glob("workspaces/*/logs/*")]:
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}", file=sys.stderr)
            raise
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.ends()
    print("everything holds")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
