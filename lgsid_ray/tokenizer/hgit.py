"""The hierarchical tokenizer: level 1 says where, by composite features; learnt residual levels say what (Eq 9-16)."""

from lgsid_ray.config.tokenizer import HgitConfig
from lgsid_ray.tokenizer.clustering import kmeans, member_means
from lgsid_ray.tokenizer.features import Transform
from lgsid_ray.tokenizer.fit import History, even_levels, residual_levels, train_levels
from lgsid_ray.tokenizer.levels import Level, on_embeddings
from lgsid_ray.tokenizer.shard import Shards, View
from lgsid_ray.tokenizer.tokenizer import Tokenizer


def fit(shards: Shards, config: HgitConfig, seed: int) -> tuple[Tokenizer, History]:
    """The tokenizer of the shards' items, and the history of its training.

    Balanced, the learnable levels are made even again once they are learnt; Eq 16 itself knows no prices.
    Where no item has a place, neither coordinates nor a province, city or district, level 1 goes by content alone.
    """
    by_features = config.first_level == "features"
    if by_features:
        transform = Transform(config.features, seed, shards.sum("moments", config.features, seed))
        by_features = transform.located
    if by_features:
        first = View("features", (), transform)
        found = kmeans(shards, first, config.codes[0], config.kmeans, seed, "level-1")
        level = Level("features", found.centroids, member_means(shards, first, found), price=found.price)
        view = View("embeddings", (level,), transform)
    else:
        view = View("embeddings", residual_levels(shards, config.codes[:1], config.kmeans, seed, View()))
    levels = residual_levels(shards, config.codes, config.kmeans, seed, view)
    history: History = []
    if len(levels) > 1:
        books, history = train_levels(shards, view, [level.centres for level in levels[1:]], config, seed)
        learnt = tuple(on_embeddings(book, level.price) for book, level in zip(books, levels[1:], strict=True))
        if config.kmeans.balanced:
            # Eq 16 learns without prices; those that K-Means left suit other centres.
            learnt = even_levels(shards, view, learnt, seed)
        levels = (levels[0], *learnt)
    return Tokenizer(config.kind, levels, view.transform), history
