"""A training run that is killed again and again, and resumes from its last saved state.

    python -m tests.engine.crashing_run FOLDER STEPS KILLS

It runs twice: in FOLDER/straight to its end, in FOLDER/crashed with kills. Each line of the file
released is a step and the digest of the gradients it released. A killed step is taken again, so
that a step may be released twice.
"""

import hashlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import dpfunc as dp

KEY = dp.key(5)  # a test: a real run has a secret one
SIZE, RATE = 200, 0.2


def loss_fn(params, x, y):
    return (torch.tanh(params["w"] @ x) @ params["v"] - y).square()


def train(folder: Path, steps: int, report: int) -> None:
    """From the last saved state to the end, telling ``report`` how far it is."""
    x, y = (dp.normal(dp.fold_in(KEY, name), (SIZE, *s)) for name, s in (("x", (5,)), ("y", ())))
    params = {"w": torch.ones(8, 5) / 5, "v": torch.ones(8) / 8}
    noise = dp.GaussianNoise(1.0, key=KEY)
    private = dp.PrivateGrad(loss_fn, clip=dp.Clip(1.0), noise=noise, expected_batch_size=40)
    optimizer = torch.optim.SGD(params.values(), lr=0.1, momentum=0.9)
    state, saved = private.init(params), folder / "state.pt"
    if saved.exists():
        checkpoint = torch.load(saved, weights_only=True)
        params.update(checkpoint["params"])
        optimizer = torch.optim.SGD(params.values(), lr=0.1, momentum=0.9)
        optimizer.load_state_dict(checkpoint["optimizer"])
        state = private.resume(checkpoint["state"], key=KEY)
    for step in range(state["noise"]["step"], steps):
        os.write(report, b"b")  # begun
        indices, mask = dp.sampling.poisson(KEY, step, size=SIZE, rate=RATE, pad_to=80)
        grads, state, _ = private.update(params, (x[indices], y[indices]), state, mask)
        with (folder / "released").open("a") as file:
            file.write(f"{step} {digest(grads)}\n")
        os.write(report, b"r")  # released
        time.sleep(0.003)  # a released step that is not yet saved is what a crash must not change
        for name, param in params.items():
            param.grad = grads[name]
        optimizer.step()
        torch.save(
            {"params": params, "optimizer": optimizer.state_dict(), "state": state},
            folder / "next.pt",
        )
        (folder / "next.pt").replace(saved)


def digest(grads) -> str:
    data = b"".join(grads[name].numpy().tobytes() for name in sorted(grads))
    return hashlib.sha256(data).hexdigest()


def child(folder: Path, steps: int) -> tuple[int, int]:
    """A process that trains: its id, and the end of the pipe it reports to."""
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(ours)
        train(folder, steps, theirs)
        os._exit(0)
    os.close(theirs)
    return process, ours


def kill_in_the_middle(process: int, reports: int, rng: random.Random) -> bool:
    """SIGKILL during its second step or right after that step's release; whether it was alive."""
    wanted = rng.choice((3, 4))  # reports: begun, released, begun, released
    for _ in range(wanted):
        os.read(reports, 1)
    if wanted == 3:
        time.sleep(rng.uniform(0, 0.003))
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(reports)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def main() -> None:
    folder, steps, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch, Path(os.devnull).open("wb") as nowhere:
        for some in (1, 2):  # what torch loads at its first use, the children then have
            train(Path(scratch), some, nowhere.fileno())
    rng = random.Random(1)
    for name, times in (("straight", 0), ("crashed", kills)):
        run = folder / name
        run.mkdir()
        killed = sum(kill_in_the_middle(*child(run, steps), rng) for _ in range(times))
        process, reports = child(run, steps)
        while os.read(reports, 100):
            pass
        _, status = os.waitpid(process, 0)
        print(killed, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
