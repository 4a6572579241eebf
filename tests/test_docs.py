"""What the documentation promises: links lead somewhere, and every public name is told of."""
import ast, importlib, inspect, itertools, json, math, pkgutil, re
from pathlib import Path
from urllib.parse import unquote

import nbformat, numpy as np, pytest

import adq
from adq.sampling import importance, quotas
from adq.webpage import _anchor, web_page

root = Path(__file__).parents[1]
notebooks = "nbs/**/*.ipynb", "paper_figures/*.ipynb", "paper_figures/*/*.ipynb"
pages = [root/"README.md", *(page for pattern in notebooks for page in sorted(root.glob(pattern)))]
modules = [importlib.import_module(f"adq.{m.name}") for m in pkgutil.iter_modules(adq.__path__) if m.name[0] != "_"]


def prose(path):
    "Text for readers: of a notebook its Markdown cells and what its cells gave as Markdown."
    if path.suffix == ".md": return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    data = [o.get("data", {}) for c in cells for o in c.get("outputs", [])]
    given = ["".join(d["text/markdown"]) for d in data if "text/markdown" in d]
    return "\n".join(["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"] + given)


def anchors(path):
    return set(map(_anchor, re.findall(r"^#+ (.*)$", prose(path), re.M)))


@pytest.mark.parametrize("page", pages, ids=lambda p: str(p.relative_to(root)))
def test_links_lead_to_files(page):
    text = re.sub(r"```.*?```", "", prose(page), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
        if re.match(r"(https?|mailto|data|attachment):", link): continue
        path, _, anchor = unquote(link).partition("#")
        there = (page.parent/path).resolve() if path else page
        assert there.exists() and there.is_relative_to(root), f"{link} leads nowhere"
        if not anchor or there.suffix not in (".md", ".ipynb"): continue
        assert anchor.lower() in anchors(there), f"{link}: no such heading"


@pytest.mark.parametrize("module", modules, ids=lambda m: m.__name__)
def test_every_public_name_says_what_it_does(module):
    for name in module.__all__:
        public = getattr(module, name)
        if not inspect.isfunction(public) and not inspect.isclass(public): continue
        is_plain = inspect.isclass(public) and public.__init__ is object.__init__
        assert public.__doc__ or is_plain or len(inspect.signature(public).parameters) < 2, f"{name} has no docstring"


def test_every_public_name_has_its_sentence():
    "A name is explained once in prose: in backticks, in a Markdown cell of a lesson."
    named = set(re.findall(r"`(?:\w+\.)*(\w+)`", "\n".join(prose(page) for page in root.glob("nbs/**/*.ipynb"))))
    is_told = lambda thing: inspect.isfunction(thing) or inspect.isclass(thing)
    public = {name for m in modules for name in m.__all__ if is_told(getattr(m, name))}
    assert not public - named, f"no lesson mentions {', '.join(sorted(public - named))}"


@pytest.mark.parametrize("page", sorted(root.glob("nbs/**/*.ipynb")), ids=lambda p: p.name)
def test_imports_stand_in_cells_of_their_own(page):
    """nbdev's builder of documentation runs cells that import at top level, and those only: beside other code they
    would miss what earlier cells define."""
    cells = [c for c in json.loads(page.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    for cell in cells[1:]: # before the first there is nothing to miss
        source = "".join(cell["source"])
        if "nbdev_export()" in source or re.search(r"^#\| *(export|eval: false)", source, re.M): continue
        tree = ast.parse(source).body
        imports = [isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree]
        assert not any(imports) or all(imports), f"import and other code in one cell:\n{source}"


def test_the_sliders_of_the_sampling_lesson_need_no_kernel():
    "Every setting stands in the stored output, and on the web page, with the quotas that the library gives."
    path = root/"nbs"/"method"/"05_sampling.ipynb"
    page = web_page(nbformat.read(path, 4), path.parent)
    found = re.search(r"frames = (\[.*\]), settings = (\[.*\])$", page, re.M)
    frames, settings = (json.loads(text) for text in found.groups())
    run = json.loads((root/"nbs"/"results"/"cifar10"/"compressed.json").read_text())
    sizes = [len(b) for b in run["bins"]]
    assert len(frames) == math.prod(map(len, settings)) and {"0.1", "1.0"} <= set(settings[2])
    for (norm, keep, alpha), (_, heights, words) in zip(itertools.product(*settings), frames):
        own = quotas(importance(run["rs"], run["ds"], norm), sizes, float(keep), float(alpha))
        assert [int(word.replace(",", "")) for word in words] == own.tolist()
        assert np.allclose(heights, 100*own/quotas(own*0, sizes, float(keep), 0)/2, atol=0.06)
