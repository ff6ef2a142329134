"""The embedded engine: one file, one writing connection. The only place that knows SQLite."""
