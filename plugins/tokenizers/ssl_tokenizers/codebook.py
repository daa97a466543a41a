from ssl_core.codebook import code_counts, dead_codes, entropy, perplexity, used_share  # noqa: F401
