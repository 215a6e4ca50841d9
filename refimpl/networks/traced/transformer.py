"""A small transformer from sequences to sequences (Vaswani 2017): encoder and decoder, normalised after each sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.activations import activation
from refimpl.networks.traced.architecture import (
    Architecture,
    Block,
    Kinked,
    Site,
    activate,
    dropped,
    require_choice,
    require_whole_fields,
)

EPSILON = 2.0**-17  # added to a variance: the normalisation is smooth where the variance is 0


@dataclass(frozen=True)
class Transformer(Architecture):
    """Source tokens (S,) and target tokens shifted by one (T,) to scores of the next target token at T positions.

    X holds rows of S + T tokens: the source's 0 … words − 1, then the decoder's, ``words`` being the one that begins.
    Embeddings times √d_model plus sines of the positions; ``layers`` encoder layers (self-attention, feed-forward) and
    decoder layers (causal self-attention, attention to the encoder's output, feed-forward), each sub-layer
    x ↦ norm(x + m sublayer(x)), norm(z) = scale ∘ (z − mean)/√(variance + 2⁻¹⁷) + shift over the d_model entries of
    each position, population variance. Scale and shift of a sub-layer, d_model numbers each, stand in θ behind its
    matrices: ``net.spans["encoder 1.self.scale"]``, ``net.spans["encoder 1.self.shift"]``; at random they are 1 and 0.
    Projections have no bias, ``heads`` heads of size d_head stand one after the other in their rows.

    Dropout as in dropout-flatness: on the output of each sub-layer before it is added and normalised, and on the two
    sums of embeddings and positions. drop: "entries", each number at each position, or "channels", one for all
    positions.
    ReLU's kinks are those of the feed-forward layers; all else is smooth.

    >>> net = Transformer(words=6, source=4, target=4, d_model=8, d_ff=8)
    >>> net.size, net.units, net.spans["decoder 1.self.query"]
    (1294, 224, slice(536, 600, None))
    """

    words: int
    source: int
    target: int
    d_model: int
    d_ff: int
    heads: int = 2
    d_head: int = 4
    layers: int = 1
    activation: str = "relu"
    drop: Literal["entries", "channels"] = "entries"
    backend: Backend = Backend()

    def __post_init__(self) -> None:
        sizes = ("source", "target", "d_model", "d_ff", "heads", "d_head", "layers")
        require_whole_fields(self, {"words": 2, **dict.fromkeys(sizes, 1)})
        require_choice("kind of unit", self.drop, ("entries", "channels"))
        activation(self.activation)
        if self.d_model < 2:
            raise BadInput(
                "a vector of one entry cannot be normalised",
                measured=f"d_model = {self.d_model}",
                required="at least 2",
                advice="8 or 16 is small",
            )

    @property
    def features(self) -> int:
        return self.source + self.target

    @property
    def outputs(self) -> int:
        return self.words

    @property
    def positions(self) -> tuple[int, ...]:
        return (self.target,)

    @property
    def tokens(self) -> int:
        return self.words + 1

    @property
    def _sublayers(self) -> list[tuple[str, str, int]]:
        """Name, kind and positions of each, in the order of the pass."""
        encoder = [("self", "attention"), ("forward", "forward")]
        decoder = [("self", "attention"), ("source", "attention"), ("forward", "forward")]
        return [
            (f"{stack} {k + 1}.{name}", kind, length)
            for stack, parts, length in (("encoder", encoder, self.source), ("decoder", decoder, self.target))
            for k in range(self.layers)
            for name, kind in parts
        ]

    @property
    def blocks(self) -> tuple[Block, ...]:
        d, wide = self.d_model, self.heads * self.d_head
        found = [
            Block("source embedding", (self.words, d), d),
            Block("target embedding", (self.words + 1, d), d),
        ]
        for name, kind, _ in self._sublayers:
            if kind == "attention":
                found += [Block(f"{name}.{part}", (wide, d), d) for part in ("query", "key", "value")]
                found.append(Block(f"{name}.output", (d, wide), wide))
            else:
                found.append(Block(f"{name}.in", (self.d_ff, d + 1), d, bias=True))
                found.append(Block(f"{name}.out", (d, self.d_ff + 1), self.d_ff, bias=True))
            found += [Block(f"{name}.scale", (d,), constant=1.0), Block(f"{name}.shift", (d,), constant=0.0)]
        return (*found, Block("output", (self.words, d + 1), d, bias=True))

    @property
    def sites(self) -> tuple[Site, ...]:
        places = [("source embedding", self.source), ("target embedding", self.target)]
        places += [(name, length) for name, _, length in self._sublayers]
        return tuple(Site(name, (self.d_model, k if self.drop == "entries" else 1)) for name, k in places)

    def run(self, theta: Array, X: Array, mask: Array | None = None, kinked: Kinked | None = None) -> Array:
        B, W, masks = self.backend, self.split(theta), self.at_sites(mask)

        def embedded(name: str, tokens: Array) -> Array:
            h = B.moveaxis(B.take(W[name], tokens), 0, -1)  # (N, T, d) to (T, d, N)
            positions = B.asarray(sines(self.d_model, tokens.shape[-1]))[..., None]
            return dropped(masks[name], B.moveaxis(h, 1, 0) * self.d_model**0.5 + positions)

        def forward(name: str, h: Array) -> Array:
            inner = activate(B, self.activation, affine(B, W[f"{name}.in"], h), kinked)
            return affine(B, W[f"{name}.out"], inner)

        h = {"encoder": embedded("source embedding", X[:, : self.source])}
        h["decoder"] = embedded("target embedding", X[:, self.source :])
        for name, kind, _ in self._sublayers:
            stack = name.split()[0]
            x = h[stack]
            if kind == "attention":
                to = h["encoder"] if name.endswith("source") else x
                projections = tuple(W[f"{name}.{part}"] for part in ("query", "key", "value", "output"))
                causal = name.startswith("decoder") and name.endswith("self")
                moved = attention(B, projections, x, to, self.heads, causal=causal)
            else:
                moved = forward(name, x)
            h[stack] = normalise(B, x + dropped(masks[name], moved), W[f"{name}.scale"], W[f"{name}.shift"])
        scores = affine(B, W["output"], h["decoder"])
        return B.moveaxis(scores, 1, 0)


def sines(d: int, length: int) -> np.ndarray:
    """(d, length): sin(t / 10000^(2k/d)) in row 2k and the cosine in row 2k + 1."""
    rows = np.arange(d)[:, None]
    angle = np.arange(length) / 10000.0 ** (2 * (rows // 2) / d)
    return np.where(rows % 2 == 0, np.sin(angle), np.cos(angle))


def linear(B: Backend, W: Array, h: Array) -> Array:
    """W (out, in) at every position of h (in, T, N)."""
    flat = B.reshape(h, (h.shape[0], h.shape[1] * h.shape[2]))
    return B.reshape(W @ flat, (W.shape[0], *h.shape[1:]))


def affine(B: Backend, W: Array, h: Array) -> Array:
    """W (h, 1), W (out, in + 1), at every position of h (in, T, N)."""
    return linear(B, W[:, :-1], h) + W[:, -1][:, None, None]


def normalise(B: Backend, x: Array, scale: Array, shift: Array) -> Array:
    """(x − mean)/√(variance + ε) over the entries of every position, x (d, T, N), times scale plus shift (d,)."""
    centred = x - B.mean(x, axis=0)[None, ...]
    deviation = B.sqrt(B.mean(centred * centred, axis=0) + EPSILON)
    return centred / deviation[None, ...] * scale[:, None, None] + shift[:, None, None]


def attention(
    B: Backend, projections: tuple[Array, ...], x: Array, to: Array, heads: int, *, causal: bool
) -> Array:
    """Σ_s p_ts value(to_s), p_t = softmax_s(query(x_t)·key(to_s)/√d_head) for each head, and the output's projection.

    x (d, T, N), to (d, S, N); causal: s <= t alone.
    """
    query, key, value, output = projections
    T, S, N = x.shape[1], to.shape[1], x.shape[2]
    size = query.shape[0] // heads
    q = B.reshape(linear(B, query, x), (heads, size, T, 1, N))
    k = B.reshape(linear(B, key, to), (heads, size, 1, S, N))
    v = B.reshape(linear(B, value, to), (heads, size, 1, S, N))
    logits = B.sum(q * k, axis=1) / size**0.5  # (heads, T, S, N)
    if causal:
        later = np.arange(S) > np.arange(T)[:, None]
        logits = logits + B.asarray(np.where(later, -np.inf, 0.0))[..., None]
    p = B.softmax(logits, -2)
    mixed = B.sum(p[:, None, ...] * v, axis=3)
    return linear(B, output, B.reshape(mixed, (heads * size, T, N)))
