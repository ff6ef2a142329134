"""What names stand for, and which names stand for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.core.errors import InvalidInput
from bursar.pricing.aliases import canonical, pattern_of

SONNET_4_BEDROCK = "regional.anthropic.claude-sonnet-4-20250514-v1:0"

KNOWN = [
    ("openai", "gpt-4o", "openai", "gpt-4o"),
    ("", "gpt-4o", "openai", "gpt-4o"),
    ("none", "gpt-4o", "openai", "gpt-4o"),
    (" OpenAI ", " GPT-4o ", "openai", "gpt-4o"),
    ("openai", "openai/gpt-4o", "openai", "gpt-4o"),
    ("litellm", "openai/gpt-4o", "openai", "gpt-4o"),
    ("acme-gateway", "openai/gpt-4o", "openai", "gpt-4o"),
    ("azure", "gpt-4o", "azure", "gpt-4o"),
    ("azure", "openai/gpt-4o", "azure", "gpt-4o"),
    ("", "azure/gpt-4o", "azure", "gpt-4o"),
    ("openai", "azure/gpt-4o", "azure", "gpt-4o"),
    ("az.ai.inference", "gpt-4o", "azure", "gpt-4o"),
    ("bedrock", "anthropic.claude-sonnet-4-20250514-v1:0", "aws", SONNET_4_BEDROCK),
    ("", "us.anthropic.claude-sonnet-4-20250514-v1:0", "aws", SONNET_4_BEDROCK),
    ("", "apac.anthropic.claude-sonnet-4-20250514-v1:0", "aws", SONNET_4_BEDROCK),
    ("anthropic", "eu.anthropic.claude-sonnet-4-20250514-v1:0", "aws", SONNET_4_BEDROCK),
    ("", "bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0", "aws", SONNET_4_BEDROCK),
    ("", "bedrock/converse/us.anthropic.claude-sonnet-4-20250514-v1:0", "aws", SONNET_4_BEDROCK),
    ("", "bedrock/eu-west-1/anthropic.claude-sonnet-4-20250514-v1:0", "aws", SONNET_4_BEDROCK),
    ("vertex_ai", "claude-sonnet-4@20250514", "google", "claude-4-sonnet"),
    ("vertex_ai-anthropic_models", "claude-sonnet-4@20250514", "google", "claude-4-sonnet"),
    ("", "vertex_ai/gemini-2.5-pro", "google", "gemini-2.5-pro"),
    ("", "gemini/gemini-2.5-pro-preview-06-05", "google", "gemini-2.5-pro"),
    ("google_genai", "models/gemini-2.0-flash-001", "google", "gemini-2.0-flash"),
    ("", "openrouter/anthropic/claude-sonnet-4", "openrouter", "anthropic/claude-sonnet-4"),
    ("openrouter", "openrouter/anthropic/claude-sonnet-4", "openrouter", "anthropic/claude-sonnet-4"),
    ("anthropic", "openrouter/anthropic/claude-sonnet-4", "openrouter", "anthropic/claude-sonnet-4"),
    ("openai", "anthropic/claude-sonnet-4-0", "anthropic", "claude-sonnet-4-0"),
    ("openai", "deepseek-chat", "deepseek", "deepseek-chat"),
    ("groq", "openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
    ("", "groq/openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
    ("together_ai", "openai/gpt-oss-120b", "together", "openai/gpt-oss-120b"),
    ("", "xai/grok-4", "x-ai", "grok-4-0709"),
    ("openai", "gpt-5-20250807", "openai", "gpt-5"),
    ("openai", "ft:gpt-3.5-turbo-0125:org::id", "openai", "ft:gpt-3.5-turbo-"),
    ("anthropic", "claude-opus-4-6[1m]", "anthropic", "claude-opus-4-6"),
    ("anthropic", "claude-2.1", "anthropic", "claude-2"),
    ("google", "gemini-1.5-flash-8b", "google", "gemini-1.5-flash-8b"),
    ("claude-code", "claude-sonnet-4-5-20250929", "anthropic", "claude-sonnet-4-5"),
]


@pytest.mark.parametrize(("provider", "model", "seller", "listed"), KNOWN)
def test_a_name_stands_for_its_listed_model(provider: str, model: str, seller: str, listed: str) -> None:
    found = canonical(provider, model)

    assert (found.provider, found.model, found.listed) == (seller, listed, True)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", ""),
        ("", ""),
        ("openai", "gpt-4o-super"),
        ("openai", "gpt"),
        ("openai", "o3-ultra"),
        ("azure", "my-deployment"),
        ("azure", "o4-mini-ultra"),
        ("azure", "eu/gpt-4o"),
        ("anthropic", "claude-sonnet-4-5-thinking"),
        ("anthropic", "claude-opus-4-10"),
        ("anthropic", "claude"),
        ("google", "gemini-1.5-flash-9b"),
        ("mistral", "magistral-medium-x"),
        ("openai", "ft:gpt-4.1-mini-2025-04-14:org::id"),
        ("openai", "ft:gpt-3.5-turbo-16k:org::id"),
        ("anthropic", "gpt-4o"),
        ("anthropic", "openai/gpt-4o"),
        ("acme", "gpt-4o"),
        ("openrouter", "claude-sonnet-4-0"),
        ("", "glm-4.6"),
    ],
)
def test_a_name_that_is_only_similar_stands_for_nothing(provider: str, model: str) -> None:
    assert not canonical(provider, model).listed


def test_an_unlisted_model_keeps_its_names_in_lower_case() -> None:
    assert canonical("GCP.Vertex_AI", "My-Model") == ("google", "my-model", "", False)


@given(st.sampled_from(KNOWN))
def test_case_does_not_matter(known: tuple[str, str, str, str]) -> None:
    provider, model, *_ = known

    assert canonical(provider.upper(), model.upper()) == canonical(provider.lower(), model.lower())


@given(st.text(max_size=40), st.text(max_size=80))
def test_no_text_is_too_odd_to_be_looked_up(provider: str, model: str) -> None:
    assert canonical(provider, model).model is not None


def test_a_price_files_name_becomes_an_exact_pattern() -> None:
    assert pattern_of("bedrock", "Bedrock/anthropic.claude-v1") == "aws/anthropic.claude-v1"
    assert pattern_of("", "my-model") == "my-model"
    with pytest.raises(InvalidInput):
        pattern_of("openai", "gpt-*")
