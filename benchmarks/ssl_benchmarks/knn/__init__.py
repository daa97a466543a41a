"""k nearest neighbours: the evaluator, and the search behind it."""
