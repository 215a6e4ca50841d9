"""One hidden layer with dropout: the exact expected loss and gradient over all 2ⁿ masks, four ways."""

from refimpl.networks.one_hidden.expected import ExpectedLoss as ExpectedLoss
from refimpl.networks.one_hidden.expected import expected_one_hidden as expected_one_hidden
