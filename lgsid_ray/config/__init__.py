"""One typed tree for a whole run: YAML in, YAML out, every refusal names the path of the key."""

from lgsid_ray.config.tree import RunConfig, load, override, parse, to_yaml

__all__ = ["RunConfig", "load", "override", "parse", "to_yaml"]
