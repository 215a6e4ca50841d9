"""Multi-layer perceptrons with explicit first and second derivatives, and their losses as objectives f(λ, w).

Convolutional, residual and transformer networks are in ``traced``: their derivatives are autograd's.
"""

from refimpl.networks import traced as traced
from refimpl.networks.activations import ACTIVATIONS as ACTIVATIONS
from refimpl.networks.activations import Activation as Activation
from refimpl.networks.last_layer import LastLayerDropout as LastLayerDropout
from refimpl.networks.mlp import MLP as MLP
from refimpl.networks.objective import NetworkLoss as NetworkLoss
from refimpl.networks.objective import loss as loss
from refimpl.networks.one_hidden import ExpectedLoss as ExpectedLoss
from refimpl.networks.one_hidden import expected_one_hidden as expected_one_hidden
from refimpl.networks.shared import SharedLoss as SharedLoss
from refimpl.networks.shared import shared as shared
from refimpl.networks.symmetries import permute as permute
from refimpl.networks.symmetries import rescale as rescale
