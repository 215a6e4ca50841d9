"""Figures 1 to 4 at teaching scale, and the prose on them: registered experiments, each with three outcomes."""

from __future__ import annotations

from verification.claims.dropout_flatness._figures_alignment import ALIGNMENT
from verification.claims.dropout_flatness._figures_minima import MINIMA
from verification.claims.dropout_flatness._figures_trajectory import TRAJECTORY
from verification.claims.dropout_flatness._figures_variance import VARIANCE

CLAIMS = (*MINIMA, *VARIANCE, *TRAJECTORY, *ALIGNMENT)
