"""Users a second of beam search over SIDs, beside Hugging Face's `generate` with the same weights, trie and beams.

TIGER of random weights and a synthetic catalogue. The peer asks `prefix_allowed_tokens_fn` what may follow each beam,
a lookup in a dictionary that is made before the clock starts. Prints both rates, their ratio, and the share of users
whose lists are equal, item by item.

    python benchmarks/decode.py --items 100000 --users 256 --beams 20
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Trie
from lgsid_ray.config.recommend import TigerConfig
from lgsid_ray.recommend.generators import beam
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.tiger import Tiger, Written

BATCH = 128


class Peer(PreTrainedModel, GenerationMixin):
    """The same network as a causal language model: a SID's tokens are rows of TIGER's table, the last row begins."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, tiger: Tiger) -> None:
        super().__init__(PretrainedConfig(vocab_size=tiger.starts[-1] + 1, is_encoder_decoder=False))
        self.tiger = tiger
        self.generation_config.pad_token_id = tiger.starts[-1]

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor, **_: Any
    ) -> dict[str, Any]:
        return {"input_ids": input_ids, "memory": memory, "mask": mask}

    def forward(self, input_ids: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor, **_: Any) -> CausalLMOutput:
        level = input_ids.shape[1] - 1
        hidden = self.tiger._decoded(Written(memory, mask), input_ids)[:, -1:]
        logits = torch.full((len(input_ids), 1, self.config.vocab_size), -torch.inf)
        logits[..., self.tiger.starts[level] : self.tiger.starts[level + 1]] = self.tiger._logits(hidden, level)
        return CausalLMOutput(logits=logits)


def children(tokens: Int64, starts: list[int]) -> dict[tuple[int, ...], list[int]]:
    """Rows of the token table that may follow each prefix of such rows."""
    rows = tokens + np.array(starts[:-1])
    found: dict[tuple[int, ...], set[int]] = {}
    for sid in rows.tolist():
        for length in range(len(sid)):
            found.setdefault(tuple(sid[:length]), set()).add(sid[length])
    return {prefix: sorted(after) for prefix, after in found.items()}


@torch.no_grad()
def main() -> None:
    """Decode the same histories both ways."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 256, 256])
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--history", type=int, default=20)
    parser.add_argument("--beams", type=int, default=20)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    codes = rng.choice(int(np.prod(args.sizes)), args.items, replace=False)
    tokens = np.stack(np.unravel_index(codes, args.sizes), axis=1)
    torch.manual_seed(0)
    model = Tiger(tokens, args.history, TigerConfig(layers=2)).eval()
    torch.nn.init.normal_(model.output.weight, std=0.5)  # no two beams alike
    trie, allowed, peer = Trie.build(tokens), children(tokens, model.starts), Peer(model).eval()
    history = torch.from_numpy(rng.integers(0, args.items, (args.users, args.history)))
    item = {tuple(row): number for number, row in enumerate((tokens + np.array(model.starts[:-1])).tolist())}

    def ours(some: torch.Tensor) -> Int64:
        return beam.search(model, GenerateBatch(history=some), trie, args.beams)[0]

    def theirs(some: torch.Tensor) -> Int64:
        state = model.start(GenerateBatch(history=some))
        written = peer.generate(
            torch.full((len(some), 1), model.starts[-1]),
            memory=state.memory,
            mask=state.mask,
            num_beams=args.beams,
            num_return_sequences=args.beams,
            max_new_tokens=model.levels,
            do_sample=False,
            use_cache=False,
            length_penalty=0.0,
            prefix_allowed_tokens_fn=lambda _, sid: allowed[tuple(sid[1:].tolist())],
        )
        found = [item[tuple(sid)] for sid in written[:, 1:].tolist()]
        return np.array(found).reshape(len(some), args.beams)

    lists, rates = [], []
    for name, decode in (("lgsid_ray", ours), ("transformers generate", theirs)):
        decode(history[:2])
        begun = time.perf_counter()
        lists.append(np.concatenate([decode(some) for some in history.split(BATCH)]))
        rates.append(args.users / (time.perf_counter() - begun))
        print(f"{name:>22}: {rates[-1]:8.1f} users a second", flush=True)
    same = (lists[0] == lists[1]).all(axis=1).mean()
    print(f"ratio {rates[0] / rates[1]:.1f}, equal lists {same:.3f}")


if __name__ == "__main__":
    main()
