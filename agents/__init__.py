"""The agent loop and everything that other agent systems plug into.

`langchain_tools()`, `agents_sdk_tools()`, `openai_tools()` and `dispatch()` are tools; `subgraph()` is the loop as a node
of another LangGraph graph; `Service` is what servers call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attributes_of, listing_of

if TYPE_CHECKING:
    from .loop import subgraph
    from .modular import modular_block
    from .service import BusyError, CancelledError, Service
    from .tools import agents_sdk_tools, call_tool, dispatch, langchain_tools, openai_tools, responses_tools

_LAZY = {
    "BusyError": "service", "CancelledError": "service", "Service": "service", "agents_sdk_tools": "tools",
    "modular_block": "modular", "responses_tools": "tools", "call_tool": "tools", "dispatch": "tools", "langchain_tools": "tools", "openai_tools": "tools", "subgraph": "loop",
}  # fmt: skip

__all__ = [
    "BusyError",
    "CancelledError",
    "Service",
    "agents_sdk_tools",
    "call_tool",
    "dispatch",
    "langchain_tools",
    "modular_block",
    "openai_tools",
    "responses_tools",
    "subgraph",
]

__getattr__ = attributes_of(__name__, _LAZY)
__dir__ = listing_of(__all__)
