"""A side network on top of cached vectors: what it reads, what comes out, who may whiten it."""

import shutil

import numpy as np
import torch
from test_tuning_methods import material, settings

from isthmus.alignment.features import Whitening
from isthmus.config import LanguageConfig, TuningConfig
from isthmus.language import TextEncoder
from isthmus.language.models import read_facts
from isthmus.language.tuning.side import SideNetwork
from isthmus.language.tuning.tune import tune
from isthmus.language.tuning.weights import TunedWeights

TEXTS = ["espresso beans", "burr grinder", "running shoes at night", "star chart and telescope"]


def language(bert, tmp_path, **changes) -> LanguageConfig:
    return LanguageConfig(model=str(bert), cache=tmp_path / "cache", runtime="torch", **changes)


def save(bert, folder, seed: int) -> SideNetwork:
    torch.manual_seed(seed)
    network = SideNetwork(32, 16)
    torch.nn.init.normal_(network.up.weight, std=0.1)
    rng = np.random.default_rng(seed)
    network.settle(rng.normal(size=32), rng.normal(size=(32, 32)))
    config = TuningConfig(method="side", width=16)
    facts = read_facts(bert, None)
    TunedWeights.of(network.state_dict(), config, facts, "mean", base_name="bert").save(folder)
    return network


def test_the_catalogue_goes_through_the_model_once(bert, tmp_path, monkeypatch):
    plain = TextEncoder.load(language(bert, tmp_path)).encode(TEXTS)
    assert not plain.whitened
    monkeypatch.setattr("isthmus.language.reader.load_torch_model", None)
    encoders = []
    for seed in (1, 2):
        network = save(bert, tmp_path / str(seed), seed)
        encoder = TextEncoder.load(language(bert, tmp_path, tuned=tmp_path / str(seed)))
        found = encoder.encode([TEXTS[2], None, TEXTS[0]])
        expected = network.read(plain.vectors[[2, 0]])
        np.testing.assert_allclose(found.vectors[[0, 2]], expected, rtol=1e-3, atol=1e-3)
        assert not found.vectors[1].any()
        assert found.whitened
        encoders.append(encoder)
    assert encoders[0].fingerprint != encoders[1].fingerprint


def test_an_untrained_network_gives_whitened_vectors_and_no_more():
    rows = np.random.default_rng(0).normal(3, 2, size=(300, 8)).astype(np.float32)
    whitening = Whitening.fit(rows, dim=8, kind="zca", shrinkage=0.05)
    network = SideNetwork(8, 4)
    network.settle(whitening.mean, whitening.matrix)
    expected = 2 * whitening.transform(rows)
    np.testing.assert_allclose(network.read(rows), expected, atol=1e-5)


def test_what_comes_out_is_the_sum_of_before_and_after():
    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    network = SideNetwork(8, 4)
    torch.nn.init.normal_(network.up.weight)
    with torch.no_grad():
        _, after = (part.numpy() for part in network.parts(torch.from_numpy(rows)))
        compared = network(torch.from_numpy(rows)).numpy()
    before = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(compared, before + after, atol=1e-5)
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(network.read(rows), before + after, atol=1e-5)
    network.share.fill_(0.25)
    np.testing.assert_allclose(network.read(rows), before + after / 4, atol=1e-5)


def deaf(bert, folder):
    """A BERT whose final vectors are all the same; what the first block says is there."""
    from transformers import BertModel

    shutil.copytree(bert, folder)
    model = BertModel.from_pretrained(folder)
    norm = model.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.normal_()
    model.save_pretrained(folder)
    return folder


def test_hidden_layers_teach_what_the_final_vector_does_not_hold(bert, tmp_path):
    base = language(deaf(bert, tmp_path / "deaf"), tmp_path)
    found = {}
    for layers in ([], [1]):
        config = settings("side", steps=60, hidden_layers=layers)
        found[len(layers)] = tune(material(), base, config, device="cpu")
    (before, final), (_, both) = (found[n].nats for n in (0, 1))
    assert final > before - 0.05
    assert both < before - 0.3
    weights = found[1].weights
    weights.save(tmp_path / "tuned")
    assert TunedWeights.load(tmp_path / "tuned").config.hidden_layers == [1]
    tuned = base.model_copy(update={"tuned": tmp_path / "tuned"})
    encoder = TextEncoder.load(tuned)
    vectors = encoder.encode(TEXTS).vectors
    assert vectors.shape == (4, 32)
    assert encoder.dim == 32
    np.testing.assert_array_equal(vectors, TextEncoder.load(tuned).encode(TEXTS).vectors)
    network = SideNetwork(32, 32, 1)
    network.load_state_dict(weights.tensors())
    layered = base.model_copy(update={"layers": [1]})
    wide = TextEncoder.load(layered).encode(TEXTS).vectors
    np.testing.assert_allclose(vectors, network.read(wide), rtol=1e-3, atol=1e-3)


def test_an_untrained_network_on_hidden_layers_changes_nothing():
    rows = np.random.default_rng(0).normal(3, 2, size=(300, 24)).astype(np.float32)
    plain, wide = SideNetwork(8, 4), SideNetwork(8, 4, 2)
    for network in (plain, wide):
        network.settle(rows[:, :8].mean(0), np.eye(8, dtype=np.float32))
    wide.settle_hidden(rows)
    np.testing.assert_allclose(wide.read(rows), plain.read(rows[:, :8]), atol=1e-6)
    part = torch.from_numpy(rows)
    whitened = (part[:, 8:16] - wide.hidden_mean[0]) @ wide.hidden_whiten[0]
    np.testing.assert_allclose(np.cov(whitened.numpy(), rowvar=False), np.eye(8), atol=0.15)
    with torch.no_grad():
        wide.mix.copy_(torch.tensor([-50.0, 50.0, -50.0]))
        alone = torch.nn.functional.normalize(whitened, dim=1)
        mixed = wide.mixed(part, wide.whitened(part))
        torch.testing.assert_close(mixed, alone, atol=1e-5, rtol=0)
