"""Claims of "Improved bilevel model: fast and optimal algorithm with theoretical guarantee"."""
