"""`benchmarks.gpu` in a tiny form on the CPU: every section runs, and a wrong number is told."""

import json

import pytest
import torch

from benchmarks import gpu
from benchmarks.device import noise
from benchmarks.device.settings import Settings

CPU = Settings(torch.device("cpu"), tiny=True)


def test_every_section_runs(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path / "page"), "--device", "cpu", "--tiny"]) == 0
    answers = json.loads((tmp_path / "page.json").read_text())
    assert answers["noise"]["numbers that differ from the CPU's"] == 0
    assert " passed" in answers["laws"]["result"]
    steps = {row["step"]: row for row in answers["steps"]["rows"]}
    assert steps["plain PyTorch"]["ratio to plain"] == 1.0
    assert steps["dpfunc"]["ms"] > 0
    calls = {row["step"]: row["operator calls"] for row in answers["launches"]["rows"]}
    assert 0 < calls["plain PyTorch"] < calls["dpfunc"]
    page = (tmp_path / "page.md").read_text()
    assert all(f"## {name}" in page for name in gpu.SECTIONS)
    assert "every section ran" in capsys.readouterr().out


def test_other_numbers_are_told(tmp_path, monkeypatch, capsys):
    """A kernel that is off by one grid step in one number."""

    def off(pieces, keys, scale, grid):
        pieces[0].items[7] += grid

    monkeypatch.setattr(noise, "release_by_torch", off)
    arguments = ["--out", str(tmp_path / "page"), "--device", "cpu", "--tiny", "--only", "noise"]
    assert gpu.main(arguments) == 1
    assert "other numbers" in (tmp_path / "page.md").read_text()
    assert "failed: noise" in capsys.readouterr().out


def test_a_machine_without_a_gpu(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path / "page")])
    assert "try --device cpu --tiny" in capsys.readouterr().err
