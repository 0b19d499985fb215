"""Hidden layers that are read beside the final one."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from isthmus import Config, Recommender
from isthmus.config import LanguageConfig
from isthmus.data.build import dataset_from_frames
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.errors import LanguageModelError
from isthmus.language import TextEncoder
from isthmus.language.models import load_torch_model

TEXTS = [
    "espresso beans, dark roast",
    "cast iron skillet",
    "a book about coffee",
    "skillet",
]


def language(model, tmp_path, **changes) -> LanguageConfig:
    asked = {"model": str(model), "cache": tmp_path / "cache", "runtime": "torch", **changes}
    return LanguageConfig(**asked)


def encode(model, tmp_path, layers, **changes):
    encoder = TextEncoder.load(language(model, tmp_path, layers=layers, **changes), device="cpu")
    vectors = encoder.encode(TEXTS).vectors
    assert encoder.dim == vectors.shape[1]
    return vectors, encoder


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_layers_stand_behind_the_final_vector_in_a_cache_of_their_own(kind, tmp_path, request):
    model = request.getfixturevalue(kind)
    final, plain = encode(model, tmp_path, [])
    (one, first), (zero, second), (both, third) = (
        encode(model, tmp_path, layers) for layers in ([1], [0], [1, -2])
    )
    assert len({encoder.fingerprint for encoder in (plain, first, second, third)}) == 4
    np.testing.assert_array_equal(one[:, :32], final)
    assert both.shape == (4, 96)
    # Of two blocks, the layer before the last one is the one behind the first.
    np.testing.assert_array_equal(both[:, 32:64], both[:, 64:])
    np.testing.assert_array_equal(both[:, 32:64], one[:, 32:])
    assert np.abs(one[:, 32:] - zero[:, 32:]).max() > 0.01
    np.testing.assert_array_equal(encode(model, tmp_path, [1])[0], one)


def test_layers_are_means_of_all_tokens_however_the_final_states_are_pooled(gpt2, tmp_path):
    found, encoder = encode(gpt2, tmp_path, [0])
    assert encoder.pooling == "last"
    tokens = encoder.tokens(TEXTS[:1])
    ids, mask = (torch.from_numpy(part) for part in tokens.padded(np.array([0])))
    with torch.inference_mode():
        read = load_torch_model(encoder.reader.folder)(
            input_ids=ids, attention_mask=mask, output_hidden_states=True
        )
    real = mask[0].bool()
    np.testing.assert_allclose(found[0, 32:], read.hidden_states[0][0, real].mean(0), atol=2e-3)
    np.testing.assert_allclose(found[0, :32], read.hidden_states[-1][0, real][-1], atol=2e-3)


def test_a_graph_gives_layers_too(tmp_path):
    ours, encoder = encode("embedded", tmp_path / "onnx", [0, 3], runtime="onnx")
    assert encoder.report.runtime == "onnx"
    theirs, encoder = encode("embedded", tmp_path / "torch", [0, 3])
    assert encoder.report.runtime == "torch"
    assert ours.shape == (4, 3 * 384)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_layers_that_cannot_be_read_are_refused(bert, tmp_path):
    with pytest.raises(LanguageModelError, match="has 2 blocks and no layer 3") as refused:
        encode(bert, tmp_path, [3])
    assert refused.value.where == "language.layers"
    with pytest.raises(ValidationError, match="tuned weights give vectors of their own"):
        language(bert, tmp_path, layers=[0], tuned=tmp_path)
    with pytest.raises(ValidationError, match="tuned weights give vectors of their own"):
        language(bert, tmp_path, layers=[0], tuned_by_domain={"gear": tmp_path})


def test_a_recommender_reads_newcomers_as_widely_as_it_was_fitted(bert, tmp_path):
    world = generate_world(
        WorldConfig(
            n_users=120,
            n_themes=4,
            domains=tuple(DomainSpec(name=n, n_items=40) for n in ("books", "gear", "films")),
        )
    )
    frames = {name: world.frames[name] for name in ("books", "gear")}
    config = Config.model_validate(
        {
            "model": {"dim": 16, "layers": 1, "heads": 2, "adapter_rank": 2},
            "training": {"epochs": 1, "batch_events": 512, "negatives": 32},
            "evaluation": {"bootstrap": 100},
            "language": {**language(bert, tmp_path, layers=[0, 1]).model_dump(), "whiten_dim": 8},
        }
    )
    dataset, _ = dataset_from_frames(frames)
    fitted = Recommender.fit(dataset, config)
    assert [raw.dim for raw in fitted.raw] == [96, 96]
    fitted.save(tmp_path / "model")
    grown = Recommender.load(tmp_path / "model").add_domain("films", world.frames["films"])
    assert grown.raw[2].dim == 96
    assert len(grown.recommend("films", users=dataset.user_ids.to_list()[:1], k=5)) == 5
