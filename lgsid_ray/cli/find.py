"""The command `find`: the items that a text is nearest to, by the run's own encoder."""

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.cli.options import console, latest, tell
from lgsid_ray.config.encoder import EncoderConfig
from lgsid_ray.encoder.local import local_copy
from lgsid_ray.encoder.model import make_encoder
from lgsid_ray.encoder.prompts import query_prompts
from lgsid_ray.errors import StorageError
from lgsid_ray.evaluate.lookup import nearest
from lgsid_ray.execution.run import Manifest, Run, results

FIELDS = ["item_id", "name", "category_1", "category_2", *LEVELS]


def find_items(text: str, out: str, count: int) -> None:
    """Print the items whose embeddings are nearest to a text's.

    By the aligned encoder where the run has one; else fused, or reference embeddings and the reference encoder.

    Raises:
        StorageError: nothing is embedded.
    """
    run = latest(out)
    stage, result = _embedded(run)
    told = f"{stage}/{result.fingerprint}"
    model = run.home.child(f"align/{result.inputs['align']}/model") if stage == "embed_aligned" else None
    # What the embeddings were made with, which the configuration of a later run need not be.
    record = run.home.child(told).read_json("encoder.json")
    settings = EncoderConfig.model_validate(
        {name: record[name] for name in EncoderConfig.model_fields if name in record}
    )
    encoder = make_encoder(settings, local_copy(model) if model else None)
    [vector] = encoder.encode(query_prompts([text], settings.prompt))
    found, cosine = nearest(vector, Embeddings(run.home.child(told)), count)
    catalogue = Items(run.home.child(f"catalogue/{result.inputs['catalogue']}"))
    table = Table(
        "item_id", "name", "category", "place", box=SIMPLE_HEAD, title=f"{text}, by {told}", title_justify="left"
    )
    table.add_column("cosine", justify="right")
    for row, value in zip(catalogue.rows(found, FIELDS).to_pylist(), cosine.tolist(), strict=True):
        place = ", ".join(row[name] for name in reversed(LEVELS) if row[name])
        kind = row["category_2"] or row["category_1"] or ""
        table.add_row(*(Text(cell or "") for cell in (row["item_id"], row["name"], kind, place, f"{value:.3f}")))
    console.print(table)
    if model is None:
        tell("by the reference encoder, which this run has not aligned; align.enabled=true makes one that knows places")


def _embedded(run: Run) -> tuple[str, Manifest]:
    """The stage and latest result whose embeddings are searched."""
    for stage in ("embed_aligned", "fuse", "embed"):
        if found := results(run.home, stage):
            return stage, max(found, key=lambda one: one.finished)
    raise StorageError(f"{run.home.root} has no embeddings; run lgsid embed with --out {run.uri}")
