"""Where the numbers of a run can go: a bar of tqdm or of rich, TensorBoard, or your own `Sink`."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

NOT_PRIVATE = "not_private/"


class Sink(Protocol):
    """Takes the numbers of one step after the other."""

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """The numbers after ``step`` steps, by name; those named ``not_private/...`` are not."""

    def close(self) -> None:
        """The last numbers were written."""


class TqdmBar:
    """A line of text with a progress bar. ``total``: steps, or None where the run has no end."""

    def __init__(self, total: int | None) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise _missing("tqdm") from error
        self._bar: Any = tqdm(total=total, unit="step")

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Sink`."""
        self._bar.set_postfix_str(_line(scalars), refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """See `Sink`."""
        self._bar.close()


class RichBar:
    """The same by rich."""

    def __init__(self, total: int | None) -> None:
        try:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.table import Column
        except ImportError as error:
            raise _missing("rich") from error
        numbers = TextColumn("{task.description}", table_column=Column(ratio=1))
        self._progress: Any = Progress(
            BarColumn(bar_width=16), MofNCompleteColumn(), numbers, expand=True
        )
        self._task = self._progress.add_task("", total=total)
        self._progress.start()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Sink`."""
        self._progress.update(self._task, completed=step, description=_line(scalars))

    def close(self) -> None:
        """See `Sink`."""
        self._progress.stop()


class TensorBoard:
    """Event files in the folder ``path``, for ``tensorboard --logdir``."""

    def __init__(self, path: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        self._writer: Any = SummaryWriter(path)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Sink`."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """See `Sink`."""
        self._writer.close()


BARS: dict[str, Callable[[int | None], Sink]] = {"tqdm": TqdmBar, "rich": RichBar}


def _line(scalars: Mapping[str, float]) -> str:
    """The numbers for a bar, which shows itself how many steps remain."""
    shown = {n: f"{v:.4g}" for n, v in scalars.items() if n != "remaining_steps"}
    private = [f"{n}={v}" for n, v in shown.items() if not n.startswith(NOT_PRIVATE)]
    rest = [f"{n.removeprefix(NOT_PRIVATE)}={v}" for n, v in shown.items() if NOT_PRIVATE in n]
    return " ".join(private + (["not private:", *rest] if rest else []))


def _missing(package: str) -> ImportError:
    return ImportError(f"monitor needs {package}; pip install 'dpfunc[monitor]'")
