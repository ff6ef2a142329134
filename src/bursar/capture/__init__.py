"""Foreign formats become `core.usage.UsageEvent`s here, and nothing else happens to them.

One file a format: `claude_code` (local logs), `tabular` (CSV and JSONL with a mapping),
`native` (the JSON form of an event). `checks` holds the rules every JSON door shares,
`cursor` and `ports` remember which files were read. Pure but for reading files: no
pricing, no storage, no clock.
"""
