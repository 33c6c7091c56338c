"""One run from data to result: train a head, fine-tune, test. Every private run has fresh keys."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.wordnet.encoder import (
    Classifier,
    Examples,
    features_of,
    load_encoder,
    tokenised,
)
from benchmarks.wordnet.glosses import DataError, Split
from benchmarks.wordnet.methods import HEAD_SHARE, Method, adapted
from benchmarks.wordnet.results import Result
from benchmarks.wordnet.training import accuracy, fine_tune, least_noise, train_head
from dpfunc import accounting
from dpfunc.accounting import Compose

PLAIN_PENALTY = 3e-3  # of the squares of the head's weights, in the probe without privacy


@dataclass(frozen=True)
class Prepared:
    """What all runs share: tokens, and the features of the encoder as it came."""

    folder: Path
    data: str  # which split it is
    train: Examples
    test: Examples
    train_features: Tensor  # [N, width]
    test_features: Tensor


def prepare(split: Split, data: str, folder: Path, cache: Path | None = None) -> Prepared:
    """Tokens and features of ``split``; the features, minutes of work, are kept in ``cache``."""
    train, test = tokenised(split.train, folder), tokenised(split.test, folder)
    if cache is None or not cache.is_file():
        model = _classifier(folder, "probe")
        features = features_of(model, train), features_of(model, test)
        if cache is not None:
            torch.save((train.ids, test.ids, *features), cache)
        return Prepared(folder, data, train, test, *features)
    train_ids, test_ids, *kept = torch.load(cache)
    if not (torch.equal(train_ids, train.ids) and torch.equal(test_ids, test.ids)):
        raise DataError(f"expected the features of these glosses in {cache}: pass another --cache")
    return Prepared(folder, data, train, test, *kept)


def private_run(
    method: Method,
    name: str,
    target_epsilon: float,
    prepared: Prepared,
    *,
    delta: float,
    report: Callable[[str], None] = print,
) -> Result:
    """Train by ``method`` within (``target_epsilon``, ``delta``), and test once, at the end.

    Guarantee: the trained model is (``target_epsilon``, ``delta``)-DP under adding or removing one
    gloss of the training set. How its settings were found is not covered: use other data for that.
    """
    start = time.perf_counter()
    size, labels = len(prepared.train.labels), prepared.train.labels
    model = _classifier(prepared.folder, name)
    of_head = target_epsilon if method.tuning is None else HEAD_SHARE * target_epsilon
    noises = [least_noise(method.head, size, Compose(()), target_epsilon=of_head, delta=delta)]
    event = train_head(model.head, prepared.train_features, labels, method.head, noises[0])
    features = prepared.test_features
    if method.tuning is not None:
        budget = {"target_epsilon": target_epsilon, "delta": delta}
        noises.append(least_noise(method.tuning, size, event, **budget))
        event = event + fine_tune(model, prepared.train, method.tuning, noises[1], report)
        features = features_of(model, prepared.test)
    spent = accounting.epsilon(event, delta=delta)
    if spent > target_epsilon:
        raise RuntimeError(f"spent epsilon {spent} of {target_epsilon}")
    return Result(
        method=name,
        target_epsilon=target_epsilon,
        epsilon=spent,
        delta=delta,
        accuracy=accuracy(model.head(features), prepared.test.labels),
        trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        phases=tuple(asdict(phase) for phase in method.phases),
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
        method="probe",
        target_epsilon=math.inf,
        epsilon=math.inf,
        delta=0.0,
        accuracy=accuracy(head(prepared.test_features), prepared.test.labels),
        trained_parameters=sum(param.numel() for param in head.parameters()),
        phases=(),
        noise_multipliers=(),
        seconds=time.perf_counter() - start,
        data=prepared.data,
    )


def _classifier(folder: Path, method: str) -> Classifier:
    encoder = load_encoder(folder)
    width = encoder.config.hidden_size
    return Classifier(adapted(encoder, method), width, autocast=True).eval()
