"""The audit's page: whole, well formed, self-contained, and the same each time."""

import copy
import html
import json
from html.parser import HTMLParser

import pytest

from robustpolicy.errors import UserError
from robustpolicy.report.audit_page import audit_page, draw, write_audit_page

VOID = {"meta", "link", "br", "hr", "img", "input"}
LINES = {
    "kind": "lines",
    "title": "Accuracy against $radius$",
    "xlabel": "epsilon",
    "ylabel": "accuracy",
    "x": [0, 0.1, 0.2, 0.4],
    "series": {"PGD": [0.99, 0.46, None, 0.0], "_noise": [0.99, 0.98, 0.97, 0.9]},
}
BARS = {
    "kind": "bars",
    "title": "Robust accuracy by attack",
    "xlabel": "attack",
    "ylabel": "robust accuracy",
    "labels": ["FGSM", "PGD-40 with cross-entropy", "Square <5000>", "transfer from a ResNet"],
    "values": [0.7, 0.55, None, 0.6],
}
HEATMAP = {
    "kind": "heatmap",
    "title": "Loss around a sample",
    "xlabel": "gradient",
    "ylabel": "random direction",
    "extent": [-0.1, 0.1, -0.1, 0.1],
    "values": [[0.1 * row + 0.2 * column for column in range(9)] for row in range(9)],
}
AUDIT = {
    "target": "runs/<script>alert('mine')</script> & more",
    "dataset": "mnist",
    "verdict": "REAL",
    "budget": "quick",
    "summary": "REAL at quick budget: the attacks were adequate and found 46 % against 49 %.",
    "reasons": ["The upper bound is not below the claim less the margin.", "5 checks < 6 passed."],
    "claim": 0.49,
    "claim_source": "PGD-40 with cross-entropy",
    "margin": 0.05,
    "robust_accuracy": 0.46,
    "interval": [0.43, 0.49],
    "clean_accuracy": 0.99,
    "n": 1000,
    "threat": {"epsilon": 0.1, "low": 0.0, "high": 1.0, "norm": "Linf"},
    "seed": 0,
    "seconds": 123.4,
    "attacks": {
        "pgd": {"kind": "white-box", "robust_accuracy": 0.49, "gained": 500, "seconds": 3.2},
        "apgd-t": {"kind": "adaptive", "robust_accuracy": 0.46, "gained": 30, "seconds": 60.0},
        "square": {"kind": "black-box", "robust_accuracy": 0.46, "gained": 0, "seconds": 41.5},
    },
    "checks": [
        {
            "name": "fgsm",
            "title": "PGD is at least as strong as FGSM",
            "passed": True,
            "rule": "PGD's robust accuracy <= FGSM's plus 1 % (Carlini et al., 2019)",
            "measured": {"fgsm": 0.7, "pgd": 0.55, "steps": 40, "hidden_in_table": "seen below"},
            "explanation": "Iterating finds what one step does not: gradients lead somewhere.",
            "seconds": 1.2,
            "pictures": [BARS],
        },
        {
            "name": "unbounded",
            "title": "An unbounded attack fools every sample",
            "passed": False,
            "rule": "robust accuracy at epsilon 1 is 0",
            "measured": {"accuracy": [0.99, 0.46, 0.1, 0.0] * 3, "reached_zero": False},
            "explanation": 'The loss "saturates" & gradients vanish.',
            "seconds": 9.0,
            "pictures": [LINES, HEATMAP],
        },
        {
            "name": "transfer",
            "title": "Transferred examples gain nothing",
            "passed": None,
            "rule": "gained <= 1 % of samples",
            "measured": {},
            "explanation": "Not run: no second model was given.",
        },
    ],
    "environment": {"cpu": "Some CPU <2 GHz>", "torch": "2.9.0", "device": "cpu"},
}


