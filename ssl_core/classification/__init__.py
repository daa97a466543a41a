"""Supervised classification as one method. Fine-tuning and the supervised baseline are presets of it."""
