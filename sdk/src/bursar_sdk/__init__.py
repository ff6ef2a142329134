"""The client of Bursar: holds, leases and metering from inside an agent.

This distribution is the room that the client moves into; today it carries only its
version, so that `pip install bursar-sdk` and imports already resolve. It never
imports the server (`bursar`).
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