class Reader(HTMLParser):
    """Checks that tags balance, and keeps the text, the ids and the tags."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.ids, self.targets, self.text = [], [], [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        self.keep(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert "svg" in self.open, f"<{tag}/> means <{tag}> outside of SVG"
        self.keep(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def keep(self, tag, attributes):
        self.text += " "
        self.tags.append((tag, dict(attributes)))
        assert not any(name.startswith("on") for name, _ in attributes)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href") and not value.startswith("data:image/png"):
                self.targets.append(value)


@pytest.fixture(scope="module")
def page():
    return audit_page(AUDIT)


@pytest.fixture(scope="module")
def reader(page):
    return Reader(page)


def test_every_text_of_the_audit_is_there(reader):
    for check in AUDIT["checks"]:
        for key in ("title", "rule", "explanation"):
            assert check[key] in reader.text
    for text in (*AUDIT["reasons"], AUDIT["summary"], AUDIT["claim_source"], AUDIT["target"]):
        assert text in reader.text
    for text in ("✓ REAL", "49.0 %", "46.0 % (43.0 % to 49.0 %)", "2 min 3 s", "Linf, epsilon 0.1"):
        assert text in reader.text
    for text in (*AUDIT["attacks"], *AUDIT["environment"].values(), "hidden in table seen below"):
        assert text in reader.text
    for mark in ("✓ passed", "✗ failed", "– not run"):
        assert reader.text.count(mark) == 2  # in the table and in the detail


def test_it_leads_with_the_verdict(page):
    order = ["badge", "summary", "claim", "reasons", "checks", "details", "attacks", "setting"]
    marks = [f'class="{name} ' if name == "badge" else f'id="{name}"' for name in order]
    marks[1] = 'class="summary"'
    places = [page.index(mark) for mark in [*marks, "<footer>"]]
    assert places == sorted(places)


def test_the_structure_is_semantic(reader):
    names = [name for name, _ in reader.tags]
    assert names.count("h1") == names.count("main") == 1
    assert names.count("details") == names.count("summary") == len(AUDIT["checks"])
    assert names.count("svg") == 4  # one of the claim, three of checks
    for name, attributes in reader.tags:
        if name == "th":
            assert attributes["scope"] in ("col", "row")
        if name == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    opened = [attributes for name, attributes in reader.tags if name == "details"]
    assert ["open" in attributes for attributes in opened] == [False, True, False]


def test_texts_are_escaped(page):
    assert "<script" not in page
    assert html.escape("<script>") in page
    assert "<5000>" not in page
    assert "<2 GHz>" not in page


def test_nothing_outside_is_needed(page, reader):
    names = {name for name, _ in reader.tags}
    assert not names & {"script", "link", "iframe", "img", "object", "metadata"}
    rest = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    rest = rest.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    assert "http://" not in rest
    assert "https://" not in rest
    assert "@import" not in page
    assert page.count("<style") == 1  # a style within a picture would hold for the page
    assert len(reader.ids) == len(set(reader.ids))
    assert {target.removeprefix("#") for target in reader.targets} <= set(reader.ids)


def test_the_same_audit_gives_the_same_bytes(page, tmp_path):
    before = copy.deepcopy(AUDIT)
    write_audit_page(AUDIT, tmp_path / "audit.html")
    assert (tmp_path / "audit.html").read_bytes() == page.encode()
    assert list(tmp_path.iterdir()) == [tmp_path / "audit.html"]
    assert before == AUDIT
    assert audit_page(json.loads(json.dumps(AUDIT))) == page


def test_a_page_that_cannot_be_written_is_an_error_of_the_user(tmp_path):
    with pytest.raises(UserError, match=r"could not write .*audit\.html"):
        write_audit_page(AUDIT, tmp_path / "missing" / "audit.html")


@pytest.mark.parametrize("picture", [LINES, BARS, HEATMAP], ids=lambda picture: picture["kind"])
def test_each_picture_stands_alone(picture):
    svg = draw(picture)
    names = [name for name, _ in Reader(svg).tags]
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    assert names.count("svg") == 1
    assert html.escape(picture["title"]) in svg
    assert svg == draw(picture)


def test_the_pictures_say_in_words_what_they_show():
    assert "PGD from 0.99 to 0; _noise from 0.99 to 0.9" in draw(LINES)
    assert "FGSM 0.7; PGD-40 with cross-entropy 0.55; Square &lt;5000&gt; –" in draw(BARS)
    assert "from 0 to 2.4" in draw(HEATMAP)
    said = "claim 49.0 %, claim less margin 44.0 %, measured 46.0 % (43.0 to 49.0 %)"
    assert said in draw({**AUDIT, "kind": "claim"})
    assert 'measured 46.0 %"' in draw({**AUDIT, "kind": "claim", "interval": None})


@pytest.mark.parametrize(
    "picture",
    [
        {**LINES, "series": {"PGD": [None] * 4}},
        {**LINES, "series": {}},
        {**LINES, "x": [], "series": {"PGD": []}},
        {**LINES, "series": {str(number): [number] * 4 for number in range(9)}},
        {**LINES, "series": {"PGD": [float("inf"), float("nan"), 1.0, 2.0]}},
        {**BARS, "labels": [], "values": []},
        {**BARS, "values": [None] * 4},
        {**HEATMAP, "values": [[None, 1.0], [2.0, None]]},
        {**HEATMAP, "values": [[None]]},
        {**HEATMAP, "values": [[1.0]]},
        {**HEATMAP, "values": []},
        {"kind": "bars", "labels": ["a"], "values": [1]},
    ],
)
@pytest.mark.filterwarnings("error")
def test_gaps_in_a_picture_are_no_error(picture):
    Reader(draw(picture))


def test_a_page_of_only_a_verdict():
    reader = Reader(audit_page({"verdict": "INCONCLUSIVE", "summary": "Nothing was measured."}))
    assert "? INCONCLUSIVE Nothing was measured." in reader.text
    assert "None" not in reader.text
    assert "svg" not in [name for name, _ in reader.tags]


@pytest.mark.parametrize("empty", [None, [], {}])
def test_empty_parts_are_left_out(empty):
    parts = ("checks", "attacks", "reasons", "interval", "environment", "threat", "target")
    reader = Reader(audit_page({**AUDIT, **dict.fromkeys(parts, empty), "verdict": "MASKED"}))
    assert "✗ MASKED" in reader.text
    assert "None" not in reader.text
    assert "table" not in [name for name, _ in reader.tags]
