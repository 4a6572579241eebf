"""The house style that can be counted: width, one statement a line, cells that fit, outputs that are there."""
import ast, importlib, inspect, io, json, re, tokenize
from pathlib import Path

import pytest
from fastcore.docments import docments

root = Path(__file__).parents[1]
pages = [*sorted(root.glob("nbs/**/*.ipynb")), *sorted(root.glob("paper_figures/*.ipynb"))]
files = [*sorted(root.glob("tests/*.py")), root/"adq"/"__init__.py"]
modules = [p.stem for p in sorted(root.glob("adq/*.py")) if not p.stem.startswith("_")]


def name_of(path): return str(path.relative_to(root))


def cells(path): return json.loads(path.read_text(encoding="utf-8"))["cells"]


def code(path):
    "Sources of the code cells, without lines for the shell or for IPython."
    sources = ["".join(c["source"]) for c in cells(path) if c["cell_type"] == "code"]
    return [re.sub(r"^[%!].*$", "", s, flags=re.M) for s in sources]


def exported(source): return bool(re.match(r"#\| *export", source))


def check_lines(source):
    wide = [line for line in source.splitlines() if len(line) > 120]
    assert not wide, f"{len(wide)} lines of more than 120 characters, such as\n{wide[0]}"
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        joined = token.type == tokenize.OP and token.string == ";"
        rest = token.line[token.end[1]:].partition("#")[0].strip()
        assert not (joined and rest), f"two statements on a line:\n{token.line}"


@pytest.mark.parametrize("page", pages, ids=name_of)
def test_lines_of_notebooks(page):
    for source in code(page): check_lines(source)


@pytest.mark.parametrize("file", files, ids=name_of)
def test_lines_of_files(file): check_lines(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", pages, ids=name_of)
def test_headings_stand_alone(page):
    "A heading is a cell: it can be folded and linked. The first cell is title and subtitle."
    for cell in cells(page)[1:]:
        text = re.sub(r"```.*?```", "", "".join(cell["source"]), flags=re.S)
        if cell["cell_type"] != "markdown" or not re.search(r"^#+ ", text, re.M): continue
        assert re.fullmatch(r"#+ [^\n]+\n?", text), f"a heading and more in one cell:\n{text[:200]}"


@pytest.mark.parametrize("page", [p for p in pages if "nbs" in p.parts], ids=name_of)
def test_cells_fit(page):
    lesson, run, most = page.parent.name == "method", 0, 0
    for source in code(page):
        length = len(source.splitlines())
        limit = 25 if lesson else 60
        if exported(source):
            assert length <= limit, f"an exported cell of {length} lines, more than {limit}:\n{source[:200]}"
            run += length
        elif not re.match(r"#\| *(hide|default_exp)", source): run = 0
        most = max(most, run)
    assert most <= 60, f"{most} exported lines without a look or a check"
    assert not lesson or len(cells(page)) < 40, f"{len(cells(page))} cells"


@pytest.mark.parametrize("page", [p for p in pages if "nbs" not in p.parts], ids=name_of)
def test_cells_of_pages_fit(page):
    for source in code(page): assert len(source.splitlines()) <= 45, f"a cell too long for a screen:\n{source[:200]}"


@pytest.mark.parametrize("page", pages, ids=name_of)
def test_what_the_tests_skip_has_its_output(page):
    for cell in cells(page):
        source = "".join(cell["source"])
        skipped = re.search(r"^#\| *eval: *false", source, re.M) and "nbdev_export()" not in source
        assert not skipped or cell["outputs"], f"no stored output:\n{source[:200]}"


def gives_something(function):
    "Whether the function itself returns a value, or yields."
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function))).body[0]
    own, inner = [tree], (ast.FunctionDef, ast.Lambda, ast.ClassDef)
    while own:
        node = own.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)) or isinstance(node, ast.Return) and node.value: return True
        own += [n for n in ast.iter_child_nodes(node) if not isinstance(n, inner)]
    return False


@pytest.mark.parametrize("module", modules)
def test_what_functions_return_is_told(module):
    "A return is annotated: otherwise its comment appears nowhere."
    module = importlib.import_module(f"adq.{module}")
    for name in module.__all__:
        function = getattr(module, name)
        if not inspect.isfunction(function) or hasattr(function, "__wrapped__"): continue # as context managers are
        if not gives_something(function): continue
        told = docments(function, full=True)["return"]
        assert told.anno is not inspect.Signature.empty, f"{name} returns something, and is not annotated"


def test_a_private_name_has_one_meaning():
    "No two modules have helpers of one name: what two need is in one place."
    places = {}
    for module in modules:
        tree = ast.parse((root/"adq"/f"{module}.py").read_text(encoding="utf-8"))
        own = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        for name in own:
            if name.startswith("_"): places.setdefault(name, []).append(module)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert places and not twice, f"helpers of one name: {twice}"
