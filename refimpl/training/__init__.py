"""Training by gradients: optimisers as pure maps of states, drawn gradients, added noise, and the loop.

Deterministic, or random in the ways that are to be compared: masks (shared by the batch, or one for every sample),
minibatches, Gaussian noise of a given covariance, isotropic noise of a given trace.
"""

from refimpl.errors import Diverged
from refimpl.training.descent import GradientDescent
from refimpl.training.draws import Draws
from refimpl.training.kingma2015adam import Adam, AdamState
from refimpl.training.nesterov1983momentum import Nesterov, NesterovState
from refimpl.training.noise import Gaussian, Isotropic, Noise, gaussian
from refimpl.training.optimiser import Optimiser, State
from refimpl.training.run import Run, train

__all__ = [
    "Adam",
    "AdamState",
    "Diverged",
    "Draws",
    "Gaussian",
    "GradientDescent",
    "Isotropic",
    "Nesterov",
    "NesterovState",
    "Noise",
    "Optimiser",
    "Run",
    "State",
    "gaussian",
    "train",
]
