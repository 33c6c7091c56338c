"""Where the numbers of a run can go: a bar of tqdm or of rich, TensorBoard, or your own `Sink`."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol


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
        except ImportError as error:
            raise _missing("rich") from error
        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
        self._progress: Any = Progress(*columns)
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
    return ", ".join(f"{name}={value:.4g}" for name, value in scalars.items())


def _missing(package: str) -> ImportError:
    return ImportError(f"monitor needs {package}; pip install 'dpfunc[monitor]'")
