"""The monitor that evaluates while training."""
