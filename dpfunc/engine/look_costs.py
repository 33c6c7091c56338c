"""What looks have cost so far: how many there were, and how long they took."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from dpfunc.persample.whole_batch.schedule import Due

_logger = logging.getLogger("dpfunc.engine")


class Looks(NamedTuple):
    """Batches that were looked at ``closely`` and ``briefly``, and the ``seconds`` it took."""

    closely: int
    briefly: int
    seconds: float


class LookCosts:
    """Adds up the cost of looks, and logs that of the first one."""

    def __init__(self) -> None:
        self._closely = self._briefly = 0
        self._seconds = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What runs inside is a part of a look."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds += time.perf_counter() - start

    def count(self, due: Due) -> None:
        """A batch has been looked at like this."""
        self._closely += due == Due.CLOSELY
        self._briefly += due == Due.BRIEFLY
        if due == Due.CLOSELY and self._closely == 1:
            _logger.info(
                "PrivacyEngine: it took %.2f s to look whether model and loss keep the samples of "
                "the first batch apart. Later looks cost less: after 1, 2, 4, 8, ... batches, and "
                "at a few samples where a batch has lengths that are new.",
                self._seconds,
            )

    def so_far(self) -> Looks:
        """All of them."""
        return Looks(self._closely, self._briefly, self._seconds)
