"""Token batches: every text once, bounded, of like length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.language.models import load_tokenizer
from isthmus.language.tokens import Tokens, length_batches, tokenize, with_rest


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=200),
    batch_tokens=st.integers(1, 512),
)
def test_batches_hold_every_text_once_within_the_bound(lengths, batch_tokens):
    lengths = np.array(lengths)
    batches = list(length_batches(lengths, batch_tokens))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= batch_tokens
    longest = [lengths[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_padding_is_on_the_right_and_masked():
    tokens = Tokens(
        ids=np.array([7, 8, 9, 5], np.int32),
        offsets=np.array([0, 3, 4]),
        truncated=np.zeros(2, bool),
        padding=1,
    )
    ids, mask = tokens.padded(np.array([1, 0]))
    assert ids.tolist() == [[5, 1, 1], [7, 8, 9]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_only_cut_texts_count_as_truncated_and_keep_their_last_special_token(bert):
    tokenizer = load_tokenizer(bert)
    whole = "coffee " * 6  # six tokens and two special ones
    tokens = tokenize(tokenizer, [whole, whole + "coffee", ""], max_tokens=8)
    assert tokens.truncated.tolist() == [False, True, False]
    assert tokens.lengths.tolist() == [8, 8, 2]
    assert tokens.ids[tokens.offsets[1:] - 1].tolist() == [tokenizer.sep_token_id] * 3


def test_a_text_without_tokens_becomes_one_stand_in_for_padding(gpt2):
    tokenizer = load_tokenizer(gpt2)
    assert tokenizer.pad_token_id is None
    tokens = tokenize(tokenizer, ["", "coffee"], max_tokens=8)
    assert tokens.lengths[0] == 1
    assert tokens.ids[0] == tokens.padding == tokenizer.eos_token_id


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_windows_hold_every_token_of_every_text_once(model, request):
    tokenizer = load_tokenizer(request.getfixturevalue(model))
    texts = ["coffee", "dark roast espresso " * 9, "burr grinder", "", "star chart " * 21 + "night"]
    cut = tokenize(tokenizer, texts, 10)
    found = with_rest(tokenizer, texts, cut)
    special = [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]
    windows = np.split(found.ids, found.offsets[1:-1])
    last = np.flatnonzero(~found.truncated)
    assert len(last) == len(texts)
    for text, start, stop in zip(texts, [0, *(last[:-1] + 1)], last + 1, strict=True):
        own = np.concatenate(windows[start:stop])
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert own[~np.isin(own, special)].tolist() == whole
        assert all(len(window) == 10 for window in windows[start : stop - 1])
    if model == "bert":
        assert {window[0] for window in windows} == {tokenizer.cls_token_id}
        assert {window[-1] for window in windows} == {tokenizer.sep_token_id}
    assert found.lengths.max() == 10
    # Where nothing is cut nothing changes.
    short = tokenize(tokenizer, texts[:1], 10)
    assert with_rest(tokenizer, texts[:1], short).ids.tolist() == short.ids.tolist()
