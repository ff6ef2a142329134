"""Bursar's own API. Its vocabulary is a superset of the AgentKavach reference."""
