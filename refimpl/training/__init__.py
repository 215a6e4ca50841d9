"""Training by gradients: optimisers as pure maps of states, drawn gradients, added noise, and the loop.

Deterministic, or random in the ways that are to be compared: masks (shared by the batch, or one for every sample),
minibatches, Gaussian noise of a given covariance, isotropic noise of a given trace.
"""

from refimpl.errors import Diverged as Diverged
from refimpl.training.descent import GradientDescent as GradientDescent
from refimpl.training.draws import Draws as Draws
from refimpl.training.kingma2015adam import Adam as Adam
from refimpl.training.kingma2015adam import AdamState as AdamState
from refimpl.training.nesterov1983momentum import Nesterov as Nesterov
from refimpl.training.nesterov1983momentum import NesterovState as NesterovState
from refimpl.training.noise import Gaussian as Gaussian
from refimpl.training.noise import Isotropic as Isotropic
from refimpl.training.noise import Noise as Noise
from refimpl.training.noise import gaussian as gaussian
from refimpl.training.optimiser import Optimiser as Optimiser
from refimpl.training.optimiser import State as State
from refimpl.training.run import Run as Run
from refimpl.training.run import train as train
