"""Bodies that a JSON door must survive, made here: shapes, encodings, sizes, depths.

`texts` gives named bodies that any JSON route may get; `around` puts a hostile value where a
field's value stands. The families are those of the known JSON test collections.
"""

import gzip
import json
import random
from collections.abc import Iterator, Mapping

NUMBERS = [
    "-0", "-0.0", "0e0", "1e5", "1E+2", "1e-7", "1e400", "-1e400", "1e999", "1e-999",
    "1e99999999999999999999",
    "1e-99999999999999999999", "0.1e1", "123456789012345678901234567890", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", "-9223372036854775809", "1" * 400, "1" * 5000,
    "1" * 100_000,
    "0." + "3" * 100_000, "-1", "1.5", "5.0", "1000000000000", "1000000000001", "9223372036.854775807",
    "9.3e9",
    "00", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x10", "1_000", "NaN", "-NaN", "Infinity",
    "-Infinity", "1 2",
    "--1", "1.2.3", "\uff11",
]  # fmt: skip
STRINGS = [
    '""', '" "', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udc00\\ud800"', '"\\uD83D\\uDE00"',
    '"\\ud83dx"',
    '"\\u12"', '"\\x41"', '"\\"', '"\t"', '"\n"', '"\\u001b[31m"', '"\u202egnp.exe"', '"مرحبا"',
    '"😀' * 1 + '"',
    '"' + "x" * 300 + '"', '"' + "é" * 256 + '"', '"' + "x" * 100_000 + '"', '"\ufeff"', '"\\ufeff"',
    '"%00"',
    '"../../etc/passwd"', "\"'; DROP TABLE event; --\"", '"=cmd|x"', '"<script>"', '"\\n\\rX-Injected: 1"',
    "'single'", '"open', '"\x7f"', '"\u0085"',
]  # fmt: skip
OTHERS = [
    "null", "true", "false", "True", "None", "undefined", "[]", "{}", "[[]]", '{"a":{}}', "[1,]", "[,1]",
    '{"a":1,}',
    '{"a"}', "{a:1}", "{1:1}", "[1 2]", '{"a":1 "b":2}', "[" * 50 + "]" * 50, "[" * 1100 + "]" * 1100,
    '{"a":' * 40 + "1" + "}" * 40, "// no\n1", "/**/1", "[1]#", "",
]  # fmt: skip
VALUES = NUMBERS + STRINGS + OTHERS


def texts(valid: bytes) -> Iterator[tuple[str, bytes]]:
    """Give whole bodies, most of them spoiled forms of `valid`."""
    for index, value in enumerate(VALUES):
        yield f"bare value {index}", value.encode()
    for size in (1, 2, len(valid) // 3, len(valid) // 2, len(valid) - 2, len(valid) - 1):
        yield f"cut after {size}", valid[:size]
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        yield encoding, valid.decode().encode(encoding)
    yield "byte order mark", b"\xef\xbb\xbf" + valid
    yield "latin-1", valid.replace(b"research", "r\xe9search".encode("latin-1"))
    yield "overlong", valid.replace(b"research", b"\xc0\xaf")
    yield "surrogate in utf-8", valid.replace(b"research", b"\xed\xa0\x80")
    yield "nul inside", valid.replace(b"research", b"re\x00search")
    yield "nul behind", valid + b"\x00"
    yield "trailing garbage", valid + b"}"
    yield "twice", valid + valid
    yield "line of json", valid + b"\n" + valid
    yield "white space", b" \t\r\n" * 50_000 + valid + b"\n" * 100_000
    yield "form feed", b"\x0c" + valid
    yield "random bytes", random.Random(1).randbytes(5_000)  # noqa: S311 - repeatable
    for depth in (100, 1_000, 100_000):
        for opening in (b"[", b'{"a":', b'{"events":[', b'[{"events":'):
            yield f"{depth} times {opening!r}", opening * depth
        yield f"{depth} closed lists", b"[" * depth + b"]" * depth


def around(valid: Mapping[str, object], wrap: str = "%s") -> Iterator[tuple[str, bytes]]:
    """Give one body for each field and each hostile value, the value in the field's place."""
    for field in (*valid, "unknown_field"):
        for index, value in enumerate(VALUES):
            body = json.dumps({**valid, field: "\x01here"}).replace('"\\u0001here"', value)
            yield f"{field} value {index}", (wrap % body).encode()


def wide(wrap: bytes = b"%s") -> Iterator[tuple[str, bytes]]:
    """Give large bodies: a million keys, empty items, unknown fields, deep ones."""
    yield "a million keys", b"{" + b",".join(b'"k%d":1' % number for number in range(10**6)) + b"}"
    yield "a million items", b"[" + b"1," * 10**6 + b"1]"
    keys = b",".join(b'"k%d":1' % number for number in range(10**6))
    yield "an item of a million keys", wrap % (b"{" + keys + b"}")
    yield "a million empty items", wrap % (b"{}," * 10**6 + b"{}")
    yield "ten million empty lists", wrap % (b"[]," * 10**7 + b"[]")
    yield "a field of a million lists", wrap % (b'{"agent_name":[' + b"[]," * 10**6 + b"[]]}")
    yield "deep in an item", wrap % (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def packed(valid: bytes) -> Iterator[tuple[str, bytes]]:
    """Give bodies that claim to be gzip."""
    whole = gzip.compress(valid)
    yield "not gzip", valid
    yield "empty", b""
    yield "head only", whole[:10]
    for size in (5, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        yield f"cut after {size}", whole[:size]
    yield "wrong sum", whole[:-8] + bytes(8)
    yield "garbage behind", whole + b"garbage"
    yield "zeros behind", whole + bytes(64)
    yield "twice packed", gzip.compress(whole)
    yield "a bomb of 1000 to 1", gzip.compress(bytes(100 * 2**20), 9)
    yield "a bomb of members", gzip.compress(bytes(2**20), 9) * 100
    yield "a hundred thousand empty members", gzip.compress(b"") * 100_000


def mutated(bodies: list[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Give `count` bodies, each a valid one with a few bytes, tokens or values changed."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    tokens = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b"e", b".", b"null", b"true", b"1e999"]
    tokens += [b"\x00", b"\xff", b"\\ud800", b"\\u0000", b"0", b"9" * 30, b"-1", b"NaN", b"\x1b", b" "]
    hostile = [value.encode() for value in VALUES if len(value) < 500]
    for _ in range(count):
        body = bytearray(chance.choice(bodies))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(body) + 1)
            kind = chance.randrange(6)
            if kind == 0 and place < len(body):
                body[place] ^= 1 << chance.randrange(8)
            elif kind == 1:
                body[place:place] = chance.choice(tokens)
            elif kind == 2:
                del body[place : place + chance.randint(1, 20)]
            elif kind == 3:
                part = body[place : place + chance.randint(1, 40)]
                body[place:place] = part
            else:
                _replace_value(body, place, chance.choice(hostile))
        yield bytes(body)


def _replace_value(body: bytearray, place: int, value: bytes) -> None:
    """Put `value` in the place of the first JSON value behind `place`."""
    start = body.find(b":", place) + 1
    if not start:
        return
    ends = [end for end in (body.find(b",", start), body.find(b"}", start)) if end >= 0]
    body[start : min(ends, default=len(body))] = value
