"""adq/ is what the notebooks export, README.md what index.ipynb gives, and the notebooks are clean."""
import json, shutil, subprocess, sys
from pathlib import Path

import papermill, pytest

root = Path(__file__).parents[1]
bin = Path(sys.executable).parent


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    for name in "pyproject.toml", "README.md", "Makefile", "settings.ini", "requirements.lock":
        shutil.copy(root/name, folder/name)
    hidden = shutil.ignore_patterns("__pycache__", ".*")
    for name in "nbs", "adq": shutil.copytree(root/name, folder/name, ignore=hidden)
    return folder


def same(copy, pattern):
    "Files below root and copy that differ, by name."
    names = {p.relative_to(d) for d in (root, copy) for p in d.glob(pattern) if ".ipynb_checkpoints" not in str(p)}
    both = lambda name: (root/name).exists() and (copy/name).exists()
    return sorted(str(n) for n in names if not (both(n) and (root/n).read_bytes() == (copy/n).read_bytes()))


def test_modules_are_exported(copy):
    subprocess.run([bin/"nbdev-export"], cwd=copy, check=True, capture_output=True)
    assert same(copy, "adq/*.py") == [], "run nbdev-export and commit the result"


def test_notebooks_are_clean(copy):
    subprocess.run([bin/"nbdev-clean"], cwd=copy, check=True, capture_output=True)
    assert same(copy, "nbs/**/*.ipynb") == [], "run nbdev-clean and commit the result"


def test_readme_is_made_from_index(copy):
    (copy/".venv").mkdir()
    (copy/".venv"/".ready").touch()
    subprocess.run(["make", "-s", "readme", f"BIN={bin}"], cwd=copy, check=True, capture_output=True)
    assert same(copy, "README.md") == [], "run make readme and commit the result"


def test_the_front_page_has_the_numbers_of_today(tmp_path):
    index = root/"nbs"/"index.ipynb"
    papermill.execute_notebook(index, tmp_path/"index.ipynb", cwd=index.parent, engine_name="here", progress_bar=False)
    def told(path):
        outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", [])]
        return ["".join(o["data"]["text/markdown"]) for o in outputs if "text/markdown" in o.get("data", {})]
    assert told(tmp_path/"index.ipynb") == told(index), "run index.ipynb and commit the result"
