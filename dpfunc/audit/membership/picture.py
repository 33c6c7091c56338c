"""Attacks in one picture with what the accountant's event allows any attack."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dpfunc.accounting import Event, tradeoff_curve
from dpfunc.audit.membership.curves import Array, Roc
from dpfunc.checks import require
from dpfunc.drawing import load_pyplot, save_figure

_POINTS = 60
_MOST_CURVES = 8


def plot_roc(
    curves: Mapping[str, Roc], path: str | Path, *, event: Event | None = None, title: str = ""
) -> None:
    """Draw the curves of attacks by name, with bands, both axes logarithmic, to the file ``path``.

    With ``event`` also the certified curve ``1 - accounting.tradeoff(event, rate)``: no attack is
    above it, on average over models and records. One whose band is (`Roc.above`) means a bug or an
    event that is not the run's; the title says so.

    ValueError where matplotlib is not installed, for no curve or for more than eight.

    >>> import dpfunc as dp
    >>> from dpfunc import audit
    >>> member = dp.bernoulli(dp.key(0), (500,), probability=0.5)
    >>> curve = audit.roc(dp.normal(dp.key(1), (500,)) + 1.0 * member, member)
    >>> plot_roc({"loss": curve}, "roc.png")  # doctest: +SKIP
    """
    require(
        1 <= len(curves) <= _MOST_CURVES,
        "plot_roc",
        f"one to {_MOST_CURVES} curves",
        len(curves),
        "draw several pictures",
    )
    least = max(1e-5, 0.5 / max(curve.n_out for curve in curves.values()))
    figure, axes = load_pyplot().subplots(figsize=(4.4, 3.9), layout="constrained")
    rates = np.geomspace(least, 1, _POINTS)
    axes.plot(rates, rates, color="0.5", linestyle="--", linewidth=1, label="blind guessing")
    faults = []
    if event is not None:
        allowed = 1 - tradeoff_curve(event, rates.tolist())
        axes.plot(rates, allowed, color="black", linewidth=1.5, label="certified: none is above")
        axes.fill_between(rates, allowed, 1, color="0.93", linewidth=0)
        faults = [name for name, curve in curves.items() if curve.above(event)]
    for number, (name, curve) in enumerate(curves.items()):
        _draw(axes, name, curve, f"C{number}", rates)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(least, 1),
        ylim=(least, 1.05),
        xlabel="false positive rate",
        ylabel="true positive rate",
    )
    if faults:
        words = f"{', '.join(faults)}: above the certified curve. A bug, or a wrong event"
        axes.set_title(f"{title}\n{words}" if title else words, color="C3")
    else:
        axes.set_title(title)
    axes.legend(frameon=False, loc="lower right")
    save_figure(figure, Path(path))


def _draw(axes: Any, name: str, curve: Roc, colour: str, rates: Array) -> None:
    fpr_low, fpr_high, tpr_low, tpr_high = curve.band.T
    # The true curve rises: from a corner on it is no lower, and up to one no higher.
    low = [tpr_low[fpr_high <= rate].max(initial=0.0) for rate in rates]
    high = [tpr_high[fpr_low >= rate].min(initial=1.0) for rate in rates]
    axes.fill_between(rates, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(curve.fpr, curve.tpr, color=colour, drawstyle="steps-post", label=name)
