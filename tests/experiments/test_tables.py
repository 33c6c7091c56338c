"""Tables, pictures and the price of rows."""

import pytest

from dpfunc import accounting, experiments
from dpfunc.experiments import Row


def rows():
    return [
        Row(
            {"lr": lr, "data": "a"},
            seed,
            {"accuracy": lr + seed / 10},
            accounting.Gaussian(sigma),
            1.0 / sigma,
            1e-5,
            2.0,
            {},
        )
        for sigma, lr in ((1.0, 0.5), (2.0, 0.25))
        for seed in range(5)
    ]


def test_a_table_has_medians_and_quartiles_over_seeds():
    assert experiments.table(rows(), by="lr", value="accuracy") == (
        "| lr | accuracy | quartiles | runs |\n"
        "|---|---|---|---|\n"
        "| 0.25 | 0.45 | 0.35 - 0.55 | 5 |\n"
        "| 0.5 | 0.7 | 0.6 - 0.8 | 5 |"
    )
    text = experiments.table(rows(), by=["data", "epsilon"], value="accuracy", form="csv")
    assert text.splitlines()[0] == "data,epsilon,accuracy,lower quartile,upper quartile,runs"
    assert [float(x) for x in text.splitlines()[2].split(",")[1:]] == pytest.approx(
        [1.0, 0.7, 0.6, 0.8, 5]
    )


def test_an_epsilon_is_never_rounded_down():
    def shown(epsilon):
        row = Row({"lr": 0.1}, 0, {}, accounting.Gaussian(1.0), epsilon, 1e-5, 1.0, {})
        return experiments.table([row], by="lr", value="epsilon").splitlines()[-1].split(" | ")[1]

    assert [shown(epsilon) for epsilon in (2.00001, 1.2341, 0.1)] == ["2.001", "1.235", "0.1"]


def test_the_price_of_looking_is_that_of_all_rows():
    total = experiments.spent(rows())
    parts = (accounting.Gaussian(1.0) * 5, accounting.Gaussian(2.0) * 5)
    assert total == accounting.Compose(parts)
    with pytest.raises(ValueError, match="an event in each row"):
        experiments.spent([Row({}, 0, {}, None, None, None, 0.0, {})])


def test_a_picture_has_a_line_for_each_setting(tmp_path):
    experiments.plot(rows(), tmp_path / "a.png", value="accuracy", by="lr")
    experiments.plot(rows(), tmp_path / "b.png", value="accuracy", x="lr")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "call",
    [
        lambda: experiments.table([], by="lr", value="accuracy"),
        lambda: experiments.table(rows(), by="rate", value="accuracy"),
        lambda: experiments.table(rows(), by="lr", value="loss"),
        lambda: experiments.table(rows(), by="lr", value="accuracy", form="html"),
        lambda: experiments.spent([]),
    ],
)
def test_what_no_table_can_be_made_of_is_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()
