r"""Figures 1 and 2 with a convolutional network, dropout after each convolution: a registered experiment.

The claims are those of :mod:`verification.claims.dropout_bilevel.figures` on networks with hidden layers, word for
word; what is run and decided by is another registration's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from verification.claims.dropout_bilevel import figures
from verification.claims.dropout_bilevel.figures import Experiment
from verification.experiments import data_cleaning_conv
from verification.experiments.registration import load
from verification.model import Claim

NETWORK = "convolutional"
LIKE = "one-hidden"


def cleaning(params: Mapping[str, Any]) -> Experiment:
    """Data cleaning with the convolutional network."""
    name = params["registration"]
    return Experiment(load(name), partial(data_cleaning_conv.curves, params["network"], name=name))


def _convolutional(claim: Claim) -> Claim:
    return dataclasses.replace(
        claim,
        id=claim.id.replace(LIKE, NETWORK),
        title=claim.title.replace(figures.HIDDEN[LIKE], "convolutional network"),
        explicit=({"registration": data_cleaning_conv.NAME, "network": NETWORK},),
        build=cleaning,
        registration=load(data_cleaning_conv.NAME).path,
    )


CLAIMS = tuple(_convolutional(claim) for claim in figures.CLAIMS if claim.id.endswith(LIKE))
