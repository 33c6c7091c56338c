"""The pictures of the commands: a run over its steps with its trade-off curve, and a plan."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpfunc import accounting
from dpfunc.accounting import Event
from dpfunc.accounting.domination.release import Relation
from dpfunc.accounting.events.algebra import as_run
from dpfunc.drawing import load_pyplot, save_figure

Array = NDArray[np.float64]

_POINTS = 24


def draw_run(event: Event, *, delta: float, relation: Relation, path: Path) -> None:
    """Epsilon over the steps, where the event is a repeated step, beside the trade-off curve."""
    step, times = as_run(event)
    panels = 2 if times > 1 else 1
    figure, axes = load_pyplot().subplots(
        1, panels, figsize=(5.2 * panels, 4.4), layout="constrained", squeeze=False
    )
    if times > 1:
        _draw_epsilon(axes[0, 0], step, times, delta, relation)
    _draw_tradeoff(axes[0, -1], event, delta, relation)
    save_figure(figure, path)


def _draw_epsilon(axes: Any, step: Event, times: int, delta: float, relation: Relation) -> None:
    # Epsilon grows like a square root: equal steps of that show it smoothly.
    counts = np.unique((np.linspace(1, times**0.5, _POINTS) ** 2).round().astype(int))
    spent = [
        accounting.epsilon(step * int(count), delta=delta, relation=relation) for count in counts
    ]
    axes.plot([0, *counts], [0.0, *spent], color="C3")
    axes.plot(counts[-1], spent[-1], "o", color="C3")
    axes.annotate(
        f"{spent[-1]:.3f}",
        (counts[-1], spent[-1]),
        xytext=(-4, 8),
        textcoords="offset points",
        ha="right",
        color="C3",
    )
    axes.set(xlabel="step", ylabel="epsilon", xlim=(0, None), ylim=(0, 1.15 * spent[-1] + 1e-9))
    axes.set_title(f"spent at delta = {delta:g}")


def _draw_tradeoff(axes: Any, event: Event, delta: float, relation: Relation) -> None:
    alpha = np.linspace(0, 1, 400)
    epsilons, deltas = _curve(event, delta, relation)
    beta = tradeoff(alpha, epsilons, deltas)
    axes.fill_between(alpha, beta, 1 - alpha, color="C0", alpha=0.15, linewidth=0)
    axes.plot(alpha, beta, color="C0", label="proven: no attack is below")
    axes.plot(alpha, 1 - alpha, color="0.5", linestyle="--", label="blind guessing")
    axes.set(
        xlabel="false positive rate of an attack",
        ylabel="its false negative rate",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        title="is the record in the data?",
    )
    axes.legend(frameon=False, loc="upper right")


def _curve(event: Event, delta: float, relation: Relation) -> tuple[Array, Array]:
    """Points of the curve of delta, from epsilon 0 to beyond that at the given delta."""
    most = accounting.epsilon(event, delta=min(delta, 1e-3), relation=relation)
    epsilons = np.linspace(0.0, min(most, 60.0) if math.isfinite(most) else 60.0, _POINTS)
    deltas = [accounting.delta(event, epsilon=float(e), relation=relation) for e in epsilons]
    return epsilons, np.array(deltas)


def tradeoff(alpha: Array, epsilons: Array, deltas: Array) -> Array:
    """The least false negative rate at each false positive rate that the points of delta allow.

    ``f(a) = max(0, 1 - delta - e**epsilon a, e**-epsilon (1 - delta - a))`` over all points (Dong,
    Roth and Su 2019, arXiv:1905.02383, proposition 2.5): fewer points give a lower, valid curve.
    """
    near = 1 - deltas - np.exp(epsilons) * alpha[:, None]
    far = np.exp(-epsilons) * (1 - deltas - alpha[:, None])
    return np.asarray(np.maximum(0.0, np.maximum(near, far).max(axis=1)))


def draw_plan(
    batch_sizes: Sequence[int],
    noise_multipliers: Sequence[float],
    relative_noise: Sequence[float],
    *,
    chosen: int,
    title: str,
    path: Path,
) -> None:
    """The noise multiplier and the noise over the run by batch size, the chosen size marked."""
    figure, (left, right) = load_pyplot().subplots(1, 2, figsize=(10.4, 4.2), layout="constrained")
    for axes, values, label, colour in (
        (left, noise_multipliers, "noise multiplier", "C3"),
        (right, relative_noise, "noise over the run, multiple of the least", "C0"),
    ):
        axes.plot(batch_sizes, values, "o-", color=colour, markersize=4)
        axes.plot(chosen, values[batch_sizes.index(chosen)], "o", color=colour, markersize=10)
        axes.set(xscale="log", yscale="log", xlabel="expected batch size", ylabel=label)
        axes.axvline(chosen, color="0.7", linestyle=":", linewidth=1, zorder=0)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    right.axhline(1.0, color="0.5", linestyle="--", linewidth=1)
    right.annotate(
        f"batch size {chosen}",
        (chosen, relative_noise[batch_sizes.index(chosen)]),
        xytext=(8, 10),
        textcoords="offset points",
    )
    figure.suptitle(title)
    save_figure(figure, path)
