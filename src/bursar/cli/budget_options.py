"""The options that describe a budget: `bursar budgets create` and `simulate` take the same ones.

command line  →  takes_proposal  →  Proposal  →  body_of  →  POST /v1/budgets, /v1/budgets/simulate

The library reads a command's options from its signature; `takes_proposal` writes that
signature from the fields of `Proposal`, so that each option is declared once.

Not here: what a budget may be. The server checks that, and names the field that is wrong.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import Annotated, Concatenate, ParamSpec, get_type_hints

import msgspec
import typer

from bursar.cli.failures import ExitCode, Failure

Rest = ParamSpec("Rest")

Thresholds = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="SHARE[:ACTION]",
        help="Share of the limit, and what happens there: 0.8, 0.9:pause, 0.9:refuse, 0.8:clamp=1000, "
        "1:kill:latch; may be given several times.",
        show_default="0.8 and 1",
    ),
]
UnpricedRule = Annotated[
    str | None,
    typer.Option(
        "--unpriced",
        help="block or allow: what a hard money budget does once calls without a price are in it.",
        show_default="block",
    ),
]
ExpiryRule = Annotated[
    str | None,
    typer.Option(
        "--on-expiry",
        help="release or suspense: what becomes of a hold that nobody settles.",
        show_default="release",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A budget as it was asked for on the command line; what was not said is the server's to choose."""

    limit: Annotated[
        str,
        typer.Argument(
            metavar="LIMIT", help="US dollars, or whole tokens, calls, milliseconds: see --metric."
        ),
    ]
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None
    period: Annotated[
        str | None,
        typer.Option(
            help="minute, hourly, daily, weekly, monthly, quarterly, total, session_5h, session_7d or run.",
            show_default="daily",
        ),
    ] = None
    metric: Annotated[
        str | None,
        typer.Option(
            help="cost, tokens_total, tokens_input, tokens_output, calls, duration, depth or loops.",
            show_default="cost",
        ),
    ] = None
    agent: Annotated[str | None, typer.Option(help="Only calls of this agent.")] = None
    project: Annotated[str | None, typer.Option(help="Only calls of this project.")] = None
    user: Annotated[str | None, typer.Option(help="Only calls for this user.")] = None
    key: Annotated[str | None, typer.Option(help="Only calls with this API key, by its id (key_…).")] = None
    model: Annotated[str | None, typer.Option(help="Only this model; gpt-4* means several.")] = None
    provider: Annotated[str | None, typer.Option(help="Only this provider; * and ? as in --model.")] = None
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only calls with this tag; may be given several times."),
    ] = None
    soft: Annotated[bool, typer.Option("--soft", help="Tell, but refuse nothing.")] = False
    timezone: Annotated[
        str | None, typer.Option(help="IANA zone in which days begin.", show_default="the organisation's")
    ] = None
    reset_hour: Annotated[
        int | None, typer.Option(help="Hour of the day, 0 to 23, at which it begins anew.", show_default="0")
    ] = None
    threshold: Thresholds = None
    unpriced: UnpricedRule = None
    on_expiry: ExpiryRule = None
    required: Annotated[
        bool, typer.Option("--required", help="Spend that did not ask first raises an alert at once.")
    ] = False
    template: Annotated[
        bool, typer.Option("--template", help="Give every agent a budget like this one, at its next call.")
    ] = False
    per_minute: Annotated[
        bool,
        typer.Option(
            "--per-minute",
            help="A velocity breaker: what passes LIMIT in a minute is paused until a person resumes it.",
        ),
    ] = False
    loops: Annotated[
        bool, typer.Option("--loops", help="A loop guard: LIMIT is how often a run may repeat calls.")
    ] = False


def takes_proposal(command: Callable[Concatenate[Proposal, Rest], None]) -> Callable[..., None]:
    """Return `command` with an option for each field of `Proposal` in place of its first parameter."""
    hints = get_type_hints(Proposal, include_extras=True)
    first, *own = inspect.signature(command).parameters.values()
    names = [field.name for field in fields(Proposal)]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(Proposal, name, inspect.Parameter.empty),
            annotation=hints[name],
        )
        for name in names
    ]

    @functools.wraps(command)
    def taken(*args: Rest.args, **given: Rest.kwargs) -> None:
        proposal = {name: given.pop(name) for name in names}
        command(Proposal(**proposal), *args, **given)  # type: ignore[arg-type]

    signature = inspect.Signature([*options, *own])
    vars(taken)["__signature__"] = signature
    taken.__annotations__ = {
        **{name: parameter.annotation for name, parameter in signature.parameters.items()},
        "return": None,
    }
    del first
    return taken


