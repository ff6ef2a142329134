"""Where words go: data to standard output, talk to standard error."""

import sys

import msgspec


def say(text: str) -> None:
    """Write a line to standard error: what a person should know and a pipe should not get."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the program's voice


def write(text: str) -> None:
    """Write a line to standard output."""
    print(text, flush=True)  # noqa: T201 - this is the program's output


def write_json(document: object) -> None:
    """Write one JSON document to standard output, indented; decimals keep their digits."""
    encoded = msgspec.json.Encoder(decimal_format="number").encode(document)
    write(msgspec.json.format(encoded, indent=2).decode())
