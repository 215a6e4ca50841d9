"""Scatters of noise against flatness: principal directions of samples, rank correlation, power-law slope and R²."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refimpl.arrays import Backend
from refimpl.curvature.alignment import Alignment
from refimpl.curvature.directions import EigenDirections
from refimpl.errors import BadInput

FEWEST = 10  # pairs: with fewer a slope is a matter of two or three directions


@dataclass(frozen=True, eq=False)
class Relation:
    """Pairs (x, y) on logarithmic axes: Spearman's ρ, slope and R² of the least-squares line, pairs left out."""

    x: np.ndarray
    y: np.ndarray
    rank: float
    slope: float
    r2: float
    left_out: int


def relation(x: np.ndarray, y: np.ndarray) -> Relation:
    """Of the pairs in which both numbers are positive and finite, the others counted. ``BadInput`` if few remain."""
    from scipy.stats import spearmanr

    kept = (x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)
    if kept.sum() < FEWEST:
        raise BadInput(
            "too few directions for a relation",
            measured=f"{kept.sum()} of {x.size} pairs are positive and finite",
            required=f">= {FEWEST}",
            advice="raise the limit up to which the loss is followed, or sample more",
        )
    x, y = x[kept], y[kept]
    u, v = np.log(x) - np.log(x).mean(), np.log(y) - np.log(y).mean()
    slope = float(u @ v / (u @ u))
    r2 = float((u @ v) ** 2 / ((u @ u) * (v @ v)))
    return Relation(x, y, float(spearmanr(x, y).statistic), slope, r2, int((~kept).sum()))


def principal(samples: np.ndarray, most: int) -> EigenDirections:
    """Eigenvalues and unit eigenvectors of the samples' population covariance, (S, d), the ``most`` largest.

    Of rank S − 1 at most; those that rounding cannot tell from 0, λ <= (max(S, d) eps)² λ₁, are left out.
    """
    count = len(samples)
    centred = samples - samples.mean(axis=0)
    _, spread, rows = np.linalg.svd(centred, full_matrices=False)
    sound = spread > max(samples.shape) * np.finfo(float).eps * spread[0]
    k = min(int(sound.sum()), most, count - 1)
    return EigenDirections(spread[:k] ** 2 / count, rows[:k])


def leading(matrix: np.ndarray, most: int) -> EigenDirections:
    """The largest eigenvalues of a symmetric matrix (d, d), those above d eps λ₁, and their eigenvectors."""
    from scipy.linalg import eigh

    d = len(matrix)
    values, columns = eigh(matrix, subset_by_index=[max(0, d - most), d - 1])
    sound = values[::-1] > d * np.finfo(float).eps * values[-1]
    return EigenDirections(values[::-1][sound], columns.T[::-1][sound])


def thinned(found: EigenDirections, count: int) -> EigenDirections:
    """``count`` of them or fewer, evenly spaced in rank, the first and the last among them."""
    ranks = np.unique(np.linspace(0, len(found.values) - 1, count).round().astype(int))
    return EigenDirections(found.values[ranks], found.vectors[ranks])


def aligned(H: np.ndarray, samples: np.ndarray) -> Alignment:
    """``alignment`` of H (d, d) with the population covariance of samples (S, d), which is not made: S d² work."""
    centred = (samples - samples.mean(axis=0)) / len(samples) ** 0.5
    gram = centred @ centred.T
    return Alignment(
        np.vdot(centred @ H, centred),
        np.trace(H),
        np.trace(gram),
        np.vdot(H, H),
        np.vdot(gram, gram),
        len(H),
        Backend(),
    )
