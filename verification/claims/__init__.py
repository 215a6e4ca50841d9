"""One package per document; a module registers its claims by a tuple ``CLAIMS``."""
