"""Users as the unit of privacy: some records of a user that was drawn are one entry of a batch."""

import torch
from torch import Tensor

from dpfunc.checks import is_count, require


class UserRecords:
    """Which records belong to whom: ``owners`` int64 ``[records]``, users 0 to U - 1.

    Draw users with any sampler of ``size=users``; `of` then gives ``count`` records of each, and
    ``dp.views(loss_fn, count)`` the mean of their losses, the loss of the user: one entry of the
    batch, clipped as one.

    Guarantee: that of the sampler's event, for adding or removing a user with all records: what an
    entry holds depends on its user's own records and the step alone. Who has fewer records than
    ``count`` has some of them twice. ``count`` is public; how many records a user has stays hers.

    ValueError for a user without records, as she would have no entry.

    >>> records = UserRecords(torch.tensor([0, 1, 0, 0, 1]))
    >>> records.users, records.of(torch.tensor([0, 1]), step=0, count=2).tolist()
    (2, [[0, 2], [1, 4]])
    """

    def __init__(self, owners: Tensor) -> None:
        require(
            isinstance(owners, Tensor) and owners.dim() == 1 and owners.dtype == torch.int64,
            "UserRecords",
            "the owner of each record, int64 [records]",
            getattr(owners, "dtype", type(owners).__name__),
            "number the users from 0",
            error=TypeError,
        )
        require(
            len(owners) > 0 and int(owners.min()) >= 0,
            "UserRecords",
            "users from 0 on",
            len(owners) and int(owners.min()),
            "number the users from 0",
        )
        self._sizes = owners.bincount()
        require(
            bool((self._sizes > 0).all()),
            "UserRecords",
            "a record of every user",
            f"none of {(self._sizes == 0).nonzero()[:5, 0].tolist()}",
            "number the users that have records from 0 on",
        )
        self._starts = self._sizes.cumsum(0) - self._sizes
        self._order = owners.argsort(stable=True)  # records of user 0, then of user 1, ...

    @property
    def users(self) -> int:
        """How many users there are: the ``size`` of the sampler."""
        return len(self._sizes)

    def of(self, users: Tensor, *, step: int, count: int) -> Tensor:
        """Indices of records, int64 ``[users, count]``: the next ones of each user, in turns."""
        for name, value, least in (("step", step, 0), ("count", count, 1)):
            require(
                is_count(value) and value >= least,
                "UserRecords.of",
                f"an int {name} >= {least}",
                value,
                "pass the step of the run, and how many records an entry holds",
            )
        turns = step * count + torch.arange(count)
        places = self._starts[users, None] + turns % self._sizes[users, None]
        return self._order[places]
