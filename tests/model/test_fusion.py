import numpy as np
import pytest
import torch

from isthmus.config import Config, ModelConfig
from isthmus.data.features import ItemFeatures
from isthmus.errors import ConfigError
from isthmus.model.core import CoreModel
from isthmus.model.item_tower import TEXT_SCALE

SIZES = ModelConfig(dim=8, layers=1, heads=2, dropout=0.0, max_length=6, fusion="null-space")


def _features(*counts: int, width: int = 6) -> list[ItemFeatures]:
    rng = np.random.default_rng(0)
    return [
        ItemFeatures(rng.normal(size=(n, width)).astype(np.float32), np.arange(n) % 5 != 0)
        for n in counts
    ]


def _model(config: ModelConfig = SIZES, width: int = 6) -> CoreModel:
    features = _features(20, 30, width=width)
    return CoreModel(features, np.full(50, 4, np.float32), config, seed=0)


def _trained(model: CoreModel) -> CoreModel:
    """After steps that pull items about at random."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    ids = model.items.table.clone().requires_grad_()
    wanted = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        loss = (model.item_vectors(torch.arange(50), ids) - wanted).square().sum()
        model.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            ids -= 0.1 * ids.grad
        ids.grad = None
    with torch.no_grad():
        model.items.table.copy_(ids)
    return model.eval()


def _told_and_learnt(model: CoreModel) -> tuple[torch.Tensor, torch.Tensor]:
    """What each item's vector has from its text and what from its ID."""
    rows = torch.arange(50)
    with torch.no_grad():
        told = model.item_vectors(rows, torch.zeros(50, 8))
        return told, model.item_vectors(rows) - told


def test_ids_lie_in_the_null_space_of_the_texts_covariance():
    told, learnt = _told_and_learnt(_trained(_model()))
    present = torch.from_numpy(np.concatenate([f.present for f in _features(20, 30)]))
    covariance = torch.cov(told[present].T)
    assert covariance.abs().max() > 1e-4
    assert learnt.abs().max() > 0.1
    assert torch.allclose(covariance @ learnt.T, torch.zeros(8, 50), atol=1e-7)
    # Whose text is missing has an ID there as well.
    assert learnt[~present].abs().max() > 0.1


def test_what_texts_say_of_each_other_stays_as_it_was():
    before, _ = _told_and_learnt(_model().eval())
    after, _ = _told_and_learnt(_trained(_model()))
    present = torch.from_numpy(np.concatenate([f.present for f in _features(20, 30)]))
    ratio = after[present].norm() / before[present].norm()
    assert ratio != pytest.approx(1.0, abs=0.01)
    assert torch.allclose(after[present], ratio * before[present], atol=1e-5)
    text = torch.from_numpy(np.concatenate([f.vectors for f in _features(20, 30)]))
    assert torch.allclose(before[present, :4], TEXT_SCALE * text[present, :4])


def test_summed_text_and_id_share_their_dimensions():
    told, learnt = _told_and_learnt(_trained(_model(SIZES.model_copy(update={"fusion": "sum"}))))
    assert (torch.cov(told.T) @ learnt.T).abs().max() > 1e-3


def test_the_text_has_its_share_of_the_dimensions_and_no_more_than_its_width():
    quarter = _model(SIZES.model_copy(update={"text_share": 0.25}))
    assert quarter.items.text_dim == 2
    narrow = _model(SIZES.model_copy(update={"text_share": 0.75}), width=3)
    assert narrow.items.text_dim == 3
    told, learnt = _told_and_learnt(narrow.eval())
    assert not told[:, 3:].any()
    assert not learnt[:, :3].any()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.use_text=false"], "needs both use_ids and use_text"),
        (["model.use_ids=false"], "needs both use_ids and use_text"),
        (["model.text_share=0.001"], "leaves no dimension to the text"),
        (["model.text_share=0.999"], "or none to the IDs"),
    ],
)
def test_a_null_space_needs_both_and_room_for_both(overrides, message):
    with pytest.raises(ConfigError, match=message):
        Config().override("model.fusion=null-space", *overrides)
