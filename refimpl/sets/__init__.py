"""Closed convex sets Λ and their Euclidean projections P_Λ(x) = argmin over y in Λ of ‖x − y‖.

A point is a vector on the last axis; a matrix, or rows, are flattened there in C order. Everything acts over leading
axes. ``contains`` allows the rounding of a projection, and ``project`` leaves what it accepts as it is, bit for bit:
so P_Λ(P_Λ(x)) = P_Λ(x) exactly. Over the rationals boxes are exact, balls where no square root is needed; the spectral
norm takes floats only. The interval backend's balls are accepted, and projected, where they are proved inside.
"""

from refimpl.sets.ball_in_box import BallInBox
from refimpl.sets.base import ConvexSet
from refimpl.sets.mapping import gradient_mapping
from refimpl.sets.products import Blocks, Rows
from refimpl.sets.simple import Ball, Box, SpectralBall

__all__ = [
    "Ball",
    "BallInBox",
    "Blocks",
    "Box",
    "ConvexSet",
    "Rows",
    "SpectralBall",
    "gradient_mapping",
]
