"""Bursar: the treasurer of a fleet of AI agents.

Start reading at `ingestion/pipeline.py`: `process_batch` is the one function that
sees the whole way of a usage event. `docs/ARCHITECTURE.md` maps the packages.
"""

__version__ = "0.1.0"
