"""Algorithm 1 of dropout-bilevel, transcribed: one replicate, loops, raw coefficients, any kind of number."""

from __future__ import annotations

import math

import numpy as np

from refimpl.masks import Dropout


class Literal:
    """One level at given masks and indices, term by term."""

    def __init__(self, level, draw):
        (masks, data), f = draw, level
        self.m_lam = self.m_w = np.True_
        if isinstance(level, Dropout):
            f = level.f
            if level.masks.size > 1:
                self.m_lam, self.m_w = (
                    np.array([m[g] for g in s.groups])
                    for s, m in zip((level.lam, level.w), masks, strict=True)
                )
        self.f = f
        self.terms = data if np.ndim(data) else range(len(f.w1))

    def mean(self, of):
        total = 0
        for k in self.terms:
            total = total + of(k)
        return total / len(self.terms)

    def grad_w(self, lam, w):
        f, m_lam, m_w = self.f, self.m_lam, self.m_w
        return self.mean(lambda k: m_w * (f.ww[k] @ (m_w * w) + f.lw[k].T @ (m_lam * lam) + f.w1[k]))

    def grad_lam(self, lam, w):
        f, m_lam, m_w = self.f, self.m_lam, self.m_w
        return self.mean(lambda k: m_lam * (f.lw[k] @ (m_w * w) + f.ll[k] @ (m_lam * lam) + f.l1[k]))

    def hess(self, v):
        return self.mean(lambda k: self.m_w * (self.f.ww[k] @ (self.m_w * v)))

    def cross(self, v):
        return self.mean(lambda k: self.m_lam * (self.f.lw[k] @ (self.m_w * v)))


def algorithm_1(problem, lam, w, v, samples, a, *, r=None, sign=-1, number=lambda x: x):
    """(λ, w, v, d) after every iteration; ``a`` only hands over the hyperparameters.

    sign=+1 on absolute values adds up where the algorithm subtracts: the sizes of all terms that are summed.
    """
    history, d, lam_prev, v_prev = [], None, None, None
    for k, (lower, upper) in enumerate(samples):
        root = math.sqrt(k + 1)
        alpha = a.delta / (int(root) if root == int(root) else root) if a.schedule == "sqrt" else a.delta
        alpha_k, gamma_k, beta_k = number(alpha), number(a.gamma * alpha), number(a.beta * alpha)  # line 3
        eta_k = number(min(a.eta * alpha, 1))
        if a.randomness == "shared":
            G6, G7, G9 = (Literal(problem.lower, lower[0]) for _ in range(3))
            F7, F9 = (Literal(problem.upper, upper[0]) for _ in range(2))
        elif a.randomness == "fresh":
            G6, G7, G9 = (Literal(problem.lower, lower[i]) for i in range(3))
            F7, F9 = (Literal(problem.upper, upper[i]) for i in range(2))
        else:
            G6, G7, G9 = (Literal(problem.lower, lower[i]) for i in (0, 0, 1))
            F7, F9 = (Literal(problem.upper, upper[0]) for _ in range(2))
        w_new = w + sign * gamma_k * G6.grad_w(lam, w)  # line 6
        v_new = beta_k * F7.grad_w(lam, w_new) + v + sign * beta_k * G7.hess(v)  # line 7
        if r is not None and np.sqrt(v_new @ v_new) > r:  # line 8
            v_new = r * v_new / np.sqrt(v_new @ v_new)
        if a.reading == "new":  # line 9
            h = F9.grad_lam(lam, w_new) + sign * G9.cross(v_new)
        else:
            h = F9.grad_lam(lam, w_new) + sign * G9.cross(v)
        if k == 0:  # line 10
            d = h
        else:
            before = F9.grad_lam(lam_prev, w) + sign * G9.cross(v if a.reading == "new" else v_prev)
            d = h + (1 - eta_k) * (d + sign * before)
        lam_prev, v_prev = lam, v
        lam, w, v = lam + sign * alpha_k * d, w_new, v_new  # line 11
        history.append((lam, w, v, d))
    return history


def pick(points, i):
    """The i-th of sampled points: nested tuples of arrays whose first axis is the replicates'."""
    return tuple(pick(p, i) for p in points) if isinstance(points, tuple) else points[i]


def drawn(algorithm, problem, steps, shape=(), seed=5):
    """The samples of an algorithm's first steps."""
    rng = np.random.default_rng(seed)
    return [algorithm.space(problem, k).sample(rng, shape) for k in range(steps)]


def stepped(algorithm, problem, start, samples):
    """The states after each of these samples."""
    state = algorithm.init(problem, *start)
    for sample in samples:
        state = algorithm.step(problem, state, sample)
        yield state
