"""Fine-tuning: the evaluator, the method and the transform that it trains with, their recipes."""
