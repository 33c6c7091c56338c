"""Pictures: what is written, and what is said where matplotlib is missing."""

import sys

import pytest

from dpfunc.drawing import load_pyplot, save_figure


def test_a_figure_is_written_and_closed(tmp_path):
    pyplot = load_pyplot()
    figure, _ = pyplot.subplots()
    save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert not pyplot.fignum_exists(figure.number)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r'pip install "dpfunc\[demo\]"'):
        load_pyplot()
