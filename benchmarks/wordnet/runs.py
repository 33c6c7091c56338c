"""One run from data to result: train a head, fine-tune, test. Every private run has fresh keys."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.wordnet.encoder import (
    Classifier,
    Examples,
    features_of,
    load_encoder,
    tokenised,
)
from benchmarks.wordnet.glosses import Split
from benchmarks.wordnet.methods import METHODS, adapted
from benchmarks.wordnet.results import Result
from benchmarks.wordnet.training import accuracy, fine_tune, least_noise, train_head
from dpfunc import accounting
from dpfunc.accounting import Compose, Event

WIDTH = 384
PLAIN_PENALTY = 1e-3  # of the squares of the head's weights, in the probe without privacy


@dataclass(frozen=True)
class Prepared:
    """What all runs share: tokens, and the features of the encoder as it came."""

    folder: Path
    data: str  # which split it is
    train: Examples
    test: Examples
    train_features: Tensor  # [N, WIDTH]
    test_features: Tensor


def prepare(split: Split, data: str, folder: Path, cache: Path | None) -> Prepared:
    """Tokens and features of ``split``; the features, minutes of work, are kept in ``cache``."""
    train, test = tokenised(split.train, folder), tokenised(split.test, folder)
    if cache is not None and cache.is_file():
        of_train, of_test = torch.load(cache)
    else:
        model = _classifier(folder, "probe")
        of_train, of_test = features_of(model, train), features_of(model, test)
        if cache is not None:
            torch.save((of_train, of_test), cache)
    return Prepared(folder, data, train, test, of_train, of_test)


def private_run(
    method: str,
    target_epsilon: float,
    delta: float,
    prepared: Prepared,
    report: Callable[[str], None] = print,
) -> Result:
    """Train by ``method`` within (``target_epsilon``, ``delta``), and test once, at the end."""
    start = time.perf_counter()
    plan, size = METHODS[method], len(prepared.train.labels)
    model = _classifier(prepared.folder, method)

    def noise_for(phase: object, epsilon: float) -> float:
        return least_noise(phase, size, event, target_epsilon=epsilon, delta=delta)

    event: Event = Compose(())
    noises = [noise_for(plan.head, plan.head_share * target_epsilon)]
    event = train_head(
        model.head, prepared.train_features, prepared.train.labels, plan.head, noises[0]
    )
    features = prepared.test_features
    if plan.tuning is not None:
        noises.append(noise_for(plan.tuning, target_epsilon))
        event = event + fine_tune(model, prepared.train, plan.tuning, noises[1], report)
        features = features_of(model, prepared.test)
    spent = accounting.epsilon(event, delta=delta)
    if spent > target_epsilon:
        raise RuntimeError(f"spent epsilon {spent} of {target_epsilon}")
    return Result(
        method=method,
        target_epsilon=target_epsilon,
        epsilon=spent,
        delta=delta,
        accuracy=accuracy(model.head(features), prepared.test.labels),
        trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        noise_multipliers=tuple(noises),
        seconds=time.perf_counter() - start,
        data=prepared.data,
    )


def plain_probe(prepared: Prepared) -> Result:
    """The probe without privacy: logistic regression to its optimum."""
    start = time.perf_counter()
    head = _classifier(prepared.folder, "probe").head
    solver = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(head(prepared.train_features), prepared.train.labels)
        loss = loss + PLAIN_PENALTY * head.weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    return Result(
        method="plain",
        target_epsilon=math.inf,
        epsilon=math.inf,
        delta=0.0,
        accuracy=accuracy(head(prepared.test_features), prepared.test.labels),
        trained_parameters=sum(param.numel() for param in head.parameters()),
        noise_multipliers=(),
        seconds=time.perf_counter() - start,
        data=prepared.data,
    )


def _classifier(folder: Path, method: str) -> Classifier:
    encoder: nn.Module = adapted(load_encoder(folder), method)
    return Classifier(encoder, WIDTH, autocast=True).eval()
