"""What a check found: findings with a severity, as a table and as JSON."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal[
    "violation", "wrong gradient", "not finite", "not deterministic", "wrong noise", "wrong sample"
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    - ``violation``: the guarantee does not hold: a record moves the sum by more than the bound, or
      decides whether there is an error, or of which shape the result is;
    - ``not finite``: a record makes the release NaN or infinite, which tells that it is there;
    - ``wrong gradient``: what a record adds is within the bound, and not its clipped gradient: no
      leak, but another algorithm than was meant;
    - ``not deterministic``: one batch gives two sums without noise;
    - ``wrong noise``, ``wrong sample``: not the distribution that the accountant assumes.
    """

    severity: Severity
    where: str
    what: str
    size: float = 0.0


@dataclass(frozen=True)
class Report:
    """All findings of one check; true if there are none.

    ``checks``: how many comparisons were made; ``worst``: the largest ratio of a movement to its
    bound, 1 or less where all is well (of a sample or noise, NaN).
    """

    subject: str
    findings: tuple[Finding, ...]
    checks: int
    worst: float
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        head = f"{self.subject}: {len(self.findings)} findings in {self.checks} checks"
        head += f", largest ratio to the bound {self.worst:.4f}" if self.worst == self.worst else ""
        rows = [f"  {f.severity:17}  {f.where:28}  {f.what}" for f in self.findings]
        return "\n".join([head, *rows, *(f"  {note}" for note in self.notes)])

    def to_json(self) -> str:
        """One line of JSON with everything in it; what is not finite is text."""
        return json.dumps(_plain(asdict(self)))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return str(value)
    return value
