"""Multi-layer perceptrons with explicit first and second derivatives, and their losses as objectives f(λ, w).

Convolutional, residual and transformer networks are in ``traced``: their derivatives are autograd's.
"""

from refimpl.networks import traced
from refimpl.networks.activations import ACTIVATIONS, Activation
from refimpl.networks.last_layer import LastLayerDropout
from refimpl.networks.mlp import MLP
from refimpl.networks.objective import NetworkLoss, loss
from refimpl.networks.one_hidden import ExpectedLoss, expected_one_hidden
from refimpl.networks.shared import SharedLoss, shared
from refimpl.networks.symmetries import permute, rescale

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "ExpectedLoss",
    "LastLayerDropout",
    "NetworkLoss",
    "SharedLoss",
    "expected_one_hidden",
    "loss",
    "permute",
    "rescale",
    "shared",
    "traced",
]
