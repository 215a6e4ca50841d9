"""Dropout of a bilevel problem's levels: f(m_λ λ, m_w w) for given masks, and its expectation over random ones.

Masks multiply coordinates (dropout-bilevel (9), (10)); derivatives follow by the chain rule, formula (10):

    ∇[f(M·)](W) = M ∇f(MW),   ∇²[f(M·)](W) = M ∇²f(MW) M,   W = (λ, w), M = diag(m_λ, m_w).

Two scalings, and this is the one place where they are told apart: ``"none"``, m ∈ {0, 1}, is dropout-bilevel's;
``"inverse"``, m/p ∈ {0, 1/p}, has E[m/p] = 1 and is dropout-flatness's. p is always a keep probability.
Two sites: ``"weights"``, the masks multiply the coordinates of w (a network's unit with its row of weights and bias);
``"activations"``, they multiply the outputs of hidden units. For masks 0 or 1 they agree exactly where the activation
has a(0) = 0, for masks 0 or 1/p where also a(cz) = c a(z) for c >= 0 (linear, ReLU, leaky ReLU); only the first
masks a ridge on w.
"""

from refimpl.masks.dropout import MAX_MASKS, Dropout
from refimpl.masks.make import dropout
from refimpl.masks.masked import Masked

__all__ = [
    "MAX_MASKS",
    "Dropout",
    "Masked",
    "dropout",
]
