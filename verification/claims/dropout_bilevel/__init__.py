"""Claims of "Dropout methods for bilevel training task"."""
