"""How an item enters a ranker: its ID embedding, and one embedding per SID level, or prefix, behind it."""

import numpy as np
import torch
from torch import Tensor, nn

from lgsid_ray.arrays import Bool, Int64
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.facts import FACTS

INITIAL_STD = 0.1
"""Of the embeddings: what facts tell is not to be drowned by what nothing has been learned of yet."""


class ItemEmbedding(nn.Module):
    """`[e_id(i), e_1(z_1), …, e_L(z_L)]`; without tokens the ID embedding alone ("Origin").

    Rare items share one ID embedding, the last; the table has rows for the others alone, so its size is that of what
    the log knows well and not that of the catalogue. While training, it is put in the place of any item's at times
    (after DropoutNet, Volkovs et al., NeurIPS 2017), so that it learns what holds of items of which nothing is known,
    and the rest of the model not to lean on IDs.

    Args:
        items: size of the catalogue.
        dimension: of each table.
        tokens: (items, L) SID tokens of every item, or None.
        rare: (items,) which are rare, or None for none.
        dropout: how often an ID is taken for a rare one's.
        alike: where the numbers of these SIDs stand in `RankBatch.alike`, or None.
    """

    tokens: Tensor
    row: Tensor

    def __init__(
        self,
        items: int,
        dimension: int,
        tokens: Int64 | None,
        rare: Bool | None = None,
        dropout: float = 0.0,
        alike: slice | None = None,
    ) -> None:
        super().__init__()
        known = np.ones(items, bool) if rare is None else ~rare
        count = int(known.sum())
        self.by_id = nn.Embedding(count + 1, dimension)
        self.dropout = dropout
        self.register_buffer("row", torch.from_numpy(np.where(known, known.cumsum() - 1, count).astype(np.int32)))
        table = np.zeros((items, 0), dtype=np.int64) if tokens is None else tokens
        self.register_buffer("tokens", torch.from_numpy(np.ascontiguousarray(table)), persistent=False)
        self.by_level = nn.ModuleList(nn.Embedding(int(level.max()) + 1, dimension) for level in table.T)
        for module in [self.by_id, *self.by_level]:
            nn.init.normal_(module.weight, std=INITIAL_STD)
        self.width = dimension * (1 + table.shape[1])
        self._alike = alike or slice(0, 0)
        self.told_width = len(FACTS) + self._alike.stop - self._alike.start

    def told(self, batch: RankBatch) -> Tensor:
        """(b, told_width) what is known of samples in numbers: facts, and with SIDs how they match and follow."""
        return torch.cat([batch.facts, batch.alike[:, self._alike]], dim=-1)

    def __len__(self) -> int:
        return len(self.tokens)

    def forward(self, item: Tensor) -> Tensor:
        """(…) item_index → (…, width)."""
        token, row = self.tokens[item], self.row[item]
        if self.training and self.dropout:
            row = row.masked_fill(torch.rand(item.shape, device=item.device) < self.dropout, len(self.by_id.weight) - 1)
        own = self.by_id(row)
        levels = [table(token[..., level]) for level, table in enumerate(self.by_level)]
        return torch.cat([own, *levels], dim=-1) if levels else own
