"""The text form of a SID: round trips, known answers, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.tokenizer.codec import parse_sid, sid_text

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
