"""`plot_roc`: curves with the certified one, and a title that says what is wrong."""

import numpy as np
import pytest

from dpfunc import accounting, audit, drawing


def curve(mu, seed=0):
    rng = np.random.default_rng(seed)
    member = np.arange(2000) < 1000
    return audit.roc(rng.normal(size=2000) + mu * member, member)


@pytest.fixture
def figure(monkeypatch):
    kept = []
    monkeypatch.setattr(drawing.load_pyplot(), "close", kept.append)
    yield kept
    monkeypatch.undo()
    drawing.load_pyplot().close("all")


def test_an_honest_attack_stays_below_and_the_title_is_the_users(figure, tmp_path):
    path = tmp_path / "roc.png"
    audit.plot_roc({"LiRA": curve(1.0)}, path, event=accounting.Gaussian(1.0), title="digits")
    axes = figure[0].axes[0]
    assert path.read_bytes().startswith(b"\x89PNG")
    assert axes.get_title() == "digits"
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["blind guessing", "certified: none is above", "LiRA"]
    rates, allowed = axes.get_lines()[1].get_data()
    assert allowed == pytest.approx(
        1 - accounting.tradeoff_curve(accounting.Gaussian(1.0), rates.tolist())
    )


def test_an_attack_above_the_certified_curve_is_called_a_bug(figure, tmp_path):
    curves = {"LiRA": curve(2.0), "loss": curve(0.1)}
    audit.plot_roc(curves, tmp_path / "roc.png", event=accounting.Gaussian(1.0))
    assert figure[0].axes[0].get_title().startswith("LiRA: above the certified curve. A bug")


def test_no_curve_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one to 8 curves"):
        audit.plot_roc({}, tmp_path / "roc.png")
