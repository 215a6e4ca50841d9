"""Convolutional, residual and transformer networks: passes in the backend's vocabulary, derivatives by autograd."""

from refimpl.networks.traced.architecture import Architecture as Architecture
from refimpl.networks.traced.convolutional import Convolutional as Convolutional
from refimpl.networks.traced.make import traced_loss as traced_loss
from refimpl.networks.traced.objective import TracedLoss as TracedLoss
from refimpl.networks.traced.residual import Residual as Residual
from refimpl.networks.traced.transformer import Transformer as Transformer
