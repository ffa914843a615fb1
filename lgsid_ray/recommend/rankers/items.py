"""How an item enters a ranker: its ID embedding, and one embedding per SID level, or prefix, behind it."""

import numpy as np
import torch
from torch import Tensor, nn

from lgsid_ray.arrays import Int64

INITIAL_STD = 0.4
"""Of the embeddings. Attention sees products of them: from small ones it takes an epoch to notice a repeated item."""


class ItemEmbedding(nn.Module):
    """`[e_id(i), e_1(z_1), …, e_L(z_L)]`; without tokens the ID embedding alone ("Origin").

    Args:
        items: size of the catalogue.
        dimension: of each table.
        tokens: (items, L) SID tokens of every item, or None.
    """

    tokens: Tensor

    def __init__(self, items: int, dimension: int, tokens: Int64 | None) -> None:
        super().__init__()
        self.by_id = nn.Embedding(items, dimension)
        table = np.zeros((items, 0), dtype=np.int64) if tokens is None else tokens
        self.register_buffer("tokens", torch.from_numpy(np.ascontiguousarray(table)), persistent=False)
        self.by_level = nn.ModuleList(nn.Embedding(int(level.max()) + 1, dimension) for level in table.T)
        for module in [self.by_id, *self.by_level]:
            nn.init.normal_(module.weight, std=INITIAL_STD)
        self.width = dimension * (1 + table.shape[1])

    def __len__(self) -> int:
        return len(self.tokens)

    def forward(self, item: Tensor) -> Tensor:
        """(…) item_index → (…, width)."""
        token = self.tokens[item]
        levels = [table(token[..., level]) for level, table in enumerate(self.by_level)]
        return torch.cat([self.by_id(item), *levels], dim=-1)
