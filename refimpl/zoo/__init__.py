"""Families of problems with explicit derivatives and per-instance constants."""

from refimpl.zoo import biased as biased
from refimpl.zoo import degenerate as degenerate
from refimpl.zoo import equilibrium as equilibrium
from refimpl.zoo import logistic as logistic
from refimpl.zoo import maps as maps
from refimpl.zoo import overparametrised as overparametrised
from refimpl.zoo import poisoning as poisoning
from refimpl.zoo import quadratic as quadratic
from refimpl.zoo import ridge as ridge
from refimpl.zoo import uppers as uppers
from refimpl.zoo import weight_function as weight_function
from refimpl.zoo import weighted_softmax as weighted_softmax
