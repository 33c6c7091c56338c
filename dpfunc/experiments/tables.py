"""What rows say together: medians over seeds as a table or a picture, and what all of them cost."""

import csv
import decimal
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dpfunc.accounting import Compose, Event
from dpfunc.checks import require
from dpfunc.drawing import load_pyplot, save_figure
from dpfunc.experiments.rows import Row


def table(
    rows: Sequence[Row],
    *,
    by: str | Sequence[str],
    value: str,
    form: Literal["markdown", "csv"] = "markdown",
) -> str:
    """The median and the quartiles of ``value`` over all rows that agree in the settings ``by``.

    ``value``: a result, ``"epsilon"`` (rounded up) or ``"seconds"``. ``form``: Markdown, or CSV.

    >>> row = Row({"lr": 0.1}, 0, {"accuracy": 0.9}, None, None, None, 1.0, {})
    >>> print(table([row], by="lr", value="accuracy"))
    | lr | accuracy | quartiles | runs |
    |---|---|---|---|
    | 0.1 | 0.9 | 0.9 - 0.9 | 1 |
    """
    names = [by] if isinstance(by, str) else list(by)
    require(form in ("markdown", "csv"), "table", '"markdown" or "csv"', form, "choose one")
    groups = _groups("table", rows, names, value)
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*names, value, "lower quartile", "upper quartile", "runs"])
        for label, numbers in groups:
            low, median, high = np.quantile(numbers, (0.25, 0.5, 0.75)).tolist()
            writer.writerow([*label, median, low, high, len(numbers)])
        return text.getvalue()
    lines = [_line([*names, value, "quartiles", "runs"]), "|" + "---|" * (len(names) + 3)]
    for label, numbers in groups:
        low, median, high = (
            _digits(value, number) for number in np.quantile(numbers, (0.25, 0.5, 0.75)).tolist()
        )
        lines.append(_line([*label, median, f"{low} - {high}", len(numbers)]))
    return "\n".join(lines)


def plot(
    rows: Sequence[Row], path: str | Path, *, value: str, x: str = "epsilon", by: str | None = None
) -> None:
    """Draw ``value`` against ``x``, medians with quartiles over seeds, a line for each ``by``.

    ``x`` and ``by`` are settings; ``x`` may be a number of the rows, such as ``"epsilon"``. The
    axes are linear. ValueError where matplotlib is not installed.
    """
    lines = sorted({str(row.config.get(by)) for row in rows}) if by else [""]
    figure, axes = load_pyplot().subplots(figsize=(5.6, 4.0), layout="constrained")
    for number, line in enumerate(lines):
        chosen = [row for row in rows if not by or str(row.config.get(by)) == line]
        groups = _groups("plot", chosen, [x], value)
        places = [label[0] for label, _ in groups]
        low, median, high = np.array(
            [np.quantile(numbers, (0.25, 0.5, 0.75)) for _, numbers in groups]
        ).T
        axes.fill_between(places, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
        axes.plot(places, median, "o-", color=f"C{number}", label=f"{by} {line}" if by else None)
    axes.set(xlabel=x, ylabel=value)
    if by:
        axes.legend(frameon=False)
    save_figure(figure, Path(path))


def spent(rows: Sequence[Row]) -> Event:
    """What all rows released together: the price of having looked at them.

    Their events composed, also of those that were thrown away. ValueError for a row without one.

    >>> from dpfunc.accounting import Gaussian
    >>> spent([Row({}, seed, {}, Gaussian(2.0), None, None, 1.0, {}) for seed in range(3)])
    Gaussian(2.0) * 3
    """
    require(len(rows) > 0, "spent", "at least one row", rows, "pass what sweep returned")
    counts: dict[Event, int] = {}
    for row in rows:
        require(
            row.event is not None,
            "spent",
            "an event in each row",
            f"none for {row.config}",
            'return it from your run, under "event"',
        )
        if row.event is not None:
            counts[row.event] = counts.get(row.event, 0) + 1
    parts = tuple(event * times if times > 1 else event for event, times in counts.items())
    return parts[0] if len(parts) == 1 else Compose(parts)


def _groups(
    subject: str, rows: Sequence[Row], names: Sequence[str], value: str
) -> list[tuple[tuple[object, ...], list[float]]]:
    """``value`` of the rows that share what ``names`` say, in order."""
    require(len(rows) > 0, subject, "at least one row", rows, "pass what sweep returned")
    groups: dict[tuple[object, ...], list[float]] = {}
    for row in rows:
        label = tuple(
            row.config[name] if name in row.config else row.number(name) for name in names
        )
        groups.setdefault(label, []).append(row.number(value))
    return sorted(groups.items(), key=lambda item: _order(item[0]))


def _order(label: tuple[object, ...]) -> list[tuple[str, object]]:
    """Numbers before words, each by size: the two cannot be compared."""
    return [(type(part).__name__ if isinstance(part, str) else "", part) for part in label]


def _digits(name: str, number: float) -> str:
    """Four digits; an epsilon is rounded upwards, since less was never proven."""
    rounding = decimal.ROUND_CEILING if name == "epsilon" else decimal.ROUND_HALF_EVEN
    rounded = decimal.Context(prec=4, rounding=rounding).create_decimal(repr(number))
    return f"{float(rounded):.4g}"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
