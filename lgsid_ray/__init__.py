"""Geographic semantic IDs for local-life recommendation, on Ray (after LGSID, arXiv 2511.14221)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lgsid_ray.artifacts.fusion import Fusion
    from lgsid_ray.artifacts.keys import pack_sids, unpack_sids
    from lgsid_ray.catalog.settle import complete as complete_items
    from lgsid_ray.encoder.fuse import embed_fused
    from lgsid_ray.encoder.model import TextEncoder as Encoder
    from lgsid_ray.tokenizer.codec import parse_sid, sid_text, sid_tokens
    from lgsid_ray.tokenizer.tokenizer import Tokenizer

__version__ = "0.1.0"
__all__ = [
    "Encoder",
    "Fusion",
    "Tokenizer",
    "complete_items",
    "embed_fused",
    "pack_sids",
    "parse_sid",
    "sid_text",
    "sid_tokens",
    "unpack_sids",
]

_PUBLIC = {
    "Encoder": "encoder.model:TextEncoder",
    "Fusion": "artifacts.fusion:Fusion",
    "Tokenizer": "tokenizer.tokenizer:Tokenizer",
    "complete_items": "catalog.settle:complete",
    "embed_fused": "encoder.fuse:embed_fused",
    "pack_sids": "artifacts.keys:pack_sids",
    "parse_sid": "tokenizer.codec:parse_sid",
    "sid_text": "tokenizer.codec:sid_text",
    "sid_tokens": "tokenizer.codec:sid_tokens",
    "unpack_sids": "artifacts.keys:unpack_sids",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the bare package loads neither torch nor Ray."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, public = _PUBLIC[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), public)
