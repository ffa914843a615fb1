"""The page: every section stands, nothing is loaded from outside, no name becomes markup."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from lgsid_ray.artifacts.frontier import UNTRAINED
from lgsid_ray.config import RunConfig
from lgsid_ray.evaluate.stage import frontier
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.report import figures
from lgsid_ray.report.exhibits import project
from lgsid_ray.report.markup import escape, figure, flat, number, table, tag
from lgsid_ray.report.stage import TITLES, report


class Outline(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def write(inputs, folder, **settings) -> str:
    out = StageDir(str(folder)).make()
    facts = report(RunConfig.model_validate({"report": settings}), inputs, out)
    return out.read(facts["report"]).decode()


@pytest.fixture(scope="module")
def page(finished_run, tmp_path_factory) -> str:
    return write(finished_run, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def outline(page) -> Outline:
    parser = Outline()
    parser.feed(page.replace(get_plotlyjs(), ""))
    return parser


def test_every_section_stands_and_is_linked(outline):
    anchors = [attributes["id"] for name, attributes in outline.tags if name == "section"]
    assert sorted(anchors) == sorted(TITLES)
    assert {attributes["href"] for name, attributes in outline.tags if name == "a"} == {f"#{name}" for name in TITLES}


def test_plotly_is_inlined_once_and_nothing_comes_from_outside(page):
    library = get_plotlyjs()
    assert page.count(library) == 1
    rest = page.replace(library, "")
    # The attack's own address is data, with its brackets escaped; no other address stands in the page.
    assert set(re.findall(r"https?://[^\s\"'\\&]+", rest)) <= {"https://evil.example/"}
    assert not re.search(r"\s(src|srcset|data-src)=[\"']?(https?:)?//", rest)
    assert "default-src 'none'" in rest
    assert len(page) < 8_000_000


def test_names_stay_text(outline, page):
    scripts = [attributes for name, attributes in outline.tags if name == "script"]
    plots = [attributes for attributes in scripts if attributes.get("class") == "figure"]
    assert len(scripts) == len(plots) + 2
    assert not [name for name, _ in outline.tags if name in ("img", "iframe", "object")]
    assert "alert(1)" in page
    rest = page.replace(get_plotlyjs(), "")
    assert "<script>alert" not in rest
    assert "<b>out of range" not in rest
    assert any("$css ${plotly}" in text for text in outline.text)


def test_hover_texts_are_escaped_for_plotly_too(page):
    blocks = re.findall(r'class="figure" data-for="plot-map">(.*?)</script>', page, re.DOTALL)
    texts = json.loads(blocks[0])["data"][0]["text"]
    attacked = next(text for text in texts if "alert(1)" in text)
    assert attacked.startswith("&lt;/script&gt;")
    assert "&lt;a_" in attacked


def test_the_one_number_and_its_company(finished_run, outline):
    metrics = finished_run["frontier"].read_json("metrics.json")
    closed, saved = metrics["frontier"]["all"]["gap_closed"], metrics["saved"]["all"]["aligned"]
    assert number(saved["saved"], 2) in outline.text
    assert number(max(closed[arm] for arm in UNTRAINED if arm in closed), 2) in outline.text
    words = " ".join(outline.text)
    for told in (
        "97% of origin",
        "keeping",
        "which trains nothing, closes",
        "popularity",
        "trivial baseline",
        "the interactions have no order",
        "points of AUC are added by SIDs to din/lgsid: 0.610 (95 %: +0.4 to +0.9)",
        "+0.0064 (+0.0041 to +0.0088)",
        "Ward",
        "0.41",
    ):
        assert told in words


def test_what_free_text_finds_is_told_where_an_encoder_was_asked(finished_run, outline, tmp_path):
    words = " ".join(outline.text)
    for told in ("“{kind} <by> {city}”", "0.832", "whitened text fusion, told the place apart", "0.914", "0.587"):
        assert told in words, told
    assert words.index("districts it was taught") < words.index("cities held out")
    cards = " ".join(outline.text[: outline.text.index("items with a semantic ID")])
    assert "0.83" in cards
    assert "what free text finds is of the kind and in the district asked for; 0.83 by reference embeddings" in cards
    few = {name: stage for name, stage in finished_run.items() if name != "probes"}
    page = write(few, tmp_path)
    assert "Free text" not in page
    assert "free text finds" not in page


def test_what_training_adds_to_counting_stands_at_the_head(finished_run, tmp_path):
    def judged(hit: float) -> dict:
        figures = {f"{name}@{k}": hit for name in ("hit", "ndcg") for k in (1, 5, 10, 20)} | {"mrr": hit}
        return {"test": {"next": figures | {"hit@10_low": hit - 0.01, "hit@10_high": hit + 0.01}, "discovery": None}}

    name, gain = "pointer/hgit + rules", {"hit@10": 0.0188, "hit@10_low": 0.0132, "hit@10_high": 0.0246}
    found = {
        "models": {"pointer/hgit": judged(0.36)},
        "blends": {name: judged(0.374)},
        "baselines": {"mixture": judged(0.355)},
        "worth": {name: {"test": {"next": gain, "discovery": None}}},
        "queries": {"test": 4154},
        "discovery": {"test": 0},
    }
    stage = StageDir(f"{tmp_path}/generate").make()
    for file, content in (("metrics.json", found), ("history.json", [])):
        stage.write_json(file, content)
    stage.write_json("manifest.json", finished_run["generate"].read_json("manifest.json"))
    outline = Outline()
    outline.feed(write({**finished_run, "generate": stage}, tmp_path))
    cards = " ".join(outline.text[: outline.text.index("items with a semantic ID")])
    assert "+1.9" in cards
    assert f"added by training to all rules that count, {name}: 0.374 (95 %: +1.3 to +2.5)" in cards
    assert "+0.0188 (+0.0132 to +0.0246)" in outline.text


def test_a_run_without_alignment_says_so(finished_run, tmp_path):
    left_out = ("reward", "align", "embed_aligned", "embed_content", "probes", "rank", "generate")
    few = {name: stage for name, stage in finished_run.items() if name not in left_out}
    few["frontier"] = StageDir(f"{tmp_path}/frontier").make()
    frontier(RunConfig(), few, few["frontier"])
    few["frontier"].write_json("manifest.json", finished_run["frontier"].read_json("manifest.json"))
    text = write(few, tmp_path / "page")
    assert "This run aligned nothing" in text
    assert "plot-plane-aligned" not in text
    assert "trained no recommender" in text


def test_without_coordinates_a_sentence_stands_for_map_and_frontier(run_without_places, tmp_path):
    text = write(run_without_places, tmp_path)
    parser = Outline()
    parser.feed(text.replace(get_plotlyjs(), ""))
    told = [words for words in parser.text if words.startswith("This catalogue has no coordinates: nothing is aligned")]
    assert len(told) == 2
    anchors = {attributes["id"] for name, attributes in parser.tags if name == "section"}
    assert anchors == set(TITLES) - {"map"}
    assert {attributes["href"] for name, attributes in parser.tags if name == "a"} == {f"#{name}" for name in anchors}
    assert "plot-map" not in text
    assert "plot-frontier" not in text
    labelled = "Denver" in text
    assert ("level 1 of the SIDs is content alone" in text) is not labelled
    assert ("own hierarchy" in text) is labelled


def test_a_stage_is_shown_by_its_name_and_ids_are_safe(outline):
    assert "tokenise/hgit" in outline.text
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", anchor) for anchor in ids)
    assert len(ids) == len(set(ids))


def test_two_items_make_a_page_with_reasons(run_of_two_items, tmp_path):
    text = write(run_of_two_items, tmp_path)
    for told in ("too few items for retrieval", "Too few items for frontiers", "Too few items for a plane"):
        assert told in text


def test_points_limit_the_map_and_a_second_page_is_the_same(finished_run, tmp_path):
    first, second = (write(finished_run, tmp_path / name, points=50) for name in ("a", "b"))
    assert first == second
    assert "50 of 300 items" in first


def test_tables_escape_and_numbers_are_honest():
    assert tag("p", "<b>") == "<p>&lt;b&gt;</p>"
    assert "&lt;i&gt;" in table(["<i>"], [["<i>"]])
    assert escape('"') == "&quot;"
    assert number(None) == "–"
    assert number(0.12345) == "0.1235"
    assert number(True) == "yes"
    assert flat({"a": {"b": [1, 2]}}) == [("a / b [1]", 1), ("a / b [2]", 2)]


def test_figure_data_cannot_end_the_script():
    plot = figures.plane(np.zeros((1, 2)), ["</script>"], ["</script>"], "</script>")
    assert figure("x", plot, 10).count("</script>") == 1
    assert 'id="plot-rank-din---0"' in figure('rank/din/">0', plot, 10)


def test_curves_take_rows_with_gaps_and_refuse_none():
    plot, _ = figures.curves([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "valid": 3.0}, {"step": 3, "x": "no"}])
    assert [list(trace.x) for trace in plot.data] == [[1, 2], [2]]
    assert figures.curves([{"step": 1}]) is None


def test_long_curves_are_averaged_over_spans():
    points = figures.thin([(step, float(step)) for step in range(1, 601)])
    assert len(points) == 300
    assert points[:2] == [(2, 1.5), (4, 3.5)]
    assert figures.thin([(1, 2.0)]) == [(1, 2.0)]
    assert figures.thin([]) == []


def test_the_map_keeps_distances_true_in_the_middle():
    plot = figures.world_map(np.array([59.0, 61.0]), np.array([0.0, 1.0]), np.array([0, 1]), ["a", "b"], "here")
    assert plot.layout.yaxis.scaleratio == pytest.approx(2.0)


def test_the_plane_is_seeded_and_bears_equal_vectors():
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    assert (project(vectors, 3) == project(vectors, 3)).all()
    assert np.isfinite(project(np.ones((20, 8), np.float32), 0)).all()
