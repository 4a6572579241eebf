"""The pages of paper_figures run, small."""
from pathlib import Path

import papermill

pages = Path(__file__).parents[1]/"paper_figures"


def test_benchmark(tmp_path):
    papermill.execute_notebook(pages/"benchmark.ipynb", tmp_path/"benchmark.ipynb", dict(source="digits", extractor="resnet18_narrow/self:1", images=200, repeats=1, largest=400, samples=300, checked=50, sizes=[300, 600, 9000], dimensions=[16, 32]), cwd=pages, progress_bar=False)
