"""The server engine: PostgreSQL by asyncpg, any number of processes. The only place that knows either."""
