"""Few-shot learning on rotated digits by Algorithm 1: dropout on one layer of the shared network at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refimpl import BilevelProblem, networks
from refimpl.algorithms import DropoutFSLA, run
from refimpl.datasets import load_digits
from refimpl.datasets.episodes import Episode, EpisodeSampler, rotate_classes, split_classes
from refimpl.networks import MLP, SharedLoss
from refimpl.solvers import NewtonCG
from verification.experiments.registration import Registration, load

NAME = "few_shot"
TASKS, INITIAL, SAMPLES = range(3)  # streams of random numbers of one seed
SOLVED = 1e-9  # largest entry of a test head's gradient: far below what could change a prediction's share


@dataclass(frozen=True, eq=False)
class Curves:
    """What is recorded, each (records,): iteration, accuracy on the training tasks and on new ones."""

    iteration: np.ndarray
    train: np.ndarray
    test: np.ndarray

    def window(self, share: Sequence[float]) -> np.ndarray:
        """The records between these shares of the iterations."""
        done = self.iteration / self.iteration[-1]
        return (share[0] <= done) & (done <= share[1])


def tasks(plan: Registration, seed: int) -> tuple[Episode, Episode]:
    """The seed's training tasks, and its test tasks from other digits."""
    sizes, rng = plan["data"], np.random.default_rng([seed, TASKS])
    data = rotate_classes(load_digits())
    shape = {name: sizes[name] for name in ("ways", "shots", "queries")}
    train, test = (
        EpisodeSampler(data.X, data.y, own) for own in split_classes(40, sizes["classes"], rng, copies=4)
    )
    return train.batch(rng, sizes["tasks"], **shape), test.batch(rng, sizes["test_tasks"], **shape)


def losses(plan: Registration, body: MLP, episode: Episode) -> tuple[SharedLoss, SharedLoss]:
    """On the queries, to which the body is fitted, and on the support, to which the heads are."""
    ways, reg = plan["data"]["ways"], plan["algorithm"]["reg"]
    return (
        networks.shared(body, episode.query_X, episode.query_y, outputs=ways),
        networks.shared(body, episode.support_X, episode.support_y, outputs=ways, reg=reg),
    )


def apart(loss: SharedLoss) -> SharedLoss:
    """Every task on a leading axis, a problem of its own whose w is one head."""
    return dataclasses.replace(loss, X=loss.X[:, None], y=loss.y[:, None])


@functools.cache  # the claims of all layers read the same runs; some hundred curves of a few kB
def curves(layer: int | None, keep_prob: float, seed: int, *, stream: int = 0, name: str = NAME) -> Curves:
    """One run with dropout on the shared ``layer`` 0, 1, …; ``stream`` numbers other draws of masks and minibatches."""
    plan = load(name)
    rules, every = dict(plan["algorithm"]), plan["statistic"]["every"]
    steps, keep_probs = rules.pop("iterations"), [1.0, *rules.pop("keep_probs")]
    rules.pop("reg")
    body = MLP(tuple(plan["networks"]["body"]), "relu", body=True)
    (queries, support), new = (losses(plan, body, episode) for episode in tasks(plan, seed))
    space = body.rows([keep_prob if i == layer else 1.0 for i in range(len(body.hidden))])
    masked = BilevelProblem(queries, support).with_dropout(lower={"lam": space}, upper={"lam": space})
    algorithm = DropoutFSLA(**rules)
    lam = body.random(np.random.default_rng([seed, INITIAL]), gain=2**0.5)
    place = 0 if layer is None else 1 + layer
    rng = np.random.default_rng([seed, SAMPLES, stream, keep_probs.index(keep_prob), place])
    found = run(algorithm, masked, lam, steps=steps, rng=rng, every=every, keep=("lam", "w"))
    bodies = found.trajectory["lam"] * [float(p) for p in space.of_coordinates()]  # the mean network
    return Curves(
        np.array(found.times),
        queries.accuracy(bodies, found.trajectory["w"]).mean(-1),
        np.array([on_new_tasks(*new, lam) for lam in bodies]),
    )


def on_new_tasks(queries: SharedLoss, support: SharedLoss, lam: np.ndarray) -> float:
    """Mean accuracy on the queries with every head solved exactly on its support."""
    single = BilevelProblem(apart(queries), apart(support))
    w = NewtonCG(SOLVED).run(single, lam, single.w(None)).w
    return float(apart(queries).accuracy(lam, w).mean())
