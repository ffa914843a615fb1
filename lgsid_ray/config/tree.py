"""The root of the tree, and how it is read, overridden and printed."""

import difflib
import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from lgsid_ray.config.align import PREFERENCE, AlignConfig, DistilConfig, GdpoConfig, RewardConfig
from lgsid_ray.config.base import Section
from lgsid_ray.config.catalogue import CatalogueConfig
from lgsid_ray.config.cluster import RayConfig, TuneConfig
from lgsid_ray.config.encoder import EncoderConfig, FusionConfig
from lgsid_ray.config.evaluate import EvaluateConfig, ReportConfig
from lgsid_ray.config.preference import PreferenceConfig
from lgsid_ray.config.recommend import GenerateConfig, RankConfig
from lgsid_ray.config.sampling import SamplingConfig
from lgsid_ray.config.tokenizer import HgitConfig, TokenizerConfig
from lgsid_ray.errors import ConfigError

Tree = dict[str, Any]
"""A configuration as it is read: nested mappings, nothing filled in."""

CONFIG_VERSION = 1
"""The newest layout this code reads; the `version` field below spells it again, as a Literal must."""


class RunConfig(Section):
    """Everything a run depends on. `lgsid config show` prints it with its defaults."""

    version: Literal[1] = 1
    """Version of this tree's layout."""
    seed: int = Field(default=0, ge=0)
    catalogue: CatalogueConfig = Field(default_factory=CatalogueConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    fusion: FusionConfig = Field(default_factory=FusionConfig)
    reward: RewardConfig = Field(default_factory=RewardConfig)
    preference: PreferenceConfig = Field(default_factory=PreferenceConfig)
    align: AlignConfig = Field(default_factory=DistilConfig)
    tokenizer: TokenizerConfig = Field(default_factory=HgitConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    rank: RankConfig = Field(default_factory=RankConfig)
    generate: GenerateConfig = Field(default_factory=GenerateConfig)
    report: ReportConfig = Field(default_factory=ReportConfig)
    tune: TuneConfig = Field(default_factory=TuneConfig)
    ray: RayConfig = Field(default_factory=RayConfig)

    @property
    def aligned(self) -> bool:
        """Whether the encoder is aligned: to rest SIDs on it, or to set it beside what needs no training."""
        return self.tokenizer.embeddings == "aligned" or self.align.enabled

    @property
    def space(self) -> Literal["aligned", "fused", "origin"]:
        """The embeddings that SIDs rest on; a catalogue without coordinates makes `auto` come out as `origin`."""
        if self.tokenizer.embeddings != "auto":
            return self.tokenizer.embeddings
        return "fused" if self.encoder.prompt.location else "origin"

    @property
    def distilled(self) -> bool:
        """Whether it is aligned by distilling text fusion, and not by preferences."""
        return self.aligned and self.align.objective == "distil"

    @property
    def preferring(self) -> bool:
        """Whether it is aligned by preferences, which need items that lie elsewhere."""
        return self.aligned and self.align.objective == "gdpo"

    @model_validator(mode="after")
    def _sections_fit(self) -> "RunConfig":
        if self.encoder.kind == "random_projection" and self.aligned:
            asked = "align.enabled" if self.align.enabled else "tokenizer.embeddings=aligned"
            raise ValueError(
                f"{asked} needs a trainable encoder, but encoder.kind=random_projection has no weights; leave it out"
            )
        return self


def load(path: str | None, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML file (None: all defaults), apply `section.key=value` overrides, and validate.

    Raises:
        ConfigError: the file is missing or not YAML, or a value is refused; the key's path is named.
    """
    return parse(read_tree(path, overrides), f"config {path}" if path else "the configuration")


def read_tree(path: str | None, overrides: list[str] | None = None) -> Tree:
    """What a YAML file holds (None: nothing), with `section.key=value` overrides put in; not yet validated."""
    tree = _read(path) if path else {}
    for text in overrides or []:
        override(tree, text)
    return tree


def parse(tree: Tree, origin: str) -> RunConfig:
    """Validate a tree; `origin` is how messages name it.

    Raises:
        ConfigError: a key or a value is refused; every refusal is listed with the path of its key.
    """
    version = tree.get("version", CONFIG_VERSION)
    if isinstance(version, int) and version > CONFIG_VERSION:
        raise ConfigError(
            f"{origin}: version {version} is newer than this lgsid understands ({CONFIG_VERSION}); "
            "upgrade lgsid_ray, or write the config for this version"
        )
    tree = _expand(tree, origin)
    _name_the_kinds(tree)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(refusal(error, tree, origin)) from None


def refusal(error: ValidationError, tree: Tree, origin: str) -> str:
    """What was refused, a line for each key."""
    refused: dict[str, list[str]] = {}
    for one in error.errors(include_url=False):
        refused.setdefault(_path(one, tree), []).append(_explain(one))
    # A value that may be one of several types is refused once for each of them.
    lines = [f"  {path}{': ' if path else ''}{'; or: '.join(texts)}" for path, texts in refused.items()]
    return "\n".join([f"{origin} is refused:", *lines])


def override(tree: Tree, text: str) -> None:
    """Apply one `section.key=value` to a nested mapping in place; the value is parsed as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: expected section.key=value, for example align.lambda=1.8")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not YAML: {error}") from None
    try:
        assign(tree, key.strip(), parsed)
    except ConfigError as error:
        raise ConfigError(f"--set {text!r}: {error}") from None


def assign(tree: Tree, key: str, value: Any) -> None:
    """Put a value at `section.key` of a nested mapping, in place.

    Raises:
        ConfigError: a part of the key is a value, not a section.
    """
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {parent!r} is a value, not a section")
        node = child
    node[last] = value


def to_yaml(config: RunConfig) -> str:
    """The resolved tree as YAML that `load` reads back to an equal tree."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def _read(path: str) -> dict[str, Any]:
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"config {path}: no such file")
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path}: not readable as YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config {path}: expected a mapping of sections, found {type(tree).__name__}")
    return tree


def _name_the_kinds(tree: dict[str, Any]) -> None:
    """Fill in what tells kinds apart: files where a table is given, gdpo where λ or another setting of its own is."""
    catalogue, tokenizer, align = tree.get("catalogue"), tree.get("tokenizer"), tree.get("align")
    source = catalogue.get("source") if isinstance(catalogue, dict) else None
    if isinstance(source, dict) and "kind" not in source:
        source["kind"] = "files" if isinstance(source.get("items"), dict) else "world"
    if isinstance(tokenizer, dict):
        tokenizer.setdefault("kind", "hgit")
    if isinstance(align, dict):
        align.setdefault("objective", "gdpo" if PREFERENCE & align.keys() else "distil")


def _path(error: Any, tree: dict[str, Any]) -> str:
    """The path of the refused key as the user writes it: without the names pydantic gives to the types of a union."""
    parts, node = list[str](), tree
    for part in error["loc"]:
        inside = part in node if isinstance(node, dict) else isinstance(node, list) and isinstance(part, int)
        if inside:
            parts.append(str(part))
            node = node[part]
    if error["type"] == "missing":
        parts.append(str(error["loc"][-1]))
    return ".".join(parts)


def _explain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key; {_alike(error['loc'])}`lgsid config show` lists the known ones"
    given = error.get("input")
    shown = "" if isinstance(given, dict) else f" (given: {given!r})"
    return error["msg"].removeprefix("Value error, ") + shown


def _alike(location: tuple[int | str, ...]) -> str:
    node: Any = RunConfig().model_dump(by_alias=True)
    node["align"] |= GdpoConfig().model_dump(by_alias=True)  # one of whose keys chooses it
    *parents, last = location
    for part in parents:
        node = node.get(part, node) if isinstance(node, dict) else {}  # the name of a union's type is no key
    # A key of another kind may be spelled alike: no help.
    known = [name for name in node if name != last] if isinstance(node, dict) else []
    close = difflib.get_close_matches(str(last), known, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _expand(node: Any, origin: str) -> Any:
    """Replace `${NAME}` in every string from the environment."""
    if isinstance(node, dict):
        return {key: _expand(value, origin) for key, value in node.items()}
    if isinstance(node, list):
        return [_expand(value, origin) for value in node]
    if not isinstance(node, str):
        return node

    def value(match: re.Match[str]) -> str:
        name, _, default = match.group(1).partition(":-")
        found = os.environ.get(name, default)
        if not found:
            raise ConfigError(f"{origin}: environment variable {name} is not set; export it, or use --set")
        return found

    return re.sub(r"\$\{([^}]+)\}", value, node)
