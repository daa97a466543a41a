from ssl_core.progress import progress  # noqa: F401
