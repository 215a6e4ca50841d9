"""The ledger: every statement of the five documents as an executed claim (``python -m verification``)."""
