"""Discovery: what plugins register, how they are loaded, and how a name finds its component."""
