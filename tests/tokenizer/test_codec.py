"""The text form of a SID: round trips, known answers, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.tokenizer.codec import parse_sid, sid_text, sid_tokens

TOKENS = st.lists(st.integers(0, 10**6), min_size=1, max_size=8)


@given(TOKENS, st.integers(0, 10**6))
def test_a_sids_text_reads_back(tokens: list[int], collision: int) -> None:
    assert parse_sid(sid_text(tokens, collision)) == (tuple(tokens), collision)


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


def test_parts_of_sids_become_single_tokens_of_a_language_model_that_is_saved_and_loaded(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "next": 1, "a": 2, "visit": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    parts = sid_tokens([4, 3, 2], ranks=2)
    assert vocabulary.add_tokens(parts) == len(parts) == 4 + 3 + 2 + 2
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=4, n_embd=8, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    )
    model.resize_token_embeddings(len(vocabulary))
    vocabulary.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    again, network = AutoTokenizer.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    sids = [sid_text([3, 0, 1]), sid_text([0, 2, 0], 2)]
    ids = again(f"visit {sids[0]} next {sids[1]}")["input_ids"]
    assert len(ids) == 1 + 3 + 1 + 4
    assert again.decode(ids[1:4]).replace(" ", "") == sids[0]
    assert parse_sid(again.decode(ids[5:]).replace(" ", "")) == ((0, 2, 0), 2)
    assert again.convert_ids_to_tokens(ids[1:4]) == ["<a_3>", "<b_0>", "<c_1>"]
    logits = network(torch.tensor([ids])).logits
    assert logits.shape == (1, len(ids), len(again))
    torch.testing.assert_close(logits, model.eval()(torch.tensor([ids])).logits)
