"""What a rate card can charge for, in one fixed order.

A unit is a count field of `UsageEvent`, or `request`. Not here: prices.
"""

from typing import Final

INPUT: Final = "input_tokens"
OUTPUT: Final = "output_tokens"
REASONING: Final = "reasoning_tokens"
CACHE_READ: Final = "cache_read_tokens"
CACHE_WRITE_5M: Final = "cache_write_5m_tokens"
CACHE_WRITE_1H: Final = "cache_write_1h_tokens"
INPUT_AUDIO: Final = "input_audio_tokens"
OUTPUT_AUDIO: Final = "output_audio_tokens"
INPUT_IMAGE: Final = "input_image_tokens"
OUTPUT_IMAGE: Final = "output_image_tokens"
WEB_SEARCH: Final = "web_searches"
REQUEST: Final = "request"

UNITS: Final = (
    INPUT,
    OUTPUT,
    REASONING,
    CACHE_READ,
    CACHE_WRITE_5M,
    CACHE_WRITE_1H,
    INPUT_AUDIO,
    OUTPUT_AUDIO,
    INPUT_IMAGE,
    OUTPUT_IMAGE,
    WEB_SEARCH,
    REQUEST,
)
"""Every unit, in the order in which a rate card lists its lines."""

RATE_SCALE: Final = 1_000_000
"""Rates are nano-USD for one unit × this."""

RATE_E6_PER_USD_PER_MILLION: Final = 1_000_000_000
"""1 USD per million units is 1,000 nano-USD a unit, so 10⁹ on a rate's scale."""
