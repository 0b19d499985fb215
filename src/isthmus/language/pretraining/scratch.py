"""A language model from nothing: a tokenizer learnt from the texts, and a small BERT or GPT-2.

For a language that no model at hand reads, and for networks without a way out. The tokenizer is
WordPiece for BERT, which sets CJK characters apart, and byte-level BPE for GPT, which can write
anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.config import PretrainingConfig
from isthmus.language.models import quiet

_POOLING = {"pooling_mode_mean_tokens": True}
_ALPHABET = 1000  # characters that a WordPiece tokenizer tells apart


def write_scratch(
    folder: Path, texts: Sequence[str], config: PretrainingConfig, *, seed: int
) -> None:
    """Write a Hugging Face folder with random weights and a tokenizer learnt from `texts`.

    Args:
        folder: exists, empty.
        texts: distinct, in an order that is the same for the same texts.
        config: which of the two, and sizes.
        seed: of the weights.
    """
    import torch

    tokenizer = (_word_pieces if config.scratch == "bert" else _byte_pairs)(texts, config)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        _model(len(tokenizer), config).save_pretrained(folder)
    # Small models tell more by all their states than by the last.
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(_POOLING), "utf-8")


def _model(vocabulary: int, config: PretrainingConfig) -> Any:
    import transformers

    if config.scratch == "bert":
        return transformers.BertForMaskedLM(
            transformers.BertConfig(
                vocab_size=vocabulary,
                hidden_size=config.dim,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=4 * config.dim,
                max_position_embeddings=config.positions,
            )
        )
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=vocabulary,
            n_embd=config.dim,
            n_layer=config.layers,
            n_head=config.heads,
            n_positions=config.positions,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _word_pieces(texts: Sequence[str], config: PretrainingConfig) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet, within = _letters(tokenizer, texts)
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocabulary,
        # The trainer numbers letters within words as it meets them, in another order in every
        # process, and breaks ties by number; those that stand here have their numbers.
        special_tokens=[*special, *(f"##{letter}" for letter in within)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Pieces within words are special for the trainer alone.
    whole = Tokenizer(models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]"))
    whole.normalizer, whole.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    whole.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=whole,
        model_max_length=config.positions,
        **{f"{role}_token": token for role, token in names.items()},
    )


def _letters(tokenizer: Any, texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The `_ALPHABET` most frequent characters, and those of them that stand within words."""
    count: Counter[str] = Counter()
    within: set[str] = set()
    for text in texts:
        plain = tokenizer.normalizer.normalize_str(text)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(plain):
            count.update(word)
            within.update(word[1:])
    alphabet = sorted(sorted(count), key=count.__getitem__, reverse=True)[:_ALPHABET]
    return sorted(alphabet), sorted(within.intersection(alphabet))


def _byte_pairs(texts: Sequence[str], config: PretrainingConfig) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=config.vocabulary,
            special_tokens=[end],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # The end of one text is where the next begins, so the first token can be guessed as well.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{end} $A {end}", special_tokens=[(end, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=config.positions,
        bos_token=end,
        eos_token=end,
        pad_token=end,
    )
