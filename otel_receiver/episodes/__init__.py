"""From readings of spans to episodes: buffering, assembly, conversations, quality flags."""
