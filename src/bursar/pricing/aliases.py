"""Which model of which price list a caller means, from the two names it sent.

    provider, model (as sent)  →  candidates  →  first listed one  →  CanonicalModel

Callers name the same model in many ways: with the provider in front (`openai/gpt-4o`), as a
cloud's id (`us.anthropic.claude-…-v1:0`), through a router (`openrouter/anthropic/…`), with
the provider left out. Names are compared without case. A name that is only similar to a
listed one stays unlisted: an unknown price is better than a wrong one.

Not here: what counts as another version of the same model (`matching`), prices (`tariff`).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from bursar.core.errors import InvalidInput
from bursar.pricing.corrections import named
from bursar.pricing.listing import Listed, find

_PROVIDERS: Final = {
    "amazon": "aws",
    "amazon-bedrock": "aws",
    "anthropic": "anthropic",
    "arcee": "arcee",
    "avian": "avian",
    "aws": "aws",
    "aws-bedrock": "aws",
    "az-ai-inference": "azure",
    "az-ai-openai": "azure",
    "azure": "azure",
    "azure-ai": "azure",
    "azure-ai-inference": "azure",
    "azure-ai-openai": "azure",
    "azure-openai": "azure",
    "azureopenai": "azure",
    "baseten": "baseten",
    "bedrock": "aws",
    "bedrock-converse": "aws",
    "cerebras": "cerebras",
    "claude": "anthropic",
    "claude-code": "anthropic",
    "cloudflare": "cloudflare",
    "codex": "openai",
    "cohere": "cohere",
    "cohere-chat": "cohere",
    "copilot": "github-copilot",
    "cursor": "cursor",
    "databricks": "databricks",
    "deepseek": "deepseek",
    "doubleword": "doubleword",
    "elevenlabs": "elevenlabs",
    "fireworks": "fireworks",
    "fireworks-ai": "fireworks",
    "gcp-gemini": "google",
    "gcp-gen-ai": "google",
    "gcp-vertex-ai": "google",
    "gemini": "google",
    "gemini-cli": "google",
    "github-copilot": "github-copilot",
    "google": "google",
    "google-ai": "google",
    "google-ai-studio": "google",
    "google-genai": "google",
    "google-generative-ai": "google",
    "google-gla": "google",
    "google-vertex": "google",
    "groq": "groq",
    "meta": "meta",
    "meta-llama": "meta",
    "minimax": "minimax",
    "mistral": "mistral",
    "mistral-ai": "mistral",
    "mistralai": "mistral",
    "modal": "modal",
    "moonshot": "moonshotai",
    "moonshot-ai": "moonshotai",
    "moonshotai": "moonshotai",
    "novita": "novita",
    "novita-ai": "novita",
    "openai": "openai",
    "openrouter": "openrouter",
    "ovhcloud": "ovhcloud",
    "perplexity": "perplexity",
    "perplexity-ai": "perplexity",
    "text-completion-openai": "openai",
    "together": "together",
    "together-ai": "together",
    "togetherai": "together",
    "vertex": "google",
    "vertex-ai": "google",
    "vertexai": "google",
    "voyage": "voyageai",
    "voyageai": "voyageai",
    "x-ai": "x-ai",
    "xai": "x-ai",
    "z-ai": "zai",
    "zai": "zai",
    "zhipuai": "zhipuai",
}
"""Provider names in use (dots, spaces and underscores written as dashes) → the list's id."""

_SAYS_NOTHING: Final = frozenset(
    {"", "-", "custom", "default", "gateway", "litellm", "litellm-proxy", "n-a", "none", "null", "other"}
    | {"proxy", "unknown", "auto"}
)
"""Provider values that name nobody: the model alone must tell."""

_MAKERS: Final = (
    "anthropic",
    "openai",
    "google",
    "mistral",
    "deepseek",
    "x-ai",
    "cohere",
    "moonshotai",
    "perplexity",
    "voyageai",
    "minimax",
    "meta",
)
"""Who is asked when no provider is named: makers only, for hosts sell at many prices.

Zhipu's and Z.AI's lists price the same names differently, so neither is guessed.
"""

_ROUTES: Final = frozenset({"openrouter", "aws", "azure", "google", "together", "fireworks", "groq"})
"""A prefix that names one of these is the way a call took to a maker's model."""

_ANY_SERVER: Final = "openai"
"""Clients of many providers call themselves OpenAI's, whose protocol they speak."""

_NAMES_MAX: Final = 16_384
"""Name pairs remembered in one process, about 200 bytes each."""

_BEDROCK_ID: Final = re.compile(
    r"(?:(?:us|eu|apac|au|jp|in|ca|global|us-gov)\.)?"
    r"(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai|qwen|nvidia|writer|moonshotai|zai|minimax)\."
    r"[a-z].*"
)
_BEDROCK_REGION: Final = re.compile(r"(?:us|eu|ap|ca|sa|me|af|il|mx)-[a-z]+-\d/")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:bedrock:[^/]*/")
_MODEL_PATHS: Final = ("models/", "publishers/google/models/", "publishers/anthropic/models/")
_LONG_CONTEXT_MARK: Final = "[1m]"
"""Claude Code's mark for a long context window; what that costs is decided by the tokens used."""

