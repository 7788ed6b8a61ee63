"""What the workspace runtime calls an adapter: answers every message in capitals, through the runtime's own A2A server.

Loaded by the runtime itself (ADAPTER_MODULE), in the environment that scripts/drive-client makes for it.
"""

from a2a.server.agent_execution import AgentExecutor
from a2a.utils import new_agent_text_message
from molecule_runtime.adapters import BaseAdapter


class Capitals(AgentExecutor):
    async def execute(self, context, event_queue) -> None:
        await event_queue.enqueue_event(new_agent_text_message(context.get_user_input().upper()))

    async def cancel(self, context, event_queue) -> None:
        """Nothing takes long enough."""


class Adapter(BaseAdapter):
    @staticmethod
    def name() -> str:
        return "custom"

    @staticmethod
    def display_name() -> str:
        return "capitals"

    @staticmethod
    def description() -> str:
        return "answers in capitals"

    async def setup(self, config) -> None:
        """There is nothing to set up."""

    async def create_executor(self, config) -> AgentExecutor:
        return Capitals()
