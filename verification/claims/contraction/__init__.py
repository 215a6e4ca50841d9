"""Claims of the document ``contraction``."""
