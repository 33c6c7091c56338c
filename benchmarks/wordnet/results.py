"""Results: kept in a JSON file as soon as they are there, then a table and a plot of them."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

TITLES = {
    "probe": "linear probe",
    "lora": "LoRA",
    "full": "full fine-tuning",
}


@dataclass(frozen=True)
class Result:
    """One run. ``epsilon`` is what the ledger of its steps came to, at most ``target_epsilon``.

    Both are infinite for a run without privacy. ``phases``: the settings of the head's training and
    of what followed it. ``noise_multipliers``: one for each phase.
    """

    method: str
    target_epsilon: float
    epsilon: float
    delta: float
    accuracy: float
    trained_parameters: int
    phases: tuple[dict[str, float], ...]
    noise_multipliers: tuple[float, ...]
    seconds: float
    data: str


def load(path: Path) -> list[Result]:
    """The results in the file; none where there is no file yet."""
    if not path.is_file():
        return []
    lists = ("phases", "noise_multipliers")  # tuples, which JSON does not have
    return [
        Result(**{name: tuple(value) if name in lists else value for name, value in record.items()})
        for record in json.loads(path.read_text())
    ]


def add(path: Path, result: Result) -> None:
    """Write ``result`` behind those that are in the file."""
    records = [asdict(each) for each in [*load(path), result]]
    path.write_text(json.dumps(records, indent=2) + "\n")


def mean_accuracy(results: Sequence[Result], method: str, target_epsilon: float) -> float | None:
    """Over all runs of one kind; None where there is none."""
    runs = [r for r in results if (r.method, r.target_epsilon) == (method, target_epsilon)]
    return sum(run.accuracy for run in runs) / len(runs) if runs else None


def table(results: Sequence[Result], epsilons: Sequence[float]) -> str:
    """Markdown: a row for each method, a column for each epsilon and one without privacy."""
    heads = " | ".join(f"epsilon {epsilon:g}" for epsilon in epsilons)
    lines = [
        f"| method | trained parameters | {heads} | not private |",
        "|" + "---|" * (3 + len(epsilons)),
    ]
    for method, title in TITLES.items():
        runs = [result for result in results if result.method == method]
        if runs:
            cells = [mean_accuracy(runs, method, epsilon) for epsilon in (*epsilons, math.inf)]
            shown = " | ".join("-" if cell is None else f"{cell:.1%}" for cell in cells)
            lines.append(f"| {title} | {runs[0].trained_parameters:,} | {shown} |")
    return "\n".join(lines)


def plot(results: Sequence[Result], epsilons: Sequence[float], path: Path) -> None:
    """A PNG of test accuracy over epsilon: a line for each private method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for method, title in TITLES.items():
        points = [(e, mean_accuracy(results, method, e)) for e in epsilons]
        measured = [(e, 100 * accuracy) for e, accuracy in points if accuracy is not None]
        if measured:
            axes.plot(*zip(*measured, strict=True), marker="o", label=title)
    plain = mean_accuracy(results, "probe", math.inf)
    if plain is not None:
        label = "linear probe, not private"
        axes.axhline(100 * plain, color="0.55", linestyle="--", linewidth=1, label=label)
    axes.set(xlabel="epsilon", ylabel="test accuracy, %", xscale="log")
    axes.set_xticks(list(epsilons), [f"{epsilon:g}" for epsilon in epsilons])
    axes.minorticks_off()
    axes.set_title("The class of a WordNet gloss, 26 classes, 20,000 to train on", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
