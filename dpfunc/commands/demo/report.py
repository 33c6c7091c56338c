"""What the demo shows at its end: the table of the two runs and the plot over their steps."""

from collections.abc import Sequence
from pathlib import Path

from dpfunc.commands.demo.training import Progress
from dpfunc.drawing import load_pyplot, save_figure


def table(private: Sequence[Progress], plain: Sequence[Progress], delta: float) -> str:
    """The last line of each run, side by side."""
    rows = [("", "steps", "test accuracy", "epsilon", "delta")]
    for name, run, guarantee in (
        ("private (DP-SGD)", private, (f"{private[-1].epsilon:.3f}", f"{delta:g}")),
        ("non-private", plain, ("infinite", "-")),
    ):
        rows.append((name, str(run[-1].step), f"{run[-1].accuracy:.4f}", *guarantee))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def plot(
    private: Sequence[Progress], plain: Sequence[Progress], target_epsilon: float, path: Path
) -> None:
    """A PNG at ``path``: test accuracy of both runs over the steps, and the epsilon spent."""
    figure, (above, below) = load_pyplot().subplots(
        2, 1, sharex=True, figsize=(7, 6), height_ratios=(3, 2), layout="constrained"
    )
    steps = [progress.step for progress in private]
    above.plot(
        [progress.step for progress in plain],
        [progress.accuracy for progress in plain],
        color="0.55",
        label=f"non-private ({plain[-1].accuracy:.1%})",
    )
    above.plot(
        steps,
        [progress.accuracy for progress in private],
        color="C0",
        label=f"private ({private[-1].accuracy:.1%})",
    )
    above.set(ylabel="test accuracy", ylim=(0, 1), title="DP-SGD with dpfunc")
    above.legend(loc="lower right", frameon=False)
    below.plot(steps, [progress.epsilon for progress in private], color="C3")
    below.axhline(target_epsilon, color="0.55", linestyle="--", linewidth=1)
    below.annotate(
        f"budget: epsilon {target_epsilon:g}",
        (steps[0], target_epsilon),
        xytext=(0, -12),
        textcoords="offset points",
        color="0.35",
    )
    below.set(xlabel="step", ylabel="epsilon spent", ylim=(0, 1.15 * target_epsilon))
    save_figure(figure, path)
