"""One typed tree for a whole run: YAML in, YAML out, every refusal names the path of the key."""

from lgsid_ray.config.tree import RunConfig, Tree, assign, load, override, parse, read_tree, to_yaml

__all__ = ["RunConfig", "Tree", "assign", "load", "override", "parse", "read_tree", "to_yaml"]
