"""What looks cost a whole run, from the first batch on: the engine with looks, without, and plain.

    python -m benchmarks.looks
    python -m benchmarks.looks --run transformer_padded --steps 40 --rounds 5

A run is a model, a data set and so many steps of a loop. Three loops take turns: plain PyTorch on
the engine's batches, the engine, and the engine without looks, which knows from an earlier run of
the same batches all that looks find out. Figures are processor time, the least of all rounds, and
the calls and samples that went through the model's forward pass.
"""

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

import dpfunc as dp
from benchmarks.workloads.images import mnist_cnn
from dpfunc.engine import loss_check
from dpfunc.persample.whole_batch import schedule

PLAIN, WITHOUT, WITH = "plain PyTorch", "engine without looks", "engine"


class Run(NamedTuple):
    """``collate``: makes a batch of samples, as for a DataLoader."""

    model: nn.Module
    data: Any
    batch_size: int
    collate: Any = None


class _Encoder(nn.Module):
    """Two layers of width 64 over words and positions; padding (word 0) is masked."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(1000, 64), nn.Embedding(128, 64)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(64, 4, 256, dropout=dropout, batch_first=True)
            for _ in range(2)
        )
        self.output = nn.Linear(64, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.positions(torch.arange(tokens.shape[1]))
        padding = tokens == 0
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(-1).to(x.dtype)
        return self.output((x * kept).sum(1) / kept.sum(1))


class _Texts(Dataset[Any]):
    def __init__(self, lengths: list[int]) -> None:
        self._texts = [torch.randint(1, 1000, (length,)) for length in lengths]

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return self._texts[at], at % 2


def _padded_to_the_longest(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    texts = nn.utils.rnn.pad_sequence([text for text, _ in samples], batch_first=True)
    return texts, torch.tensor([label for _, label in samples])


def _cnn() -> Run:
    work = mnist_cnn(4096)
    return Run(work.model, torch.utils.data.TensorDataset(work.inputs, work.labels), 256)


def _transformer(*, padded: bool, dropout: float = 0.0) -> Run:
    lengths = (8 + 88 * torch.rand(2000) ** 3).long().tolist() if padded else [40] * 2000
    return Run(_Encoder(dropout), _Texts(lengths), 32, _padded_to_the_longest)


RUNS = {
    "cnn": _cnn,
    "transformer": lambda: _transformer(padded=False),
    "transformer_padded": lambda: _transformer(padded=True),
    "transformer_dropout": lambda: _transformer(padded=False, dropout=0.1),
    "transformer_padded_dropout": lambda: _transformer(padded=True, dropout=0.1),
}


class Taken(NamedTuple):
    """``seconds``: of the processor. ``calls``, ``samples``: of the model's forward pass."""

    seconds: float
    calls: int
    samples: int


def taken(run: Run, steps: int, way: str, known: dict[str, Any]) -> Taken:
    """One run from its first batch on. ``known``: what looks found out, kept for another run."""
    torch.manual_seed(0)
    first = {name: value.clone() for name, value in run.model.state_dict().items()}
    optimizer = torch.optim.SGD(run.model.parameters(), lr=0.01)
    engine = dp.PrivacyEngine(
        run.model, sample_size=len(run.data), batch_size=run.batch_size, steps=steps, delta=1e-5,
        max_grad_norm=1.0, noise_multiplier=1.0, key=dp.key(1),
    )  # fmt: skip
    loader = engine.loader(run.data, collate_fn=run.collate)
    batches = known["batches"] if way == PLAIN else batches_of(loader, steps)
    if way != PLAIN:
        engine.attach(optimizer)
    kept = []
    if way == WITHOUT:
        engine._gathering.forward.__dict__.update(known["forward"])
        engine._gathering._check.__dict__.update(known["check"])
    looks = _no_looks() if way == WITHOUT else contextlib.nullcontext()
    with _counted(run.model) as counted, looks:
        begin = time.process_time()
        for x, y in batches:
            kept.append((x, y))
            optimizer.zero_grad()
            F.cross_entropy(run.model(x), y).backward()
            optimizer.step()
        seconds = time.process_time() - begin
    if way == WITH:
        known["batches"] = kept
        known["forward"] = {n: getattr(engine._gathering.forward, n) for n in _LEARNED}
        known["check"] = dict(engine._gathering._check.__dict__)
    engine.detach()
    run.model.load_state_dict(first)
    return Taken(seconds, *counted)


_LEARNED = ("_outputs", "_verified")


def batches_of(loader: Any, steps: int) -> Iterator[Any]:
    """So many batches, from as many passes over the data as it takes."""
    while steps > 0:
        for batch in loader:
            yield batch
            steps -= 1
            if steps == 0:
                return


@contextlib.contextmanager
def _no_looks() -> Iterator[None]:
    never = {"is_time_to_look": lambda _: False}
    with mock.patch.multiple(schedule, **never), mock.patch.multiple(loss_check, **never):
        yield


@contextlib.contextmanager
def _counted(model: nn.Module) -> Iterator[list[int]]:
    """Calls of the model's forward pass, and samples in them."""
    found, forward = [0, 0], model.forward

    def counting(x: Tensor) -> Tensor:
        found[0] += 1
        found[1] += len(x)
        return forward(x)

    model.forward = counting
    try:
        yield found
    finally:
        del model.forward


def measure(name: str, steps: int, rounds: int) -> dict[str, Taken]:
    """The least of the rounds, of each way. The three take turns."""
    torch.manual_seed(0)
    run, known = RUNS[name](), {}
    taken(run, steps, WITH, known)
    found: dict[str, list[Taken]] = {way: [] for way in (PLAIN, WITHOUT, WITH)}
    for _ in range(rounds):
        for way, each in found.items():
            each.append(taken(run, steps, way, known))
    return {way: min(each) for way, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| run | loop | s of processor | to plain | to no looks | forward calls | samples |")
    print("|---|---|---|---|---|---|---|")
    for name in options.run:
        found = measure(name, options.steps, options.rounds)
        for way, (seconds, calls, samples) in found.items():
            plain, without = found[PLAIN].seconds, found[WITHOUT].seconds
            columns = [name, way, f"{seconds:.2f}", f"{seconds / plain:.2f}"]
            columns += [f"{seconds / without:.2f}", str(calls), str(samples)]
            print(f"| {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
