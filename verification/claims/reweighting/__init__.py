"""Claims of "Learning to reweight and bilevel optimization"."""
