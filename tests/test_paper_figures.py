"""The pages of paper_figures run, small; and the stored ones are what the stored rows give."""
import shutil
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
    out = tmp_path/folder
    out.mkdir()
    shutil.copy(pages/folder/"runs.jsonl", out)
    words = ["-p", "source=../shared/data/cifar10", "-p", "data=CIFAR-10, JPEG-recompressed copy"]
    assert main(["reproduce", name, "--profile", folder, "--stored", "--out", str(out), *words]) == 0
    tables = [p for p in out.iterdir() if p.suffix in (".csv", ".md", ".tex", ".txt")]
    made = [p for p in tables if f"{p.stem}_".startswith(f"{name}_")]
    assert made and [p.name for p in made if p.read_bytes() != (pages/folder/p.name).read_bytes()] == []
