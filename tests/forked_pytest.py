"""Run pytest in a copy of the project, in a process that has its libraries before it starts.

A hundred mutants start pytest a hundred times, and torch takes longer to import than most of their
tests take to run. So one server imports the libraries once and forks for each run; the project's
own modules are never in it, each run imports those of its copy.
"""

import gc
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

_LIBRARIES = (
    "anyio.pytest_plugin", "cryptography.hazmat.primitives.ciphers", "hypothesis", "mpmath",
    "numba", "numpy", "pytest", "scipy.fft", "scipy.optimize", "scipy.stats", "torch",
    "torch._dynamo", "xdist.plugin",
)  # fmt: skip
_EARLY = "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning"  # as they are to be
_OPTIONS = ("-n", "0", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", _EARLY)
_OURS = ("dpfunc", "tests")
_OUTPUT = "output.txt"

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(list(_LIBRARIES))


class StoppedError(Exception):
    """Pytest came to no verdict: what it was asked for is not there, or it took too long."""


def first_failure(copy: Path, tests: Sequence[str], *, seconds: float) -> str | None:
    """The first of ``tests`` that fails in a copy; None where all pass. Raises StoppedError."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the server: it must have one thread when it forks
    here, there = _server.Pipe(duplex=False)
    process = _server.Process(target=_run, args=(there, str(copy), [*_OPTIONS, *tests]))
    process.start()
    there.close()
    try:
        if not here.poll(seconds):
            raise StoppedError(f"stopped after {seconds:.0f} seconds")
        failed, why = here.recv()
    except EOFError:
        process.join()
        raise StoppedError(f"pytest died with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if why:
        raise StoppedError(why)
    found: str | None = failed
    return found


def _run(answer: Connection, copy: str, arguments: list[str]) -> None:
    """Of a forked process: pytest in the copy; all that it prints goes to a file there."""
    gc.freeze()  # pytest collects garbage: that of the libraries would take longer than the tests
    try:
        _enter(copy)
        seen = _FirstFailure()
        code = pytest.main(arguments, plugins=[seen])
        passed = code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        said = Path(_OUTPUT).read_text().splitlines()[-8:]
        stopped = "" if seen.test or passed else f"pytest stopped: {code!r}, {said}"
        answer.send((seen.test, stopped))
    except BaseException:
        answer.send((None, f"pytest stopped: {traceback.format_exc()}"))
        raise


def _enter(copy: str) -> None:
    """Leave the project that started the server for its copy."""
    os.chdir(copy)
    output = os.open(_OUTPUT, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    original = str(Path(__file__).parents[1])
    sys.path[:] = [copy, *(path for path in sys.path if path not in ("", original))]
    for name in [name for name in sys.modules if name.split(".")[0] in _OURS]:
        del sys.modules[name]
    os.environ["PYTHONPATH"] = copy  # of the processes that tests start


class _FirstFailure:
    """A plugin of pytest that keeps the name of the first test, or file, that is red."""

    test: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.test = self.test or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.test = self.test or report.nodeid
