import shutil
from pathlib import Path

import nbformat, numpy as np, pytest, torch
from execnb.shell import CaptureShell
from papermill.engines import Engine, papermill_engines
from torchvision.transforms.v2 import functional as TF

from adq.sources import load_images

shared = Path(__file__).parents[2]/"shared"/"data"
switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync"]


longest = "reproduce paper_figures cluster lab report cli races site train store".split()

def pytest_collection_modifyitems(items):
    "Files that take long come first, so that two processes end together."
    def place(item): return [item.path.stem == f"test_{name}" for name in longest][::-1]
    items.sort(key=place, reverse=True)


@pytest.fixture(scope="session")
def digits(): return load_images("digits")


@pytest.fixture
def cifar_folder():
    if not (shared/"cifar10").is_dir(): pytest.skip(f"{shared/'cifar10'} is not here")
    return shared/"cifar10"


@pytest.fixture(scope="session")
def write_tree():
    "Write images as root/class/name.png; sizes, modes and class names as the test asks."
    def write(root, classes=("cat", "dog"), each=4, size=(16, 16), mode="RGB", seed=0):
        rng = np.random.default_rng(seed)
        for c in classes:
            (root/c).mkdir(parents=True, exist_ok=True)
            for i in range(each):
                h, w = size if not callable(size) else size(i)
                pixels = torch.from_numpy(rng.integers(0, 256, (1 if mode == "L" else 3, h, w), dtype=np.uint8))
                TF.to_pil_image(pixels).save(root/c/f"{i}.png")
        return root
    return write


@pytest.fixture(scope="session")
def browser():
    "One Chromium for all tests of a process, which can hold only one of playwright's loops."
    chromium = shutil.which("chromium")
    if not chromium: pytest.skip("chromium is not here; apt-get install chromium")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=switches, timeout=300_000)
        yield b
        b.close()


@pytest.fixture
def tab(browser):
    "A page of the browser. In the end it has complained of nothing, and fetched nothing from elsewhere."
    said, fetched = [], []
    page = browser.new_page(viewport=dict(width=400, height=800))
    page.on("console", lambda m: said.append(m.text))
    page.on("pageerror", lambda e: said.append(str(e)))
    page.on("request", lambda r: fetched.append(r.url))
    yield page
    page.close()
    assert not said and fetched and all(u.startswith(("file://", "data:")) for u in fetched)


class Here(Engine):
    "For papermill: cells run in this process, which has imported already what a kernel takes ten seconds for."
    @classmethod
    def execute_managed_notebook(cls, notebook, kernel_name, **options):
        shell = CaptureShell()
        for i, cell in enumerate(notebook.nb.cells):
            if cell.cell_type != "code": continue
            notebook.cell_start(cell, i)
            outputs = shell.run(cell.source)
            cell.update(nbformat.from_dict(dict(outputs=outputs, execution_count=shell.execution_count - 1)))
            if shell.exc: notebook.cell_exception(cell, i)
            notebook.cell_complete(cell, i)
            if shell.exc: break
        shell.close()


papermill_engines.register("here", Here)


@pytest.fixture(scope="module")
def pages_here():
    "papermill starts no kernel, from the first test of a module that asks for this to its last."
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(papermill_engines._engines, None, Here)
        yield