_BEDROCK_PATHS: Final = ("converse/", "invoke/")


class CanonicalModel(NamedTuple):
    """The names a model goes by here.

    `provider` sells it and `model` is the price list's id; `maker` is whose list has the
    price, which differs from `provider` for resold models (Azure, Vertex). When `listed` is
    false no list has the model: the names are those sent, in lower case.
    """

    provider: str
    model: str
    maker: str
    listed: bool


def canonical(provider: str, model: str) -> CanonicalModel:
    """Return what `provider` and `model`, as sent, stand for.

    Example:
        >>> canonical("unknown", "Bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0").model
        'regional.anthropic.claude-sonnet-4-20250514-v1:0'
    """
    found = resolve(provider, model)
    if found is None:
        return CanonicalModel(provider_id(provider), model.strip().lower(), "", listed=False)
    seller, listed = found
    return CanonicalModel(seller, listed.model, listed.provider, listed=True)


@lru_cache(maxsize=_NAMES_MAX)
def resolve(provider: str, model: str) -> tuple[str, Listed] | None:
    """Return who sells the model and its entry in the price list, None if nobody lists it."""
    for seller, name in _candidates(_provider_key(provider), _bare_path(model.strip().lower())):
        listed = named(seller, name) or find(seller, name)
        if listed is not None:
            return seller, listed
    return None


def provider_id(provider: str) -> str:
    """Return the price list's id for a provider's name, or the name in lower case.

    Example:
        >>> provider_id("gcp.vertex_ai"), provider_id("x_ai"), provider_id("Acme")
        ('google', 'x-ai', 'acme')
    """
    key = _provider_key(provider)
    return _PROVIDERS.get(key) or key


def names_of(provider: str, model: str) -> frozenset[str]:
    """Return every lower-case name by which an override may mean the model.

    As sent and canonical, each with and without the provider in front.
    """
    found = canonical(provider, model)
    sent = model.strip().lower()
    bare = _without_prefix(found.provider, sent)
    return frozenset(
        {sent, f"{provider.strip().lower()}/{sent}", found.model, f"{found.provider}/{found.model}"}
        | {bare, f"{found.provider}/{bare}"}
    )


def pattern_of(provider: str, model: str) -> str:
    """Return the exact override pattern `provider/model` for names as a price file gives them.

    Raises:
        InvalidInput: The name holds a wildcard, so it would match others, too.
    """
    seller = provider_id(provider)
    name = _without_prefix(seller, model.strip().lower())
    if any(mark in name for mark in "*?["):
        raise InvalidInput("a model name with *, ? or [ cannot be taken literally")
    return f"{seller}/{name}" if seller else name


def _without_prefix(seller: str, name: str) -> str:
    head, slash, tail = name.partition("/")
    return tail if slash and provider_id(head) == seller else name


def _candidates(provider: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (price list, name in it) in the order in which they are to be tried."""
    seller = _PROVIDERS.get(provider, "")
    head, slash, tail = name.partition("/")
    prefix = _PROVIDERS.get(_provider_key(head), "") if slash else ""
    if seller:
        yield from _sold_by(seller, name)
    if prefix and _prefix_wins(seller, prefix):
        yield from _candidates(_provider_key(head), tail)
        return
    if seller and prefix:
        yield from _sold_by(seller, tail)
    if _BEDROCK_ID.fullmatch(name):
        yield "aws", name
    if seller == _ANY_SERVER or provider in _SAYS_NOTHING:
        yield from ((maker, name) for maker in _MAKERS)


def _prefix_wins(seller: str, prefix: str) -> bool:
    """Tell whether a provider in front of the model's name is to be believed over `seller`.

    Hosts name models by their makers (`groq` sells `openai/gpt-oss-120b`), so there it is not.
    """
    return seller in {"", prefix, _ANY_SERVER} or (seller in _MAKERS and prefix in _ROUTES)


def _sold_by(seller: str, name: str) -> Iterator[tuple[str, str]]:
    yield seller, name
    if seller == "aws":
        yield seller, _bare_bedrock(name)


def _provider_key(provider: str) -> str:
    key = re.sub(r"[\s._]+", "-", provider.strip().lower())
    return "vertex-ai" if key.startswith("vertex-ai-") else key


def _bare_path(name: str) -> str:
    for path in _MODEL_PATHS:
        name = name.removeprefix(path)
    return _ARN.sub("", name).removesuffix(_LONG_CONTEXT_MARK)


def _bare_bedrock(name: str) -> str:
    """Return a Bedrock id without the calling convention and the region in front.

    GovCloud regions keep theirs: they have their own prices.
    """
    for path in _BEDROCK_PATHS:
        name = name.removeprefix(path)
    return _BEDROCK_REGION.sub("", name, count=1)
