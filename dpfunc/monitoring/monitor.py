"""`monitor`: what a private run has spent and how it goes, live."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from dpfunc.checks import require
from dpfunc.engine.privacy_engine import PrivacyEngine
from dpfunc.monitoring.sinks import BARS, NOT_PRIVATE, Sink, TensorBoard


class Monitor:
    """Writes to its ``sinks`` after each step of ``engine``. Made by `monitor`."""

    def __init__(self, engine: PrivacyEngine, sinks: Iterable[Sink]) -> None:
        self._engine = engine
        self._sinks = tuple(sinks)
        self._written = engine.steps_taken
        self._noted: dict[str, list[float]] = {}

    def step(self, *, public: Mapping[str, Any] | None = None, **not_private: Any) -> None:
        """To be called after ``optimizer.step()``, with numbers to show beside epsilon.

        ``not_private``: computed from private data, such as the loss; shown under this name.
        ``public``: of public data, or private already. Numbers of several parts of a batch are
        averaged: nothing is written before the last part has been through.
        """
        marked = {NOT_PRIVATE + name: value for name, value in not_private.items()}
        numbers = {**(public or {}), **marked}
        for name, value in numbers.items():
            number = float(value.detach() if isinstance(value, Tensor) else value)
            self._noted.setdefault(name, []).append(number)
        if self._engine.steps_taken == self._written:
            return
        self._written = self._engine.steps_taken
        scalars = self._scalars()
        for sink in self._sinks:
            sink.write(self._written, scalars)
        self._noted = {}

    def close(self) -> None:
        """The run is over: finish the bar and the files."""
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _scalars(self) -> dict[str, float]:
        scalars = {"epsilon": self._engine.epsilon()}
        if math.isfinite(left := self._engine.remaining_steps()):
            scalars["remaining_steps"] = left
        scalars |= {name: sum(values) / len(values) for name, values in self._noted.items()}
        if not math.isnan(estimate := self._engine.clipped_share_estimate()):
            scalars["clipped_estimate"] = estimate
        if not math.isnan(share := self._engine.clipped_share()):
            scalars[NOT_PRIVATE + "clipped"] = share
        return scalars


def monitor(
    engine: PrivacyEngine,
    *,
    progress: str | None = "tqdm",
    tensorboard: str | None = None,
    sinks: Iterable[Sink] = (),
) -> Monitor:
    """Show the privacy that ``engine`` has spent, beside the loss, after each step.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Linear(3, 2)
    >>> x = torch.arange(120.0).reshape(40, 3).sin()
    >>> data = torch.utils.data.TensorDataset(x, torch.arange(40) % 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> import dpfunc as dp
    >>> engine = dp.PrivacyEngine(model, sample_size=40, batch_size=8, noise_multiplier=1.3,
    ...                           max_grad_norm=1.0, delta=1e-3, key=dp.key()).attach(optimizer)
    >>> with dp.monitor(engine, progress=None) as monitor:  # or "tqdm", "rich"
    ...     for x, y in engine.loader(data):
    ...         optimizer.zero_grad()
    ...         loss = nn.functional.cross_entropy(model(x), y)
    ...         loss.backward()
    ...         optimizer.step()
    ...         monitor.step(loss=loss)

    ``progress``: "tqdm", "rich" or None. ``tensorboard``: a folder for its event files. ``sinks``:
    other places, with ``write(step, {name: number})`` and ``close()``. Written are ``epsilon`` (at
    the engine's delta, certified), ``remaining_steps`` where there is an end, and under
    ``not_private/`` the share of samples that were ``clipped`` and what ``step`` was given.

    Guarantee: none of its own. Numbers under ``not_private/`` are computed from the private data
    without noise, and the accountant knows nothing of them: look at them where the data itself may
    be looked at, and keep them out of what is published, logs and screenshots included. Epsilon and
    the steps depend on no data but ``sample_size``.

    | case | result |
    |---|---|
    | ``step()`` before the last part of a batch | its numbers are kept, for the average |
    | a batch without samples | the same without ``not_private/clipped`` |
    | a package is missing | ImportError that names the extra |
    """
    require(
        progress is None or progress in BARS,
        "monitor",
        f"progress to be one of {sorted(BARS)}, or None",
        progress,
        'pass "tqdm" or "rich"',
    )
    end = engine.steps_taken + engine.remaining_steps()
    places: list[Sink] = [TensorBoard(tensorboard)] if tensorboard is not None else []
    if progress is not None:
        places.append(BARS[progress](int(end) if math.isfinite(end) else None))
    return Monitor(engine, (*places, *sinks))
