"""Every tuning method on an encoder and a decoder: learns, comes back the same, merges exactly."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from transformers import ModernBertConfig, ModernBertModel

from isthmus.config import TUNING_METHODS, LanguageConfig, TuningConfig
from isthmus.data.next_items import NextItems
from isthmus.data.pairs import ItemPairs
from isthmus.errors import LanguageModelError
from isthmus.language import TextEncoder
from isthmus.language.folders import save_model
from isthmus.language.models import load_tokenizer, load_torch_model, read_facts
from isthmus.language.tokens import tokenize
from isthmus.language.tuning.merge import merge
from isthmus.language.tuning.methods import MERGEABLE, Tunable
from isthmus.language.tuning.samplers import Readable
from isthmus.language.tuning.side import SideNetwork
from isthmus.language.tuning.tune import Material, tune
from isthmus.language.tuning.weights import TunedWeights

INSIDE = [method for method in TUNING_METHODS if method != "side"]
NOUNS = {
    "coffee": ("espresso beans", "burr grinder", "filter coffee", "dark roast"),
    "sport": ("trail running shoes", "firm grip", "running at night", "grip shoes"),
    "sky": ("star chart", "telescope", "astronomy chart", "star telescope"),
}
FAST = {
    "full": 2e-3,
    "last-layers": 5e-3,
    "side": 1e-2,
    "adalora": 0.1,
    "ia3": 0.1,
    "prefix": 0.1,
    "prompt": 1.0,
}
SMALL = {"rank": 4, "bottleneck": 8, "virtual_tokens": 4, "width": 32, "last_layers": 1}


def material() -> Material:
    """Twelve texts of three themes; items of one theme go together, whatever their words."""
    texts = [text for theme in NOUNS.values() for text in theme]
    theme = np.repeat(np.arange(3), 4)
    first, second = np.nonzero((theme[:, None] == theme) & ~np.eye(12, dtype=bool))
    together = sp.csr_array((np.ones(len(first), bool), (first, second)), shape=(12, 12))
    pairs = ItemPairs(first, second, np.ones(len(first)), np.zeros(len(first), int), 1, together)
    eye = (np.zeros(32, np.float32), np.eye(32, dtype=np.float32))
    readable = Readable(np.arange(12), np.zeros(12, int))
    return Material(texts, readable, pairs, histories(), [eye], eye)


def histories() -> NextItems:
    """Forty people who each keep to one theme."""
    rng = np.random.default_rng(0)
    item = np.concatenate([4 * (p % 3) + rng.permutation(4) for p in range(40)])
    person = np.repeat(np.arange(40), 4)
    chosen = sp.csr_array((np.ones(160, bool), (person, item)), shape=(40, 12))
    return NextItems(item, np.zeros(160, int), person, np.repeat(np.arange(0, 160, 4), 4), chosen)


def settings(method: str, **changes) -> TuningConfig:
    given = {"steps": 36, "batch_examples": 16, "negatives": 8, "held_out": 0.3, "patience": 100}
    # A model this small learns faster than the real ones that the default rates suit.
    rate = FAST.get(method, 0.03)
    return TuningConfig(method=method, **{**SMALL, **given, "learning_rate": rate, **changes})


def test_a_side_network_takes_more_steps_than_the_others_unless_told(bert, tmp_path, monkeypatch):
    made: list[int] = []

    def few(task, *_given, **_how):
        made.append(task.stretches * task.batches_per_epoch)
        raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.language.tuning.tune.learn", few)
    language = LanguageConfig(model=str(bert), cache=tmp_path / "cache", runtime="torch")
    for method, steps in (("side", None), ("lora", None), ("side", 24)):
        with pytest.raises(KeyboardInterrupt):
            tune(material(), language, settings(method, steps=steps), device="cpu")
    assert made == [1800, 600, 24]


@pytest.mark.parametrize("model", ["bert", "gpt2"])
@pytest.mark.parametrize("method", TUNING_METHODS)
def test_each_method_learns_and_comes_back_the_same(method, model, tmp_path, request, monkeypatch):
    folder = request.getfixturevalue(model)
    language = LanguageConfig(model=str(folder), cache=tmp_path / "cache", runtime="torch")
    trained = trained_modules(monkeypatch)
    found = tune(material(), language, settings(method), device="cpu")
    before, after = found.nats
    assert after < before - 0.02
    assert 0 < found.trainable_share <= 1
    found.weights.save(tmp_path / "tuned")
    loaded = TunedWeights.load(tmp_path / "tuned")
    assert loaded.fingerprint == found.weights.fingerprint
    texts = material().texts
    plain = TextEncoder.load(language, device="cpu").encode(texts).vectors
    (module,) = trained
    expected = module.eval().read(plain) if method == "side" else vectors_of(module, folder)
    assert np.abs(expected - plain).max() > 1e-2
    # Nothing is in this cache, so the saved weights are read and run.
    fresh = {"tuned": tmp_path / "tuned", "cache": tmp_path / "fresh"}
    subject = TextEncoder.load(language.model_copy(update=fresh), device="cpu")
    vectors = subject.encode(texts).vectors
    assert subject.report.n_encoded == len(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-4, rtol=2**-10)  # kept in half precision
    if method == "side":
        return
    again = Tunable(load_torch_model(folder), module.pooling, loaded.config)
    again.load(loaded.tensors())
    np.testing.assert_allclose(vectors_of(again, folder), expected, atol=1e-4, rtol=0)
    if method not in MERGEABLE:
        return
    merge(tmp_path / "tuned", language, tmp_path / "merged")
    whole = load_torch_model(tmp_path / "merged")
    merged = Tunable(whole, module.pooling, TuningConfig(method="full"))
    np.testing.assert_allclose(vectors_of(merged, folder), expected, atol=1e-4, rtol=0)


def trained_modules(monkeypatch) -> list:
    """What `tune` makes from now on and trains in place."""
    made: list = []

    class Kept(Tunable):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    class KeptSide(SideNetwork):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr("isthmus.language.tuning.tune.Tunable", Kept)
    monkeypatch.setattr("isthmus.language.tuning.tune.SideNetwork", KeptSide)
    return made


def vectors_of(module, folder) -> np.ndarray:
    """Vectors of the twelve texts, by the module itself."""
    tokens = tokenize(load_tokenizer(folder), material().texts, 40)
    ids, mask = (torch.from_numpy(part) for part in tokens.padded(np.arange(12)))
    with torch.inference_mode():
        return module.eval()(ids, mask).numpy()


@pytest.mark.parametrize("patience", [100, 1])
def test_adalora_saves_as_many_ranks_as_were_asked_for(patience, bert, tmp_path, monkeypatch):
    language = LanguageConfig(model=str(bert), cache=tmp_path / "cache", runtime="torch")
    config = settings("adalora", patience=patience)

    def ranks(tensors) -> tuple[int, int]:
        values = [tensor for name, tensor in tensors.items() if "lora_E" in name]
        return int(sum((tensor != 0).sum() for tensor in values)), len(values)

    whole = ranks(tune(material(), language, config, device="cpu").weights.tensors())
    assert whole == (config.rank * whole[1], whole[1])

    # One that was killed behind the last share keeps to it.
    from isthmus.training import loop

    epochs, judged = loop._Run.epoch, []

    def stopping(self, validate):
        if len(self.log.epochs) == 9:
            raise KeyboardInterrupt
        return epochs(self, validate)

    monkeypatch.setattr(loop._Run, "checkpoint", always(loop._Run.checkpoint))
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            tune(material(), language, config, device="cpu", folder=tmp_path / "kept")
    monkeypatch.setattr(
        Tunable, "after_step", noting(Tunable.after_step, lambda t: judged.append(ranks(t.own())))
    )
    resumed = tune(material(), language, config, device="cpu", folder=tmp_path / "kept")
    assert ranks(resumed.weights.tensors()) == whole
    assert judged
    assert set(judged) == {whole}


def always(checkpoint):
    """Write one after every stretch."""

    def due(self, folder):
        self.saved_at = -np.inf
        checkpoint(self, folder)

    return due


def noting(step, note):
    """Look at the module behind every step."""

    def noted(self, done):
        step(self, done)
        note(self)

    return noted


@pytest.mark.parametrize("model", ["bert", "gpt2"])
@pytest.mark.parametrize("method", INSIDE)
def test_saved_weights_give_the_module_that_was_trained(method, model, tmp_path, request):
    folder = request.getfixturevalue(model)
    facts = read_facts(folder, None)
    config = settings(method)
    tokens = tokenize(load_tokenizer(folder), material().texts, 20)
    ids, mask = (torch.from_numpy(part) for part in tokens.padded(np.arange(12)))
    torch.manual_seed(3)
    trained = Tunable(load_torch_model(folder), facts.pooling, config).eval()
    with torch.no_grad():
        for tensor in trained.own().values():
            tensor.add_(0.05 * torch.randn_like(tensor))
        expected = trained(ids, mask)
    weights = TunedWeights.of(trained.own(), config, facts, facts.pooling, base_name="x")
    again = Tunable(load_torch_model(folder), facts.pooling, config).eval()
    with torch.no_grad():
        assert not torch.equal(again(ids, mask), expected)
        again.load(weights.tensors())
        assert torch.equal(again(ids, mask), expected)
        if method not in MERGEABLE:
            with pytest.raises(LanguageModelError, match="cannot be merged"):
                again.merged()
            return
        save_model(tmp_path / "merged", again.merged(), folder)
    merged = Tunable(
        load_torch_model(tmp_path / "merged"), facts.pooling, TuningConfig(method="full")
    )
    with torch.no_grad():
        torch.testing.assert_close(merged.eval()(ids, mask), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("model", ["bert", "gpt2"])
@pytest.mark.parametrize("method", ["adapter", "lora", "dora", "adalora", "ia3"])
def test_untrained_weights_change_nothing(method, model, request):
    folder = request.getfixturevalue(model)
    tokens = tokenize(load_tokenizer(folder), material().texts, 20)
    ids, mask = (torch.from_numpy(part) for part in tokens.padded(np.arange(12)))
    plain = Tunable(load_torch_model(folder), "mean", TuningConfig(method="full")).eval()
    tunable = Tunable(load_torch_model(folder), "mean", settings(method)).eval()
    with torch.no_grad():
        expected, found = plain(ids, mask), tunable(ids, mask)
    if method == "adapter":
        assert torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert tunable.trainable_share() < 0.4


def test_an_adapter_suits_a_model_that_asks_its_blocks_what_they_are():
    """A ModernBERT reads `attention_type` of each."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    special = {f"{role}_token_id": 0 for role in ("pad", "bos", "eos", "cls", "sep")}
    config = ModernBertConfig(vocab_size=50, num_hidden_layers=2, **sizes, **special)
    model = ModernBertModel(config).eval()
    ids = torch.arange(1, 21)[None]
    mask = torch.ones_like(ids)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1)
        tunable = Tunable(model, "mean", settings("adapter")).eval()
        assert torch.equal(tunable(ids, mask), expected)
    with pytest.raises(AttributeError, match="nothing"):
        _ = next(iter(model.layers)).nothing


