"""The commands of the engine: `ssl-train` and `ssl-plugins`."""
