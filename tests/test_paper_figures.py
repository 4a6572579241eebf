"""The pages of paper_figures run, small; and the stored ones are what the stored rows give."""
import json, shutil
from pathlib import Path

import papermill, pytest

from adq.cli import main
from adq.execute import page_names

pages = Path(__file__).parents[1]/"paper_figures"
of_rows = [name for name in page_names if name != "cost"] # which reads the images themselves
stored = [(folder, name) for folder in ("laptop", "narrow") for name in of_rows
          if (pages/folder/f"{name}.ipynb").exists()]


def test_benchmark(tmp_path):
    small = dict(source="digits", extractor="resnet18_narrow/self:1", images=200, repeats=1, largest=400, samples=300,
                 checked=50, hard=400, sizes=[300, 600, 9000], larger=[1200], dimensions=[16, 32], sides=[8])
    papermill.execute_notebook(pages/"benchmark.ipynb", tmp_path/"benchmark.ipynb", small, cwd=pages,
                               progress_bar=False)


@pytest.mark.parametrize("folder, name", stored)
def test_stored_tables_are_those_of_the_stored_rows(tmp_path, folder, name):
    "Byte for byte."
    shutil.copy(pages/folder/"runs.jsonl", tmp_path)
    asked = dict(profile=folder, out_dir=str(tmp_path), changes=dict(source="../shared/data/cifar10"),
                 data="CIFAR-10, JPEG-recompressed copy", stored=True)
    papermill.execute_notebook(pages/f"{name}.ipynb", tmp_path/"page.ipynb", asked, engine_name="here",
                               progress_bar=False)
    tables = [p for p in tmp_path.iterdir() if p.suffix in (".csv", ".md", ".tex", ".txt")]
    assert tables and [p.name for p in tables if p.read_bytes() != (pages/folder/p.name).read_bytes()] == []


def code(path):
    "Source of the code cells of a page, without those that papermill put in."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c["source"] for c in cells
            if c["cell_type"] == "code" and "injected-parameters" not in c["metadata"].get("tags", [])]


@pytest.mark.parametrize("path", [pages/folder/f"{name}.ipynb" for folder, name in stored], ids=lambda p: p.parent.name)
def test_stored_pages_were_made_by_the_source_of_today(path): assert code(path) == code(pages/path.name)


def test_the_command_makes_the_same(tmp_path):
    shutil.copy(pages/"narrow"/"runs.jsonl", tmp_path)
    words = ["-p", "source=../shared/data/cifar10", "-p", "data=CIFAR-10, JPEG-recompressed copy"]
    assert main(["reproduce", "evidence", "--profile", "narrow", "--stored", "--out", str(tmp_path), *words]) == 0
    for name in "evidence.csv", "evidence.txt":
        assert (tmp_path/name).read_bytes() == (pages/"narrow"/name).read_bytes()