def body_of(proposal: Proposal) -> dict[str, object]:
    """Return the body of POST /v1/budgets; what was not said is left out.

    Raises:
        Failure: Two options contradict each other, or a threshold or tag cannot be read.
    """
    said: dict[str, object] = {
        "name": proposal.name, "limit": proposal.limit, "period": proposal.period,
        "metric": proposal.metric, "scope": _scope(proposal), "timezone": proposal.timezone,
        "reset_hour": proposal.reset_hour, "unpriced": proposal.unpriced, "on_expiry": proposal.on_expiry,
        "thresholds": thresholds_of(proposal.threshold),
        "mode": "soft" if proposal.soft else None,
        "enforcement": "required" if proposal.required else None,
        "template": proposal.template or None,
    }  # fmt: skip
    body = {field: value for field, value in said.items() if value is not None}
    return body | _short_forms(proposal, body)


def thresholds_of(texts: Sequence[str] | None) -> list[dict[str, object]] | None:
    """Return thresholds as the API takes them, None where none was given.

    Example:
        >>> thresholds_of(["0.8:clamp=1000"])[0]["max_output_tokens"]
        1000

    Raises:
        Failure: One cannot be read.
    """
    return [_threshold(text) for text in texts] if texts else None


def pairs_of(texts: Sequence[str], option: str) -> dict[str, str]:
    """Return NAME=VALUE texts by name.

    Raises:
        Failure: One has no `=`, or nothing on a side of it.
    """
    pairs = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name.strip() and value.strip()):
            raise Failure(f"--{option} {text!r} must be NAME=VALUE", ExitCode.USAGE)
        pairs[name.strip()] = value.strip()
    return pairs


def _scope(proposal: Proposal) -> dict[str, object]:
    said: dict[str, object] = {
        "project": proposal.project, "agent": proposal.agent, "user": proposal.user,
        "api_key": proposal.key, "model": proposal.model, "provider": proposal.provider,
        "run": proposal.run, "tags": pairs_of(proposal.tag or [], "tag") or None,
    }  # fmt: skip
    return {field: value for field, value in said.items() if value is not None}


def _short_forms(proposal: Proposal, body: dict[str, object]) -> dict[str, object]:
    """Return what `--per-minute` and `--loops` stand for."""
    if proposal.per_minute and proposal.loops:
        raise Failure("--per-minute and --loops are two budgets; make one after the other", ExitCode.USAGE)
    if proposal.per_minute:
        stop = {"at": msgspec.Raw(b"1"), "action": "pause", "latch": True}
        return _fixed("per-minute", body, {"period": "minute"}) | {
            "thresholds": body.get("thresholds", [stop])
        }
    if proposal.loops:
        return _fixed("loops", body, {"metric": "loops", "period": "run"})
    return {}


def _fixed(option: str, body: dict[str, object], fixed: dict[str, object]) -> dict[str, object]:
    for field, value in fixed.items():
        if body.get(field, value) != value:
            raise Failure(f"--{option} means --{field} {value}; leave --{field} out", ExitCode.USAGE)
    return fixed


def _threshold(text: str) -> dict[str, object]:
    share, *words = text.split(":")
    try:
        at = Decimal(share)
    except InvalidOperation:
        raise _unreadable(text) from None
    if not at.is_finite():
        raise _unreadable(text)
    # As the number that was typed: a binary float would make 0.8 something else.
    threshold: dict[str, object] = {"at": msgspec.Raw(f"{at:f}".encode()), "action": "alert"}
    for word in words:
        action, _, tokens = word.partition("=")
        if word == "latch":
            threshold["latch"] = True
        elif action == "clamp":
            if not (tokens.isascii() and tokens.isdecimal()):
                raise _unreadable(text)
            threshold |= {"action": "clamp", "max_output_tokens": int(tokens)}
        elif tokens or not word:
            raise _unreadable(text)
        else:
            threshold["action"] = word
    return threshold


def _unreadable(text: str) -> Failure:
    return Failure(
        f"--threshold {text!r} cannot be read",
        ExitCode.USAGE,
        hint="Say a share and an action: 0.8, 0.9:pause, 0.8:clamp=1000, 1:kill:latch.",
    )
