"""Pointers and a decoder: one distribution over what a history suggests and over every SID that there is.

Copying and generating compete in one softmax, as in CopyNet (Gu et al., ACL 2016) and pointer-generator networks (See
et al., ACL 2017): each candidate has a weight of its own, and writing has one, which a decoder over the trie of SIDs
shares out among all items. The chance of a prefix is what stands behind it in sum, so a beam search decodes the mixture
level by level as it would a decoder alone, and with as many beams as items it gives exactly log P(item).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts.keys import prefix_numbers
from lgsid_ray.config.recommend import PointerConfig
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.candidates import ABOUT, CONTEXT, SOURCES, Suggested
from lgsid_ray.recommend.panel import Losses


@dataclass(frozen=True)
class Pointed:
    """What is behind each of k prefixes: of the candidates, and of what the decoder writes."""

    user: Tensor
    """(b, d)."""
    weight: Tensor
    """(b, m) P(candidate)."""
    tokens: Tensor
    """(b, m, L) of the candidates."""
    level: int
    """Tokens written so far; -1 before the beginning."""
    behind: Tensor
    """(b, k, m) whether a candidate's SID begins with the prefix."""
    written: Tensor
    """(b, k) log P(the decoder writes the prefix), and that it writes at all."""
    ahead: Tensor
    """(b, k, size) log P(the decoder's next token | prefix); -inf where the trie has none."""
    prefix: Tensor
    """(b, k, d) sum of the prefix's embeddings."""
    node: Tensor
    """(b, k) number of the prefix among those of its length."""

    def take(self, parent: Tensor) -> "Pointed":
        """Go on from some of the beams: (b, k) places among the beams of each history."""

        def taken(x: Tensor) -> Tensor:
            return x.gather(1, parent.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

        return replace(
            self,
            behind=taken(self.behind),
            written=self.written.gather(1, parent),
            ahead=taken(self.ahead),
            prefix=taken(self.prefix),
            node=self.node.gather(1, parent),
        )


class Pointer(nn.Module):
    """P(next item | history) = Σ P(candidate), over the candidates that are it, + P(writing) · P(its SID is written).

    Args:
        tokens: (n, L) tokens of every item, unique per row: the SID levels and, where items collide, the rank.
        history: longest history in items; each is one vector, the sum of its tokens'.
    """

    needs: ClassVar = frozenset({"history", "target", "suggested"})
    tokens: Tensor
    offsets: Tensor

    def __init__(self, tokens: Int64, history: int, config: PointerConfig) -> None:
        super().__init__()
        wide, hidden, facts = config.dimension, config.hidden, len(ABOUT) + len(SOURCES)
        self.sizes = [int(level.max()) + 1 for level in tokens.T]
        self.levels = len(self.sizes)
        self.starts = np.cumsum([0, *self.sizes]).tolist()
        self.register_buffer("tokens", torch.as_tensor(tokens, dtype=torch.int64), persistent=False)
        self.register_buffer("offsets", torch.tensor(self.starts[:-1]), persistent=False)
        for level, ways in enumerate(_ways(tokens, self.sizes)):
            self.register_buffer(f"ways{level}", torch.from_numpy(ways), persistent=False)
        self.token, self.prefix = nn.Embedding(self.starts[-1], wide), nn.Embedding(self.starts[-1], wide)
        self.recency, self.level = nn.Embedding(history, wide), nn.Embedding(self.levels, wide)
        for table in (self.token, self.prefix, self.recency, self.level):
            nn.init.normal_(table.weight, std=0.05)
        self.norm, self.context = nn.LayerNorm(wide), nn.Linear(len(CONTEXT), wide)
        self.user = _layers(3 * wide, 2 * wide, wide, config.dropout)
        self.facts = nn.Sequential(nn.Linear(facts, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.worth, self.source, self.writing = nn.Linear(hidden, 1), nn.Linear(wide, len(SOURCES)), nn.Linear(wide, 1)
        self.wanted, self.offered = nn.Linear(wide, wide), nn.Linear(wide, wide)
        self.decoder = _layers(2 * wide, 2 * wide, wide, config.dropout)
        self.output = nn.Linear(wide, self.starts[-1])
        self.share = nn.ParameterList(nn.Parameter(torch.zeros(len(ways))) for ways in self._ways)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.worth.weight)  # all candidates alike at first

    def losses(self, batch: GenerateBatch) -> Losses:
        """`item`: mean over the batch of `−log P(target | history)`, in nats."""
        user = self._user(batch)
        pointed, writes = self._weigh(batch.suggested, user)
        found = batch.suggested.item == batch.target[:, None]
        log_chance = torch.cat(
            [pointed.masked_fill(~found, -torch.inf), writes[:, None] + self._log_sid(user, batch)], 1
        )
        return {"item": -log_chance.logsumexp(dim=1).mean()}

    def start(self, batch: GenerateBatch) -> Pointed:
        """Weigh the candidates; nothing is written yet."""
        user = self._user(batch)
        pointed, writes = self._weigh(batch.suggested, user)
        once = user.new_zeros(len(user), 1)
        return Pointed(
            user=user,
            weight=pointed.exp(),
            tokens=self.tokens[batch.suggested.item.clamp(min=0)],
            level=-1,
            behind=torch.ones_like(pointed, dtype=torch.bool).unsqueeze(1),
            written=writes.unsqueeze(1),
            ahead=once.unsqueeze(1),
            prefix=torch.zeros_like(user).unsqueeze(1),
            node=once.long(),
        )

    def advance(self, state: Pointed, token: Tensor) -> tuple[Tensor, Pointed]:
        """Write (b, k) tokens, the first BEGIN everywhere → (b, k, size of the next level) log P(prefix and token)."""
        beams = token.shape[1]
        if state.level < 0:
            state = replace(state, level=0).take(torch.zeros_like(token))
        else:
            level = state.level
            way = self._way(state.node, token, level)
            state = replace(
                state,
                level=level + 1,
                behind=state.behind & (state.tokens[:, None, :, level] == token.unsqueeze(-1)),
                written=state.written + state.ahead.gather(2, token.unsqueeze(-1)).squeeze(-1),
                prefix=state.prefix + self.prefix(token + self.offsets[level]),
                node=way.clamp(max=len(self._ways[level]) - 1),
            )
        user = state.user.unsqueeze(1).expand(-1, beams, -1)
        state = replace(state, ahead=self._ahead(user, state.prefix, state.node, state.level))
        weight = torch.where(state.behind, state.weight.unsqueeze(1), 0.0)
        chosen = state.tokens[:, None, :, state.level].expand_as(weight)
        pointed = torch.zeros_like(state.ahead).scatter_add_(2, chosen, weight)
        return torch.logaddexp(pointed.log(), state.written.unsqueeze(-1) + state.ahead), state

    def _user(self, batch: GenerateBatch) -> Tensor:
        """(b, d) of the last item, of all on average, and of what else is known of the history."""
        length = int((batch.history >= 0).sum(dim=1).max())
        history = batch.history[:, :length]
        mask = (history >= 0).unsqueeze(-1)
        x = self.norm(self.dropout(self._vectors(history) + self.recency.weight[:length]))
        mean = (x * mask).sum(dim=1) / mask.sum(dim=1)
        user: Tensor = self.user(torch.cat([x[:, 0], mean, self.context(batch.suggested.context)], dim=-1))
        return user

    def _vectors(self, items: Tensor) -> Tensor:
        """(…, d) the sum of the items' tokens."""
        return self.token(self.tokens[items.clamp(min=0)] + self.offsets).sum(dim=-2)

    def _weigh(self, suggested: Suggested[Tensor], user: Tensor) -> tuple[Tensor, Tensor]:
        """(b, m) log P(candidate), -inf where there is none, and (b,) log P(writing)."""
        source = F.one_hot(suggested.source, len(SOURCES)).to(user.dtype).expand(*suggested.item.shape, -1)
        weight = self.worth(self.facts(torch.cat([suggested.about, source], dim=-1))).squeeze(-1)
        weight = weight + self.source(user)[:, suggested.source]
        weight = weight + self._taste(suggested.item, user)
        weight = weight.masked_fill(suggested.item < 0, -torch.inf)
        log_chance = torch.cat([weight, self.writing(user)], dim=1).log_softmax(dim=1)
        return log_chance[:, :-1], log_chance[:, -1]

    def _taste(self, item: Tensor, user: Tensor) -> Tensor:
        """(b, m) the user's vector times each item's, which is linear in its tokens: those are all weighed once."""
        wanted = self.wanted(user) / self.wanted.out_features**0.5
        each = F.linear(wanted, self.offered(self.token.weight))
        rows = (self.tokens[item.clamp(min=0)] + self.offsets).flatten(1)
        return each.gather(1, rows).view(*item.shape, self.levels).sum(dim=-1)

    def _log_sid(self, user: Tensor, batch: GenerateBatch) -> Tensor:
        """(b, 1) log P(the target's SID | it is written)."""
        wanted = self.tokens[batch.target]
        prefix, node = torch.zeros_like(user), torch.zeros_like(batch.target)
        total = user.new_zeros(len(user), 1)
        for level in range(self.levels):
            token = wanted[:, level : level + 1]
            total = total + self._ahead(user, prefix, node, level).gather(1, token)
            prefix = prefix + self.prefix(token[:, 0] + self.offsets[level])
            node = self._way(node, token[:, 0], level)
        return total

    def _ahead(self, user: Tensor, prefix: Tensor, node: Tensor, level: int) -> Tensor:
        """(…, size) log P(token | prefix), over what the trie allows."""
        hidden = self.decoder(torch.cat([user, prefix + self.level.weight[level]], dim=-1))
        span = slice(self.starts[level], self.starts[level + 1])
        ways, tokens = self._ways[level], torch.arange(self.sizes[level], device=node.device)
        way = self._way(node.unsqueeze(-1), tokens, level).clamp(max=len(ways) - 1)
        real = ways[way] == node.unsqueeze(-1) * self.sizes[level] + tokens
        logits = F.linear(hidden, self.output.weight[span], self.output.bias[span]) + self.share[level][way]
        # A beam that is no prefix of any SID has no way at all, and counts for nothing.
        lowest = torch.finfo(logits.dtype).min
        return logits.masked_fill(~real, lowest).log_softmax(dim=-1).masked_fill(~real, -torch.inf)

    def _way(self, node: Tensor, token: Tensor, level: int) -> Tensor:
        """The number of the prefix that a token makes of each prefix; past the last where there is none."""
        return torch.searchsorted(self._ways[level], (node * self.sizes[level] + token).contiguous())

    @property
    def _ways(self) -> list[Tensor]:
        return [self.get_buffer(f"ways{level}") for level in range(self.levels)]


def _ways(tokens: Int64, sizes: list[int]) -> list[Int64]:
    """Of every level, ascending: number of the shorter prefix · size + token, one for each prefix of that length."""
    numbers = prefix_numbers(tokens)
    before = np.column_stack([np.zeros(len(tokens), dtype=np.int64), numbers[:, :-1]])
    return [np.unique(before[:, level] * size + tokens[:, level]) for level, size in enumerate(sizes)]


def _layers(wide: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out))
