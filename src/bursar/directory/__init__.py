"""Organisations, projects, agents and runs: the names that usage is filed under."""
