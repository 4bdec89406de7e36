"""The agent loop and its parts: LangGraph graph, rewriters, intent guard."""
