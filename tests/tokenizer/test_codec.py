"""The text form of a SID, and its parts in a language model's vocabulary: round trips, known answers, refusals."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from lgsid_ray.tokenizer.codec import is_sid, parse_sid, sid_text, sid_texts, sid_tokens

TOKENS = st.lists(st.integers(0, 10**6), min_size=1, max_size=8)


@given(TOKENS, st.integers(0, 10**6))
def test_a_sids_text_reads_back(tokens: list[int], collision: int) -> None:
    assert parse_sid(sid_text(tokens, collision)) == (tuple(tokens), collision)


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, 10**6)] * (n + 1)), max_size=9)))
def test_the_texts_of_many_are_those_of_each(rows: list[tuple[int, ...]]) -> None:
    table = np.array(rows, np.int32).reshape(len(rows), -1 if rows else 2)
    tokens, ranks = table[:, :-1], table[:, -1] % 3
    expected = [sid_text(row, rank) for row, rank in zip(tokens.tolist(), ranks.tolist(), strict=True)]
    assert sid_texts(tokens, ranks).to_pylist() == expected


def test_a_sids_text_on_known_answers() -> None:
    assert sid_text([12, 3, 7]) == "<a_12><b_3><c_7>"
    assert sid_text([12, 3, 7], 1) == "<a_12><b_3><c_7><x_1>"
    assert sid_text(np.array([0], np.int32), np.int32(2)) == "<a_0><x_2>"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a_1",
        "<a_1",
        "<a_1> <b_2>",
        "<a_1><b_2>\n",
        "<b_1><a_2>",
        "<a_1><a_2>",
        "<a_1><c_2>",
        "<a_01>",
        "<a_-1>",
        "<a_>",
        "<a_१>",
        "<A_1>",
        "<x_1>",
        "<a_1><x_0>",
        "<x_1><a_1>",
        "<a_1><x_1><b_2>",
        "<a_1><x_1><x_2>",
        "<a_1><i_2>",
        "SID <a_1>",
    ],
)
def test_what_is_no_sid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a SID such as"):
        parse_sid(text)
    assert not is_sid(text)


@given(st.text(alphabet="<>abx_012", max_size=16))
def test_whatever_reads_as_a_sid_is_its_text(text: str) -> None:
    try:
        tokens, collision = parse_sid(text)
    except ValueError:
        return
    assert sid_text(tokens, collision) == text


def test_more_levels_than_letters_are_refused_not_cut_short() -> None:
    with pytest.raises(ValueError, match="9 levels"):
        sid_text(range(9))
    with pytest.raises(ValueError, match="9 levels"):
        sid_tokens([2] * 9)


def test_the_parts_are_those_that_texts_consist_of() -> None:
    parts = sid_tokens([3, 2], ranks=2)
    assert parts == ["<a_0>", "<a_1>", "<a_2>", "<b_0>", "<b_1>", "<x_1>", "<x_2>"]
    assert sid_tokens([3, 2]) == parts[:-2]
    texts = [sid_text([a, b], rank) for a in range(3) for b in range(2) for rank in range(3)]
    assert {part for text in texts for part in re.findall("<.*?>", text)} == set(parts)


def _bytes() -> PreTrainedTokenizerBase:
    """Of bytes, as those of GPT-2, Llama 3 and Qwen are."""
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = tokenizers.Tokenizer(models.BPE(alphabet, []))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=words)


def _pieces() -> PreTrainedTokenizerBase:
    """Of pieces whose first letter tells a space, as those of T5 and Llama 2 are."""
    letters = ["<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz,.<>_0123456789"]
    words = tokenizers.Tokenizer(models.Unigram([(letter, -1.0) for letter in letters], unk_id=0))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")


@pytest.mark.parametrize("vocabulary", [_bytes, _pieces])
def test_sids_in_a_text_survive_a_language_model_that_is_saved_and_loaded(
    vocabulary: Callable[[], PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    made, parts = vocabulary(), sid_tokens([4, 3, 2], ranks=2)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(made), n_embd=8, n_layer=2, n_head=2, n_positions=64)
    model = GPT2LMHeadModel(config).eval()
    assert made.add_tokens(parts) == len(parts) == 4 + 3 + 2 + 2
    model.resize_token_embeddings(len(made))
    made.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    again, network = AutoTokenizer.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.convert_tokens_to_ids(parts) == list(range(config.vocab_size - len(parts), config.vocab_size))
    sids = [((3, 0, 1), 0), ((0, 2, 0), 2), ((0, 0, 0), 0)]
    texts = [sid_text(tokens, rank) for tokens, rank in sids]
    for text, (tokens, rank) in zip(texts, sids, strict=True):
        ids = again(text, add_special_tokens=False)["input_ids"]
        assert again.convert_ids_to_tokens(ids) == re.findall("<.*?>", text)
        assert parse_sid(again.decode(ids)) == (tokens, rank)
    told = f"after {texts[0]} and {texts[1]}{texts[2]}, a visit to"
    ids = torch.tensor(again(told, add_special_tokens=False)["input_ids"])
    assert again.decode(ids) == told
    with torch.no_grad():
        logits = network(ids[None]).logits
        assert logits.shape == (1, len(ids), len(again))
        torch.testing.assert_close(logits, model(ids[None]).logits)
