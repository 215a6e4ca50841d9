"""What curvature refuses: too many masks, several points, few samples, blocks and layers that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refimpl.curvature import estimated_noise, gradient_data, hessian, noise
from refimpl.curvature.noise import DRAWS
from refimpl.errors import BadInput, TooLarge
from refimpl.networks import MLP, loss


def relu_case(hidden: tuple[int, ...]) -> tuple[Any, Any, np.ndarray]:
    net = MLP((2, *hidden, 2), "relu")
    rng = np.random.default_rng(0)
    f = loss(net, rng.standard_normal((3, 2)), [0, 1, 1])
    return net, f, net.random(rng) + 0.05


@pytest.mark.parametrize("hidden", [(15, 15), (40, 40)])
@pytest.mark.parametrize("draw", DRAWS)
def test_too_many_masks_are_refused_before_any_is_visited(hidden: tuple[int, ...], draw: Any) -> None:
    """2^30 masks, and more than any integer counts: not one of them is asked for its kinks."""
    net, f, w = relu_case(hidden)
    D = f.with_dropout(net.unit_masks(0.5), site="activations")
    with pytest.raises(TooLarge, match="too many masks"):
        noise(D, w, draw=draw)
    with pytest.raises(TooLarge, match="kinks"):
        hessian(D, w)


def test_too_many_masks_of_a_smooth_network_are_refused_too() -> None:
    net = MLP((2, 15, 15, 2), "tanh")
    f = loss(net, [[0.5, 1.0]], [1])
    D = f.with_dropout(net.unit_masks(0.5), site="activations")
    with pytest.raises(TooLarge):
        hessian(D, net.random(0))
    assert gradient_data(D, net.random(0), 0, samples=2, draw="shared mask").shape == (2, f.d)


def test_data_are_drawn_at_one_point() -> None:
    """Leading axes of w would be paired with draws."""
    net, f, w = relu_case((3,))
    D = f.with_dropout(net.last_masks(0.5), site="activations")
    for of in (gradient_data, estimated_noise):
        with pytest.raises(BadInput, match="one point"):
            of(D, np.stack([w] * 200), 0, samples=100, draw="shared mask")
        with pytest.raises(BadInput, match="without a source"):
            of(D, w, None, samples=100, draw="shared mask")


def test_few_pairs_state_no_confidence() -> None:
    net, f, w = relu_case((3,))
    D = f.with_dropout(net.last_masks(0.5), site="activations")
    with pytest.raises(BadInput, match="no confidence"):
        estimated_noise(D, w, 0, samples=99, draw="shared mask")


def test_the_closed_form_has_its_hessian_too() -> None:
    net = MLP((2, 3, 1), "relu")
    f = loss(net, [[1.0, 0.5], [0.2, 2.0]], [1.0, 2.0], loss="squared")
    w = net.random(0) + 0.05
    D = f.with_dropout(net.last_masks(0.5), site="activations")
    assert np.array_equal(hessian(D.closed, w), hessian(D, w))
    assert hessian(D.closed.batch([1]), w, layers=(0,)).shape == (9, 9)


@pytest.mark.parametrize("layers", [(1, 0), (0, 0), (True,), 0, (-1,), (2,), ()])
def test_layers_are_named_in_ascending_order(layers: Any) -> None:
    _, f, w = relu_case((3,))
    with pytest.raises(BadInput, match="no such layers"):
        hessian(f, w, layers=layers)


def test_a_block_is_one_of_the_whole_matrix() -> None:
    net, f, _ = relu_case((3,))
    for matrix, k in ((np.eye(5), 0), (np.eye(f.d), 2), (np.eye(f.d), -1)):
        with pytest.raises(BadInput, match="no such block"):
            net.block(matrix, k, 0)


def test_masks_of_units_are_told_from_masks_of_weights() -> None:
    net, f, _ = relu_case((3,))
    with pytest.raises(BadInput, match="hidden units stand where"):
        f.with_dropout(net.last_masks(0.5))
