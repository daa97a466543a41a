"""The linear probe: the evaluator, its heads, and their training."""
