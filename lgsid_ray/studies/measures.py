"""Where a study's figures stand: `stage:path` into the stage's metrics.json.

`tokenise:relative_error` is a key, `frontier:frontier.held_place.gap_closed.aligned` a key within keys, and
`frontier:retrieval[space=aligned,group=all,k=5].district` the row of a list that has these values. `{tokenizer}` stands
for the name of the run's tokenizer, as in `rank:models.din/{tokenizer}.test.mean.auc`, and `{space}` for the embeddings
that it reads, `aligned`, `fused` or `origin`.
"""

import re
from collections.abc import Mapping
from typing import Any

_STEP = re.compile(r"([^.\[\]]+)(?:\[([^\]]*)\])?(?:\.|$)")


def measure(metrics: Mapping[str, Any], where: str) -> float | None:
    """The number at `where`, or None where there is none.

    Args:
        metrics: stage → its metrics.json.
    """
    stage, _, path = where.partition(":")
    node = metrics.get(stage)
    for name, condition in _STEP.findall(path):
        node = node.get(name) if isinstance(node, dict) else None
        if condition:
            node = _row(node, dict(pair.split("=", 1) for pair in condition.split(",")))
    return float(node) if isinstance(node, int | float) and not isinstance(node, bool) else None


def _row(rows: Any, wanted: Mapping[str, str]) -> Any:
    """The first row that has the wanted values; None where there is none."""
    rows = rows if isinstance(rows, list) else []
    return next((row for row in rows if all(str(row.get(key)) == value for key, value in wanted.items())), None)
