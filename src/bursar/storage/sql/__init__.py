"""Statements that both SQL engines run: `ports` says what an engine gives, `dialect` where they differ."""
