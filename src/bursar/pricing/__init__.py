"""What a model call costs: price lists, aliases, overrides, and the engine that joins them.

    UsageEvent  →  aliases  →  listing, corrections, overrides  →  engine  →  Price

Pure apart from reading the bundled price data once. Storage of overrides stands behind
`ports.PriceStore`; routes and commands are elsewhere.
"""
