"""Does some test notice when a formula is wrong? Each formula is broken in turn, and named tests must fail.

``python -m tests.mutants`` runs two sets: a table written by hand for the core (``table``), and mutants that
``generate`` derives from the source of every formula of the zoo and of the networks. ``equivalents.toml`` gives the
reason for each that no test can notice; any other survivor makes the command fail.
"""