def test_weights_of_one_domain_are_swapped_for_those_of_another(bert):
    facts = read_facts(bert, None)
    tokens = tokenize(load_tokenizer(bert), material().texts, 20)
    ids, mask = (torch.from_numpy(part) for part in tokens.padded(np.arange(12)))
    tunable = Tunable(load_torch_model(bert), facts.pooling, settings("lora")).eval()
    found = {}
    for domain, seed in (("books", 1), ("gear", 2)):
        torch.manual_seed(seed)
        found[domain] = {n: torch.randn_like(t) / 10 for n, t in tunable.own().items()}
    with torch.no_grad():
        vectors = []
        for domain in ("books", "gear", "books"):
            tunable.load(found[domain])
            vectors.append(tunable(ids, mask))
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.allclose(vectors[0], vectors[1])
    with pytest.raises(LanguageModelError, match="do not fit"):
        tunable.load({"other": torch.zeros(1)})


def test_weights_of_another_base_are_refused(bert, gpt2, tmp_path):
    language = LanguageConfig(model=str(bert), cache=tmp_path / "cache", runtime="torch")
    tune(material(), language, settings("lora", steps=2), device="cpu").weights.save(tmp_path / "t")
    other = LanguageConfig(model=str(gpt2), tuned=tmp_path / "t", cache=tmp_path / "cache")
    with pytest.raises(LanguageModelError, match="were tuned on"):
        TextEncoder.load(other, device="cpu")


def test_states_of_virtual_tokens_are_not_pooled(bert):
    tokens = tokenize(load_tokenizer(bert), material().texts, 20)
    ids, mask = (torch.from_numpy(part) for part in tokens.padded(np.arange(12)))
    tunable = Tunable(load_torch_model(bert), "mean", settings("prompt")).eval()
    with torch.no_grad():
        whole = tunable.model(input_ids=ids, attention_mask=mask).last_hidden_state
        assert whole.shape[1] == ids.shape[1] + 4
        text = whole[:, 4:] * mask[:, :, None]
        expected = text.sum(1) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(tunable(ids, mask), expected)
