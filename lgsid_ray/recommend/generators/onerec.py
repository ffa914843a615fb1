"""OneRec (Deng et al., arXiv 2502.18965): sparse mixtures of experts in the decoder, which writes a whole session.

Its preference stage, DPO on beams, is not here.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.arrays import Int64
from lgsid_ray.config.recommend import OneRecConfig
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.layers import DecoderBlock, feed_forward
from lgsid_ray.recommend.generators.sequences import SESSION
from lgsid_ray.recommend.generators.tiger import Tiger
from lgsid_ray.recommend.panel import Losses

TOP = 2
"""Experts that a position is sent to."""


class Experts(nn.Module):
    """A feed-forward layer shared out: each position goes through the TOP of its experts that its gate prefers.

    The gate's weights are those of a softmax over all experts, and are not renormalised over the chosen.
    """

    def __init__(self, dimension: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dimension, experts, bias=False)
        self.experts = nn.ModuleList(feed_forward(dimension) for _ in range(experts))
        self.balance = torch.zeros(())
        """Of the latest pass: experts · Σ share of positions · mean gate (Fedus et al., 2022, Eq 4); 1 where even."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) → (…, d)."""
        flat = x.flatten(0, -2)
        gate = self.gate(flat).softmax(dim=-1)
        weight, chosen = gate.topk(TOP, dim=-1)
        mixed = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            row, place = torch.nonzero(chosen == number, as_tuple=True)
            mixed = mixed.index_add(0, row, expert(flat[row]) * weight[row, place, None])
        share = F.one_hot(chosen, len(self.experts)).to(flat.dtype).mean(dim=(0, 1))
        self.balance = len(self.experts) * (share * gate.mean(dim=0)).sum()
        return mixed.view_as(x)


class OneRec(Tiger):
    """p(SIDs of the next items of a session | SIDs of the history); what is judged is the first of them.

    Args:
        tokens: (n, L) tokens of every item, unique per row.
        history: longest history in items.
    """

    needs: ClassVar = frozenset({"history", "session"})

    def __init__(self, tokens: Int64, history: int, config: OneRecConfig) -> None:
        super().__init__(tokens, history, config)
        self.decoder = nn.ModuleList(
            DecoderBlock(config.dimension, config.heads, config.dropout, Experts(config.dimension, config.experts))
            for _ in range(config.layers)
        )
        self.place = nn.Embedding(SESSION * (self.levels + 1), config.dimension)  # each item: its beginning, its tokens
        nn.init.normal_(self.place.weight, std=0.02)
        self.even = config.balance

    def losses(self, batch: GenerateBatch) -> Losses:
        """`token`: mean `−log p` over the tokens of all sessions, in nats; `balance`: how uneven the experts are."""
        state, real = self.start(batch), batch.session >= 0
        wanted = self.tokens[batch.session.clamp(min=0)]
        begin = torch.full_like(wanted[..., :1], self.starts[-1])
        rows = torch.cat([begin, wanted + self.offsets], dim=-1).flatten(1)
        hidden = self._decoded(state, rows)
        hidden = hidden.view(*wanted.shape[:2], self.levels + 1, -1)[real]
        parts = [
            F.cross_entropy(self._logits(hidden[:, level], level), wanted[real][:, level])
            for level in range(self.levels)
        ]
        uneven = torch.stack([module.balance for module in self.modules() if isinstance(module, Experts)])
        return {"token": torch.stack(parts).mean(), "balance": self.even * uneven.mean()}

    def _places(self) -> Tensor:
        return self.place.weight
