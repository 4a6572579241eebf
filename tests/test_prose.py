"""A number that a sentence states as measured stands in the notebook's code or in its output, where a run put it."""
import inspect, json, re
from pathlib import Path

import pandas as pd, pytest

from adq.experiments import page_runs
from adq.figures import published, published_cost, published_gain

root = Path(__file__).parents[1]
pages = [*sorted(root.glob("nbs/**/*.ipynb")), *sorted(root.glob("paper_figures/*.ipynb"))]
number = r"\d[\d,]*(?:\.\d+)?"
units = r"%|points?|times|seconds?|minutes?|hours?|ms|MB|GB|images/s|dB"
stated = re.compile(rf"(?<![\w.,–/^{{=-])({number})(?:(?:, {number})* (?:to|and|or) ({number}))? ?(?:{units})(?![\w^])")


def prose(cell):
    "Text of a Markdown cell without code and formulas."
    return re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$", " ", "".join(cell["source"]), flags=re.S)


def numbers(text): return {float(n.replace(",", "")) for n in re.findall(number, text)}


def shown(cell):
    "Numbers of a code cell and of what it gave."
    data = [out.get("data", {}) | {"text/plain": out.get("text") or out.get("data", {}).get("text/plain", "")}
            for out in cell.get("outputs", [])]
    texts = ["".join(d.get(kind, "")) for d in data for kind in ("text/plain", "text/html", "text/markdown")]
    return numbers("\n".join(["".join(cell["source"]), *texts]))


def of_the_paper():
    "What its tables say and their means give, and the claims as the page `evidence` holds them against ours."
    gain = pd.Series({(method, k): published_gain("resnet18", method, k)
                      for model, method, k in published.index if model == "resnet18" and method in ("rs", "ds", "adq")})
    every = pd.Series({(m, k): published_gain(m, "adq", k) for m, method, k in published.index if method == "adq"})
    hours = published_cost["GPU hours"]
    means = [*gain.groupby(level=0).mean(), *every.groupby(level=1).mean(), 100*hours["adq"]/hours["dm"]]
    told = {round(float(n), 1) for n in [*published, *published_cost.to_numpy().ravel(), *means]}
    cells = json.loads((root/"paper_figures"/"evidence.ipynb").read_text(encoding="utf-8"))["cells"]
    return told.union(*(numbers("".join(c["source"])) for c in cells if c["cell_type"] == "code"))


def test_numbers_of_the_paper():
    assert of_the_paper() >= {2.6, 2.8, 3.4, 1.4, 1.5, 2.7, 1.1, 91, 84.1}


def of_a_page(path):
    "What a page is told: settings and runs, in shares of one, and the paper's numbers."
    runs = inspect.getsource(page_runs[path.stem]) if path.stem in page_runs else ""
    return numbers((root/"settings.ini").read_text() + runs) | of_the_paper()


@pytest.mark.parametrize("path", pages, ids=lambda p: str(p.relative_to(root)))
def test_numbers_in_prose_are_computed(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    known = set().union(*(shown(c) for c in cells if c["cell_type"] == "code"))
    if path.parent.name == "paper_figures": known |= of_a_page(path)
    known |= {round(100*n, 9) for n in known}
    for cell in cells:
        if cell["cell_type"] != "markdown": continue
        for match in stated.finditer(prose(cell)):
            strange = [n for n in match.groups() if n and float(n.replace(",", "")) not in known]
            assert not strange, f"{strange[0]} of '{match[0]}' stands in no code and no output"
