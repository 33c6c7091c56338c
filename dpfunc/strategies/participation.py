"""Who takes part: in how many steps a record may be, and how far apart they are."""

from dataclasses import dataclass

from dpfunc.checks import is_count, require


@dataclass(frozen=True)
class Participation:
    """A record takes part in at most ``most`` steps, each at least ``min_separation`` on.

    A ``min_separation`` of 1 allows steps in a row. With ``evenly_spaced`` the steps of a record
    are exactly ``min_separation`` apart, as in epochs of one fixed order.

    A promise about how the data are read: sensitivities hold for data that keep it.

    >>> Participation(most=4, min_separation=100)
    Participation(most=4, min_separation=100, evenly_spaced=False)
    """

    most: int
    min_separation: int
    evenly_spaced: bool = False

    def __post_init__(self) -> None:
        for name, value in (("most", self.most), ("min_separation", self.min_separation)):
            require(
                is_count(value) and value >= 1,
                "Participation",
                f"an int {name} >= 1",
                value,
                "count the steps that one record is in, and the steps from one to the next",
            )
        require(
            isinstance(self.evenly_spaced, bool),
            "Participation",
            "evenly_spaced as a bool",
            self.evenly_spaced,
            "pass True only where every record comes back after exactly min_separation steps",
            error=TypeError,
        )

    def times(self, steps: int) -> int:
        """In how many of ``steps`` steps a record can be."""
        return min(self.most, -(-steps // self.min_separation))


ONCE = Participation(most=1, min_separation=1)
