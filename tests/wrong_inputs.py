"""Wrong inputs and what dpfunc says to them: a table that a test holds, and that anybody can print.

    python -m tests.wrong_inputs

Each line is a name that the user called, and an expression that calls it wrongly. The answer has to
be an error of dpfunc's own format, in that name.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset  # noqa: F401  # evaluated

import dpfunc as dp
from dpfunc import accounting

FORMAT = re.compile(r"[\w.]+: expected .+ but .+; .+\.", re.DOTALL)

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(12, 3, generator=GENERATOR)
Y = torch.randint(0, 2, (12,), generator=GENERATOR)
DATA = TensorDataset(X, Y)
KEY = dp.key(1)


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        return iter([])


def model(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 2))


MODEL = model()
PARAMS = dp.named_params(MODEL)
LOSS = dp.loss_of(MODEL, nn.functional.cross_entropy)
NOISE = dp.GaussianNoise(1.0, key=KEY)


def private(loss_fn: Any = LOSS, **options: Any) -> dp.PrivateGrad:
    """A right `PrivateGrad`, but for ``options``."""
    right = {"clip": dp.Clip(1.0), "noise": NOISE, "expected_batch_size": 4.0}
    return dp.PrivateGrad(loss_fn, **(right | options))


def update(
    params: Any = PARAMS,
    batch: Any = (X, Y),
    state: Any = "right",
    mask: Any = None,
    loss_fn: Any = LOSS,
    **options: Any,
) -> Any:
    step = private(loss_fn, **options)
    return step.update(params, batch, step.init(PARAMS) if state == "right" else state, mask)


def engine(of: Any = None, **options: Any) -> dp.PrivacyEngine:
    """A right `PrivacyEngine`, but for ``options``."""
    right = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "delta": 1e-5, "key": KEY}
    if "data" not in options:
        right |= {"sample_size": 12, "batch_size": 4}
    return dp.PrivacyEngine(model() if of is None else of, **(right | options))


def sgd(of: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(of.parameters(), lr=0.1)


def loop(turn: Callable[..., Any], of: Any = None, **options: Any) -> None:
    """Two steps of an ordinary loop; ``turn(model, optimizer, x, y)`` is what it does in each."""
    of = model() if of is None else of
    optimizer = sgd(of)
    attached = engine(of, **options).attach(optimizer)
    try:
        for number, (x, y) in enumerate(attached.loader(DATA)):
            optimizer.zero_grad()
            turn(of, optimizer, x, y)
            if number == 1:
                return
    finally:
        attached.detach()


def step(optimizer: Any, loss: Any) -> None:
    loss.backward()
    optimizer.step()


def mean_loss(of: nn.Module, x: Any, y: Any) -> Any:
    return nn.functional.cross_entropy(of(x), y)


def second_forward(of: Any, optimizer: Any, x: Any, y: Any) -> None:
    """A pass in training mode after the step, for a log."""
    step(optimizer, mean_loss(of, x, y))
    of(x)


def scaled(of: Any, optimizer: Any, x: Any, y: Any) -> None:
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(mean_loss(of, x, y)).backward()
    scaler.step(optimizer)


def norm_clipped(of: Any, optimizer: Any, x: Any, y: Any) -> None:
    mean_loss(of, x, y).backward()
    nn.utils.clip_grad_norm_(of.parameters(), 1.0)


def closed(of: Any, optimizer: Any, x: Any, y: Any) -> None:
    mean_loss(of, x, y).backward()
    optimizer.step(lambda: 0.0)


DP_SGD = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=0.1, steps=10)


class Wrong(NamedTuple):
    called: str  # the name in which the answer has to be
    code: str  # an expression of this module's names


def _of(called: str, *codes: str) -> list[Wrong]:
    return [Wrong(called, code) for code in codes]


WRONG = [
    *_of(
        "PrivacyEngine",
        "engine(batch_size=0)",
        "engine(batch_size=13)",
        "engine(batch_size='4')",
        "engine(sample_size=12.0)",
        "engine(sample_size=0)",
        "engine(sample_size=None)",
        "engine(delta=0)",
        "engine(delta=1.0)",
        "engine(delta='1e-5')",
        "engine(noise_multiplier=-1.0)",
        "engine(noise_multiplier='1')",
        "engine(noise_multiplier=float('nan'))",
        "engine(noise_multiplier=None)",
        "engine(noise_multiplier=None, target_epsilon=3.0)",
        "engine(noise_multiplier=None, target_epsilon=-3.0, steps=10)",
        "engine(noise_multiplier=None, target_epsilon='3', steps=10)",
        "engine(target_epsilon=0, steps=10)",
        "engine(steps=0)",
        "engine(steps=2.5)",
        "engine(epochs=-1)",
        "engine(epochs='3')",
        "engine(steps=3, epochs=1)",
        "engine(max_grad_norm=-1.0)",
        "engine(max_grad_norm=0.0)",
        "engine(max_grad_norm='1')",
        "engine(max_grad_norm=None)",
        "engine(max_grad_norm=torch.ones(2))",
        "engine(clip=dp.Clip(1.0))",
        "engine(max_grad_norm=None, clip=1.0)",
        "engine(loss_reduction='none')",
        "engine(key=1)",
        "engine(key=None)",
        "engine(key=torch.Generator())",
        "engine(on_budget_spent='stop')",
        "engine(data=DATA)",
        "engine(data=DataLoader(Stream(), batch_size=4))",
        "engine(data=DataLoader(DATA, batch_size=4), sample_size=12)",
        "engine(lambda x: x)",
        "engine(model().parameters())",
        "engine(nn.ReLU())",
        "engine(model(nn.BatchNorm1d(4)))",
        "engine(nn.DataParallel(model()))",
        "engine(torch.compile(model()))",
        "engine(target_delta=1e-5)",
        "engine(target_epsilon=3.0, epochs=1, max_norm=1.0)",
        "engine(optimizer=sgd(MODEL))",
        "dp.PrivacyEngine()",
        "dp.PrivacyEngine(MODEL, sgd(MODEL), DataLoader(DATA))",
        "dp.PrivacyEngine(accountant='prv')",
        "engine().make_private(module=MODEL)",
        "engine().get_epsilon(1e-5)",
        "loop(lambda m, o, x, y: step(o, mean_loss(m.eval(), x, y)))",
        "loop(lambda m, o, x, y: o.step())",
        "loop(lambda m, o, x, y: mean_loss(m, x, y).backward())",
        "loop(lambda m, o, x, y: step(o, (m(x) - m(x).mean(0)).square().mean()))",
        "loop(lambda m, o, x, y: step(o, m(x).square().mean() + m[0].weight.square().sum()))",
        "loop(lambda m, o, x, y: step(o, mean_loss(m, x[:1], y[:1])))",
        "loop(lambda m, o, x, y: torch.func.grad(lambda x: m(x).sum())(x))",
        "loop(second_forward)",
        "loop(scaled)",
        "loop(norm_clipped)",
        "loop(closed)",
    ),
    *_of(
        "PrivacyEngine.attach",
        "engine(MODEL).attach(None)",
        "engine(MODEL).attach(MODEL)",
        "engine(MODEL).attach(sgd(model()))",
        "engine(MODEL).attach(torch.optim.SGD(MODEL[0].parameters(), lr=0.1))",
        "engine(MODEL).attach(torch.optim.LBFGS(MODEL.parameters()))",
        "engine(MODEL).attach(sgd(MODEL)).attach(sgd(MODEL))",
    ),
    *_of(
        "PrivacyEngine.loader",
        "engine().loader(X[:5])",
        "engine().loader(Stream())",
        "engine().loader(iter([1]))",
        "engine().loader(None)",
        "engine().loader(DATA, batch_size=4)",
        "engine().loader(DATA, shuffle=True)",
        "engine().loader(DATA, microbatch_size=0)",
        "engine().loader(DataLoader(DATA, batch_size=5))",
        "engine().loader(DataLoader(DATA, batch_size=4, sampler=range(3)))",
        "next(iter(engine().loader(DATA)))",
    ),
    *_of(
        "PrivacyEngine.load_state_dict",
        "engine().load_state_dict({})",
        "engine().load_state_dict(None)",
        "engine().load_state_dict(MODEL.state_dict())",
        "engine().load_state_dict(engine(key=dp.key(2)).state_dict())",
    ),
    *_of(
        "PrivateGrad",
        "private(None)",
        "private(MODEL.parameters())",
        "private(clip=1.0)",
        "private(clip=None)",
        "private(noise=1.0)",
        "private(noise=None)",
        "private(expected_batch_size=0)",
        "private(expected_batch_size='4')",
        "private(expected_batch_size=float('inf'))",
        "private(microbatch_size=0)",
        "private(microbatch_size=2.0)",
        "private(microbatch_size='all')",
        "private(engine='fast')",
        "private(randomness='same')",
        "private(memory_budget=10)",
        "private(max_grad_norm=1.0)",
        "dp.PrivateGrad(LOSS)",
        "dp.PrivateGrad(LOSS, dp.Clip(1.0), NOISE, 4.0)",
        "update(loss_fn=dp.loss_of(model(nn.Dropout(0.5)), nn.functional.cross_entropy))",
        "update(loss_fn=dp.loss_of(model(nn.BatchNorm1d(4)), nn.functional.cross_entropy))",
    ),
    *_of(
        "PrivateGrad.update",
        "update(state={})",
        "update(state=None)",
        "update(state={'clip': {}})",
        "update(params=X)",
        "update(params=MODEL.parameters())",
        "update(params=None)",
        "update(params={})",
        "update(params=MODEL)",
        "update(params={'0.weight': 1.0})",
        "update(params={name: p.long() for name, p in PARAMS.items()})",
        "update(params=dp.named_params(model().to('meta')))",
        "update(batch=None)",
        "update(batch=(X, Y[:5]))",
        "update(batch=(X, Y.tolist()))",
        "update(batch=(X, 1.0))",
        "update(batch=(X, torch.tensor(1)))",
        "update(mask=torch.ones(12))",
        "update(mask=[True] * 12)",
        "update(mask=torch.ones(5, dtype=torch.bool))",
    ),
    *_of(
        "loss_fn",
        "update(loss_fn=lambda p, x, y: mean_loss(MODEL, x[None], y[None]))",
        "update(loss_fn=lambda p, x, y: torch.func.functional_call(MODEL, p, (x,)))",
        "update(loss_fn=lambda p, x, y: None)",
        "update(loss_fn=lambda p, x, y: 1.0)",
    ),
    *_of(
        "Clip",
        "dp.Clip(0)",
        "dp.Clip(-1.0)",
        "dp.Clip('1')",
        "dp.Clip(None)",
        "dp.Clip(float('nan'))",
        "dp.Clip(1e-30)",
        "dp.Clip()",
    ),
    *_of("AutoClip", "dp.AutoClip(float('inf'))", "dp.AutoClip(1.0, stability=0)"),
    *_of("ClipPerLayer", "dp.ClipPerLayer(0)", "dp.ClipPerLayer({})", "dp.ClipPerLayer('1')"),
    *_of(
        "GaussianNoise",
        "dp.GaussianNoise(-1.0, key=KEY)",
        "dp.GaussianNoise(float('inf'), key=KEY)",
        "dp.GaussianNoise('1', key=KEY)",
        "dp.GaussianNoise(1.0, key=7)",
        "dp.GaussianNoise(1.0, key=None)",
        "dp.GaussianNoise(1.0)",
        "NOISE.add(X, NOISE.init({}))",
        "NOISE.add({'w': X}, NOISE.init({}))",
    ),
    *_of("key", "dp.key(-1)", "dp.key(1.5)", "dp.key('secret')"),
    *_of("fold_in", "dp.fold_in(1, 'a')", "dp.fold_in(KEY, 1.5)"),
    *_of("normal", "dp.normal(1, (3,))", "dp.normal(KEY, (-1,))", "dp.normal(KEY, 'a')"),
    *_of(
        "poisson",
        "dp.sampling.poisson(KEY, 0, size=-1, rate=0.1)",
        "dp.sampling.poisson(KEY, 0, size=10, rate=1.5)",
        "dp.sampling.poisson(KEY, -1, size=10, rate=0.5)",
        "dp.sampling.poisson(7, 0, size=10, rate=0.5)",
        "dp.sampling.poisson(KEY, 0, size=10, rate=0.5, pad_to=1)",
    ),
    *_of("batched", "dp.batched(None)", "dp.batched(MODEL.parameters())"),
    *_of("loss_of", "update(batch=X)", "dp.loss_of(MODEL, None)", "dp.loss_of(None, nn.MSELoss())"),
    *_of("named_params", "dp.named_params(None)", "dp.named_params(MODEL.parameters())"),
    *_of("set_grads_", "dp.set_grads_(MODEL, {})", "dp.set_grads_(MODEL, None)"),
    *_of("check_module", "dp.check_module(None)", "dp.check_module(PARAMS)"),
    *_of("fix_module", "dp.fix_module(None)", "dp.fix_module(PARAMS)"),
    *_of("compile", "dp.compile(None)", "dp.compile(LOSS)"),
    *_of("epsilon", "accounting.epsilon(DP_SGD, delta=-1e-5)"),
    *_of("delta", "accounting.delta(DP_SGD, epsilon=-1.0)"),
    *_of(
        "accounting",
        "accounting.epsilon(1.0, delta=1e-5)",
        "accounting.delta(None, epsilon=1.0)",
        "accounting.epsilon(DP_SGD, delta=1e-5, tol=0)",
        "accounting.epsilon(DP_SGD, delta=1e-5, relation='swap')",
    ),
    *_of(
        "noise_multiplier",
        "accounting.noise_multiplier(target_epsilon=0, delta=1e-5, sample_rate=0.1, steps=3)",
        "accounting.noise_multiplier(target_epsilon=1, delta=1e-5, sample_rate=2.0, steps=3)",
        "accounting.noise_multiplier(target_epsilon=1, delta=1e-5, sample_rate=0.1, steps=-1)",
    ),
    *_of(
        "dp_sgd",
        "accounting.dp_sgd(noise_multiplier=-1, sample_rate=0.1, steps=3)",
        "accounting.dp_sgd(noise_multiplier=1, sample_rate=0.1, steps=2.5)",
        "accounting.dp_sgd(noise_multiplier=1, sample_rate='0.1', steps=3)",
    ),
]


def answer(wrong: Wrong) -> Exception | None:
    """The error that the input ends in; None where it is taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on the way to the error
        try:
            eval(wrong.code)
        except Exception as error:
            return error
    return None


def is_own(wrong: Wrong, error: Exception | None) -> bool:
    """Whether it is an answer in dpfunc's format, in the name of what was called."""
    said = str(error)
    named = said.startswith((f"{wrong.called}:", f"{wrong.called}."))
    return error is not None and named and FORMAT.fullmatch(said) is not None


def main() -> None:
    foreign = 0
    for wrong in WRONG:
        error = answer(wrong)
        own = is_own(wrong, error)
        foreign += not own
        mark = "" if own else "FOREIGN "
        print(f"{mark}{wrong.code}\n    {type(error).__name__}: {error}")
    print(f"{foreign} of {len(WRONG)} answers are foreign")


if __name__ == "__main__":
    main()
