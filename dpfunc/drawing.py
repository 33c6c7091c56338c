"""Where matplotlib, which is optional, is loaded, and how every picture is saved."""

from pathlib import Path
from typing import Any


def load_pyplot() -> Any:
    """``matplotlib.pyplot`` without a window; ValueError where it is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise ValueError('Plots are drawn with matplotlib: pip install "dpfunc[demo]".') from error
    return pyplot


def save_figure(figure: Any, path: Path) -> None:
    """Write ``figure`` to ``path``, without the two lines that frame nothing, and close it."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    load_pyplot().close(figure)
