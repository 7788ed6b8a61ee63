"""Talks to one workspace through the platform with the public A2A client, as anybody's program would.

usage: a2a_sdk_client.py AGENT_BASE_URL TOKEN TEXT

Fetches the agent card below AGENT_BASE_URL, sends TEXT to the address that the card names, and prints one JSON object
with the card's name, its url, its security schemes and the agent's answer. The library is used unmodified.
"""

import asyncio
import json
import sys

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory, create_text_message_object
from a2a.types import Message
from a2a.utils import get_message_text


def text_of(event) -> str:
    """The agent's words, whether it answers with a message or with a task."""
    if isinstance(event, Message):
        return get_message_text(event)
    task, _update = event
    if task.status.message is not None:
        return get_message_text(task.status.message)
    return "".join(part.root.text for artifact in task.artifacts or [] for part in artifact.parts)


async def main(base_url: str, token: str, text: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        card = await A2ACardResolver(http, base_url).get_agent_card()
        client = ClientFactory(ClientConfig(httpx_client=http)).create(card)
        answers = [text_of(event) async for event in client.send_message(create_text_message_object(content=text))]
    schemes = sorted(card.security_schemes or {})
    print(json.dumps({"name": card.name, "url": card.url, "schemes": schemes, "answer": answers[-1]}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
