"""Dropout from what a user writes: keep probabilities, groups, a scaling and a site."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.errors import BadInput
from refimpl.masks.dropout import MAX_MASKS, Dropout
from refimpl.objective import Objective, Site
from refimpl.spaces import Bernoulli
from refimpl.spaces.bernoulli import Scale


def dropout(
    f: Objective,
    keep_prob: Any,
    *,
    groups: Any = None,
    scale: Scale = "none",
    site: Site = "weights",
    max_masks: int = MAX_MASKS,
) -> Dropout:
    """E f(m_λ λ, m_w w) as an objective.

    Parameters
    ----------
    keep_prob : of the masks of w: a number, one number per mask variable, or a ``spaces.Bernoulli``; or
        {"lam": …, "w": …} to mask λ too. What is not named is never masked.
    groups : the mask variable of every coordinate, (d,) integers, or {"lam": …, "w": …}; by default one each.
    scale : "none", m ∈ {0, 1}, or "inverse", m ∈ {0, 1/keep_prob}.
    site : "weights", or "activations" for the hidden units of a network loss.
    max_masks : how many masks may be enumerated; more are ``TooLarge`` where an expectation is asked for.

    Raises ``BadInput``. Cost of an evaluation: 2^(number of mask variables) of f's, or one where f has a closed form.

    >>> import refimpl as ri
    >>> f = ri.zoo.quadratic.objective(ww=[[2.0, 1.0], [1.0, 2.0]], n=0)
    >>> f.with_dropout(0.5).hess_ww(np.zeros(0), np.zeros(2)).dense().tolist()
    [[1.0, 0.25], [0.25, 1.0]]
    """
    if scale not in ("none", "inverse") or site not in ("weights", "activations"):
        raise BadInput(
            "no such dropout",
            measured=f"scale {scale!r}, site {site!r}",
            required='scale "none" or "inverse", site "weights" or "activations"',
            advice="the two documents scale differently: see refimpl.masks",
        )
    if site == "activations":
        f.drop_units(1 + f.backend.zeros((f.units,)))  # refuses what has no hidden units
    keep, grouped = _by_level(keep_prob, "keep_prob"), _by_level(groups, "groups")
    if unknown := sorted(grouped.keys() - keep.keys()):
        raise BadInput(
            "groups without keep probabilities",
            measured=", ".join(unknown),
            required="a keep_prob for each",
            advice='keep_prob={"lam": …, "w": …} masks both',
        )
    units = keep.get("w")
    if site == "weights" and isinstance(units, Bernoulli) and units.coordinates == f.units != f.d:
        raise BadInput(
            "masks of hidden units stand where masks of weights are asked for",
            measured=f"{units.coordinates} coordinates: the hidden units, and {f.d} weights",
            required='site="activations" for masks of units',
            advice='net.last_masks and net.unit_masks go with site="activations", net.rows with site="weights"',
        )
    lam = _space(keep.get("lam"), grouped.get("lam"), f.n, "λ")
    w = _space(keep.get("w"), grouped.get("w"), f.units if site == "activations" else f.d, "w")
    for space in (lam, w):
        space.of_coordinates(scale)
    return Dropout(f, lam, w, scale, site, max_masks, f.backend)


def _by_level(given: Any, name: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        return {"w": given}
    if unknown := sorted(given.keys() - {"lam", "w"}):
        raise BadInput(
            f"{name} of what?",
            measured=", ".join(unknown),
            required="lam, w",
            advice="name the two variables so",
        )
    return dict(given)


def _space(keep_prob: Any, groups: Any, coordinates: int, name: str) -> Bernoulli:
    if keep_prob is None:
        return Bernoulli((1,), (0,) * coordinates)
    if isinstance(keep_prob, Bernoulli) and groups is None:
        space = keep_prob
    elif isinstance(keep_prob, Bernoulli):
        raise BadInput(
            "groups given twice",
            measured="a Bernoulli space and groups",
            required="one of them",
            advice="the space has its own groups",
        )
    else:
        one_each = range(coordinates) if np.ndim(keep_prob) == 0 else None
        space = Bernoulli(keep_prob, one_each if groups is None else groups)
    if space.coordinates != coordinates:
        raise BadInput(
            f"the masks of {name} do not fit",
            measured=f"masks of {space.coordinates} coordinates",
            required=f"{coordinates}",
            advice="give one keep probability, one per coordinate, or groups that name every coordinate's variable; "
            "where the two levels' masks differ, give each its own refimpl.spaces.Bernoulli",
        )
    return space
