"""A side network over cached layers: what is cached, and what comes out."""

import numpy as np
import torch

from isthmus.alignment.features import Whitening
from isthmus.config import LanguageConfig, TuningConfig
from isthmus.language import TextEncoder
from isthmus.language.models import load_tokenizer, load_torch_model, read_facts
from isthmus.language.tuning.side import SideNetwork
from isthmus.language.tuning.states import CachedStates
from isthmus.language.tuning.weights import TunedWeights

TEXTS = ["espresso beans", "burr grinder", "running shoes at night", "star chart and telescope"]


def language(bert, tmp_path, **changes) -> LanguageConfig:
    return LanguageConfig(model=str(bert), cache=tmp_path / "cache", runtime="torch", **changes)


def test_states_are_those_of_every_layer_pooled(bert, tmp_path):
    states = CachedStates(TextEncoder.load(language(bert, tmp_path), layers=True), TEXTS)
    model = load_torch_model(bert)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([load_tokenizer(bert)(text)["input_ids"]])
        with torch.inference_mode():
            layers = model(input_ids=ids, output_hidden_states=True).hidden_states
        expected = torch.cat([layer[0].mean(0) for layer in layers]).numpy()
        np.testing.assert_allclose(states[np.array([row])][0], expected, atol=4e-3)


def test_the_catalogue_goes_through_the_model_once(bert, tmp_path, monkeypatch):
    CachedStates(TextEncoder.load(language(bert, tmp_path), layers=True), TEXTS)
    monkeypatch.setattr("isthmus.language.reader.load_torch_model", None)
    states = CachedStates(TextEncoder.load(language(bert, tmp_path), layers=True), TEXTS)
    assert states[np.array([2, 0])].shape == (2, 3 * 32)
    for seed in (1, 2):
        tuned = save(bert, tmp_path / str(seed), seed)
        encoder = TextEncoder.load(language(bert, tmp_path, tuned=tmp_path / str(seed)))
        vectors = encoder.encode([TEXTS[2], None, TEXTS[0]]).vectors
        expected = tuned.read(states[np.array([2, 0])])
        np.testing.assert_allclose(vectors[[0, 2]], expected, rtol=1e-3, atol=1e-3)
        assert not vectors[1].any()


def save(bert, folder, seed: int) -> SideNetwork:
    torch.manual_seed(seed)
    network = SideNetwork(3, 32, 16)
    torch.nn.init.normal_(network.up.weight, std=0.1)
    config = TuningConfig(method="side", width=16)
    facts = read_facts(bert, None)
    TunedWeights.of(network.state_dict(), config, facts, "mean", base_name="bert").save(folder)
    return network.eval()


def test_side_networks_have_fingerprints_of_their_own_and_one_cache(bert, tmp_path):
    encoders = []
    for seed in (1, 2):
        save(bert, tmp_path / str(seed), seed)
        encoders.append(TextEncoder.load(language(bert, tmp_path, tuned=tmp_path / str(seed))))
        encoders[-1].encode(TEXTS)
    assert encoders[0].fingerprint != encoders[1].fingerprint
    assert encoders[1].report.n_encoded == 0


def test_an_untrained_network_gives_the_last_layer_exactly(bert, tmp_path):
    states = CachedStates(TextEncoder.load(language(bert, tmp_path), layers=True), TEXTS)
    rows = states[np.arange(4)]
    network = SideNetwork(3, 32, 16)
    rng = np.random.default_rng(0)
    network.settle([rows], rng.normal(size=32), rng.normal(size=(32, 32)))
    np.testing.assert_array_equal(network.read(rows), rows[:, -32:].astype(np.float32))


def test_a_direction_without_variance_is_left_alone():
    """Normalised layers have one; rounding must not be taken for variance."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 8)).astype(np.float32)
    rows -= rows.mean(1, keepdims=True)
    found = Whitening.fit(rows, dim=8, kind="zca", shrinkage=0.05)
    network = SideNetwork(1, 8, 4).eval()
    network.settle([rows.astype(np.float16)], found.mean, found.matrix)
    torch.nn.init.normal_(network.up.weight, std=0.1)
    changed = network.read(rows.astype(np.float16))
    assert np.abs(changed - rows).max() > 0.05
    np.testing.assert_allclose(changed.mean(1), rows.mean(1), atol=1e-2)


def test_scale_is_that_of_the_catalogue():
    rows = np.random.default_rng(0).normal(3, 2, size=(500, 64)).astype(np.float16)
    rows[:, 5] = 1.0
    network = SideNetwork(2, 32, 16)
    network.settle([rows[:200], rows[200:]], np.zeros(32), np.eye(32))
    np.testing.assert_allclose(network.centre, rows.astype(float).mean(0), atol=1e-3)
    expected = rows.astype(float).std(0)
    expected[5] = 1.0
    np.testing.assert_allclose(network.spread, expected, rtol=1e-3)


def test_without_a_cache_states_are_held(bert, tmp_path):
    encoder = TextEncoder.load(language(bert, tmp_path), layers=True)
    kept = CachedStates(encoder, TEXTS)[np.arange(4)]
    encoder._cache = None
    held = CachedStates(encoder, TEXTS)
    encoder.kept = None
    np.testing.assert_array_equal(held[np.arange(4)], kept)
