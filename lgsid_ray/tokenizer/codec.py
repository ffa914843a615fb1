"""The text form of a SID, and the tokens that it adds to a language model's vocabulary."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import AnyInt

_LETTERS = "abcdefgh"
_COLLISION = "x"
_PART = re.compile(r"<([a-z])_(\d+)>")


def sid_text(tokens: Sequence[int], collision: int = 0) -> str:
    """`<a_12><b_3><c_7>`, with `<x_1>` behind it for a collision rank above 0.

    Raises:
        ValueError: more levels than letters.
    """
    _require_letters(len(tokens))
    text = "".join(f"<{letter}_{token}>" for letter, token in zip(_LETTERS, tokens, strict=False))
    return f"{text}<{_COLLISION}_{collision}>" if collision else text


def sid_texts(tokens: AnyInt, ranks: AnyInt) -> pa.Array:
    """(n,) the text forms of (n, L) tokens with (n,) collision ranks, as `sid_text` of each row.

    Raises:
        ValueError: more levels than letters.
    """
    _require_letters(tokens.shape[1])
    parts = [part for letter, column in zip(_LETTERS, tokens.T, strict=False) for part in (f"<{letter}_", column, ">")]
    text = _joined(*parts)
    return pc.if_else(pa.array(ranks > 0), _joined(text, f"<{_COLLISION}_", ranks, ">"), text)


def sid_tokens(sizes: Sequence[int], ranks: int = 0) -> list[str]:
    """Every part of a SID's text form: what a language model's vocabulary is to be extended by.

    Args:
        sizes: codes per level (`Tokenizer.sizes`). ranks: the largest collision rank; 0 where SIDs are unique.

    Raises:
        ValueError: more levels than letters.
    """
    _require_letters(len(sizes))
    codes = [f"<{letter}_{code}>" for letter, size in zip(_LETTERS, sizes, strict=False) for code in range(size)]
    return codes + [f"<{_COLLISION}_{rank}>" for rank in range(1, ranks + 1)]


def parse_sid(text: str) -> tuple[tuple[int, ...], int]:
    """(tokens, collision rank) of a SID's text form.

    Raises:
        ValueError: the text is no SID.
    """
    parts = _PART.findall(text)
    tokens = [int(number) for letter, number in parts if letter != _COLLISION]
    collision = int(parts[-1][1]) if parts and parts[-1][0] == _COLLISION else 0
    if not tokens or sid_text(tokens, collision) != text:
        raise ValueError(f"{text!r} is not a SID such as <a_12><b_3><c_7> or <a_12><b_3><c_7><x_1>")
    return tuple(tokens), collision


def is_sid(text: str) -> bool:
    """Whether it is the text form of a SID, or of a prefix."""
    try:
        parse_sid(text)
    except ValueError:
        return False
    return True


def _joined(*parts: str | AnyInt | pa.Array) -> pa.Array:
    columns = [pa.array(part).cast(pa.string()) if isinstance(part, np.ndarray) else part for part in parts]
    return pc.binary_join_element_wise(*columns, "")


def _require_letters(levels: int) -> None:
    if levels > len(_LETTERS):
        raise ValueError(f"a SID of {levels} levels has no text form; at most {len(_LETTERS)} have one")
