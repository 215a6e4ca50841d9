"""The figures of the report, predicted against measured: ``<img>`` sources with alternative texts."""

from __future__ import annotations

import base64
import io
import itertools
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

_INK, _ALLOWED, _MEASURED, _VIOLATED = "#37414d", "#2563a8", "#c2410c", "#b91c1c"
_MANY = (("#37414d", "o"), ("#2563a8", "s"), ("#c2410c", "^"), ("#15803d", "D"), ("#7e3fb5", "v"))
_SPAN = 1e18  # of an axis: what lies further below is drawn on its edge
_TINY = 1e-290  # what no axis can show: drawn as zero, and so is its inverse as the largest number
_MANY_FIGURES = 50  # from which on other processes, which have to import matplotlib first, save time
_FEWEST = 5  # instances above 0 that make a cloud: all zero, or one counterexample, is better said in words
_STYLE: Any = {
    "font.size": 9,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


# left, bottom, width, height: a layout that measures every label takes three times as long as all the rest of a figure
_FRAME = (0.17, 0.17, 0.81, 0.79)


@dataclass(frozen=True)
class Picture:
    """A data URI, its alternative text and the caption below it."""

    uri: str
    alt: str
    caption: str


def pictures(figures: Mapping[str, Mapping[str, Any]], jobs: int = 1) -> dict[str, Picture | None]:
    """Every figure, drawn in ``jobs`` processes; they do not depend on how many."""
    if jobs == 1 or len(figures) < _MANY_FIGURES:
        return {name: picture(data) for name, data in figures.items()}
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(figures, pool.map(picture, figures.values(), chunksize=8), strict=True))


def picture(data: Mapping[str, Any]) -> Picture | None:
    """The figure of ``verification.ledger.figure``'s data; None when there is nothing to see."""
    if data["kind"] == "curve":
        return _lines(data) if "lines" in data else _curve(data)
    positive = sum(value > _TINY for value in data["observed"])
    return _cloud(data["allowed"], data["observed"]) if positive >= _FEWEST else None


def _curve(data: Mapping[str, Any]) -> Picture:
    x, predicted, measured = data["x"], data["predicted"], data["measured"]
    with rc_context(_STYLE):
        figure, axes = _axes(data["xlabel"], data["ylabel"])
        axes.plot(x, predicted, color=_ALLOWED, linewidth=1.6, label="predicted")
        axes.plot(x, measured, "o", color=_MEASURED, markersize=3.5, label="measured")
        if data["logy"] and max(*predicted, *measured) > 0:
            _logarithmic(axes, "y")
        if data["logx"] and min(x) > 0:
            _logarithmic(axes, "x")
        elif not data["logx"]:
            axes.xaxis.set_major_locator(MaxNLocator(integer=all(value == int(value) for value in x)))
        axes.legend()
        uri = _uri(figure)
    below = sum(seen <= said for seen, said in zip(measured, predicted, strict=True))
    span = f"{data['xlabel']} from {min(x):.4g} to {max(x):.4g}"
    alt = f"{data['ylabel']} against {span}: measured at most the predicted at {below} of {len(x)} points"
    return Picture(uri, alt, f"{data['ylabel']}: predicted (line) and measured (points)")


def _lines(data: Mapping[str, Any]) -> Picture:
    """Several measured lines; the marks tell them apart without colours."""
    x, lines = data["x"], data["lines"]
    marks: Any = {"markersize": 3.5, "markevery": max(1, len(x) // 10)}
    with rc_context(_STYLE):
        figure, axes = _axes(data["xlabel"], data["ylabel"])
        for (name, values), (colour, mark) in zip(lines.items(), itertools.cycle(_MANY), strict=False):
            axes.plot(x, values, color=colour, marker=mark, linewidth=1.3, label=name, **marks)
        if data["logx"] and min(x) > 0:
            _logarithmic(axes, "x")
        if data["logy"] and min(map(min, lines.values())) > 0:
            _logarithmic(axes, "y")
        axes.legend()
        uri = _uri(figure)
    ends = "; ".join(f"{name} from {values[0]:.4g} to {values[-1]:.4g}" for name, values in lines.items())
    alt = f"{data['ylabel']} against {data['xlabel']} from {x[0]:.4g} to {x[-1]:.4g}: {ends}"
    return Picture(uri, alt, f"{data['ylabel']} against {data['xlabel']}")


def _cloud(allowed: list[float], observed: list[float]) -> Picture:
    """Observed against allowed, or against the rank where nothing is allowed (an identity, exactly)."""
    ranked = not any(value > _TINY for value in allowed)
    low, top = _span(observed)
    left, right = (low, top) if ranked else _span(allowed)
    top = min(max(top, right), low * _SPAN)
    seen = sorted(observed) if ranked else observed
    places = list(range(1, len(seen) + 1)) if ranked else [max(value, left) for value in allowed]
    points = list(zip(places, [max(value, low) for value in seen], allowed, seen, strict=True))
    with rc_context(_STYLE):
        figure, axes = _axes("instance, sorted (allowed: 0)" if ranked else "allowed", "observed")
        _logarithmic(axes, "y")
        axes.set_ylim(low / 2, top * 2)
        if not ranked:
            _logarithmic(axes, "x")
            axes.set_xlim(left / 2, right * 2)
            axes.plot([low, top], [low, top], color=_ALLOWED, linewidth=1.4, label="observed = allowed")
        for violated, marker, colour, name in (
            (False, "o", _MEASURED, "an instance"),
            (True, "X", _VIOLATED, "a violation"),
        ):
            shown = [point[:2] for point in points if (point[3] > point[2]) == violated]
            if shown:
                xs, ys = zip(*shown, strict=True)
                axes.plot(xs, ys, marker, color=colour, alpha=0.6, ms=5, mew=0, label=name)
        axes.legend()
        uri = _uri(figure)
    violations = sum(value > most for _, _, most, value in points)
    alt = f"Observed against allowed, logarithmic: {violations} of {len(points)} instances are above it"
    below = sum(value < low for value in observed)
    edge = f"; {below} observed below the lower edge are drawn on it" if below else ""
    return Picture(uri, alt, f"{len(points)} instances: what was observed and what is allowed{edge}")


def _span(values: list[float]) -> tuple[float, float]:
    """The range of a logarithmic axis: two decades at least, so that it has labels, and ``_SPAN`` at most."""
    positive = [min(value, 1 / _TINY) for value in values if value > _TINY]
    top = max(positive)
    low = max(min(positive), top / _SPAN)
    middle = low**0.5 * top**0.5
    return min(low, middle / 10), max(top, middle * 10)


def _logarithmic(axes: Axes, name: Literal["x", "y"]) -> None:
    """A logarithmic axis, few labels in plain text: minor ticks and typeset powers take most of a figure's time."""
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axis.get_data_interval()
    decades = LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5), numticks=6)
    axis.set_major_locator(decades if high > 10 * low else MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_locator(NullLocator())


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 2.9), dpi=160)
    axes = figure.add_axes(_FRAME)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def _uri(figure: Figure) -> str:
    """A PNG of 32 colours: about 10 kB, a third of the full one and a fifth of the SVG."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    buffer = io.BytesIO()
    image.quantize(32, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        buffer, "png", compress_level=6
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
