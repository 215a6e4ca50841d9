"""Families of problems with explicit derivatives and per-instance constants."""

from refimpl.zoo import quadratic as quadratic
