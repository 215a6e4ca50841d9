"""Families of problems with explicit derivatives and per-instance constants."""

from refimpl.zoo import (
    biased,
    degenerate,
    equilibrium,
    logistic,
    maps,
    overparametrised,
    poisoning,
    quadratic,
    ridge,
    uppers,
    weight_function,
    weighted_softmax,
)

__all__ = [
    "biased",
    "degenerate",
    "equilibrium",
    "logistic",
    "maps",
    "overparametrised",
    "poisoning",
    "quadratic",
    "ridge",
    "uppers",
    "weight_function",
    "weighted_softmax",
]
