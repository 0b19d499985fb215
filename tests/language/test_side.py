"""A side network on top of cached vectors: what it reads, what comes out, who may whiten it."""

import numpy as np
import torch

from isthmus.alignment.features import Whitening
from isthmus.config import LanguageConfig, TuningConfig
from isthmus.language import TextEncoder
from isthmus.language.models import read_facts
from isthmus.language.tuning.side import SideNetwork
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
        after = torch.nn.functional.normalize(network(torch.from_numpy(rows)), dim=1).numpy()
    before = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(network.read(rows), before + after, atol=1e-5)
