"""`make lab` opens JupyterLab on index.ipynb; notebooks run there from a fresh kernel, and progress is one bar."""
import json, os, re, shutil, signal, socket, subprocess, sys, time
from html import unescape
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook

root = Path(__file__).parents[1]
token = "of-this-test"
patience = 300 # seconds in which nothing moves; a busy machine is slow, but something moves
state = """async () => {
    const panel = window.jupyterapp.shell.currentWidget, kernel = panel.context.sessionContext.session?.kernel
    const cells = [...panel.content.model.cells].filter(c => c.type == "code" && c.sharedModel.getSource().trim())
    const bars = [...document.querySelectorAll(".widget-hprogress, .widget-html")].map(b => b.textContent + b.innerHTML)
    return {idle: kernel?.status == "idle", run: cells.filter(c => c.executionCount).length, all: cells.length,
            outputs: cells.flatMap(c => c.outputs.toJSON()), shown: bars}
}"""


def wait(look, done, pause=lambda: time.sleep(0.1)):
    "What `look` gives once it is `done`. Fails only where it has stayed the same for long."
    seen, since = None, time.monotonic()
    while not done(now := look()):
        if now != seen: seen, since = now, time.monotonic()
        assert time.monotonic() - since < patience, f"nothing has moved for {patience} s: {now}"
        pause()
    return now


def configure(folder):
    "JupyterLab on a free port, with the token of this test; it asks nothing of the network."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = {"ip": "127.0.0.1", "port": port, "port_retries": 0, "open_browser": False, "allow_root": True}
    config = {"ServerApp": server, "IdentityProvider": {"token": token}, "LabApp": {"expose_app_in_browser": True}}
    page = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (folder/"labconfig").mkdir(parents=True)
    (folder/"labconfig"/"page_config.json").write_text(json.dumps(page))
    (folder/"jupyter_server_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def lab(tmp_path_factory, browser):
    "The address that `make lab` opens, on a copy of the repository, with a configuration of its own."
    pytest.importorskip("jupyterlab")
    folder = tmp_path_factory.mktemp("lab")
    copy, config = folder/"with a space", folder/"config"
    unneeded = shutil.ignore_patterns("__pycache__", ".*", "computed", "smoke")
    for name in "nbs", "adq", "paper_figures": shutil.copytree(root/name, copy/name, ignore=unneeded)
    for name in "pyproject.toml", "settings.ini", "requirements.lock", "Makefile", "README.md":
        shutil.copy(root/name, copy/name)
    (copy/".venv").mkdir()
    (copy/".venv"/".ready").touch()
    configure(config)
    own = {"JUPYTER_CONFIG_DIR": config, "JUPYTER_DATA_DIR": folder/"data", "JUPYTER_RUNTIME_DIR": folder/"runtime",
           "IPYTHONDIR": folder/"ipython", "PYTHONPATH": copy}
    with open(folder/"log", "w+") as log:
        process = subprocess.Popen(["make", "-s", "lab", f"BIN={Path(sys.executable).parent}"], cwd=copy,
                                   env=os.environ | {k: str(v) for k, v in own.items()},
                                   stdout=log, stderr=log, start_new_session=True)
        try:
            def opened(): # the page that it hands to the browser, and what it says meanwhile
                assert process.poll() is None, (folder/"log").read_text()
                opening = (folder/"runtime").glob("*file-to-run*.html")
                links = [re.search(r'href="([^"]*)"', p.read_text()) for p in opening]
                return [link[1] for link in links if link], (folder/"log").stat().st_size
            (address, *_), _ = wait(opened, lambda now: now[0])
            yield unescape(address)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


@pytest.fixture(scope="module")
def page(lab, browser):
    page = browser.new_page(viewport=dict(width=1400, height=1000))
    page.set_default_timeout(1000*patience)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.wrong.append(message.text))
    missing = lambda response: response.status >= 400 and page.wrong.append(f"{response.status} {response.url}")
    page.on("response", missing)
    yield page
    page.close()


def errors(now): return [o for o in now["outputs"] if o["output_type"] == "error" or o.get("name") == "stderr"]


is_open = """(panel => panel?.context?.path == '{path}' &&
    panel.context.sessionContext.session?.kernel?.status == 'idle')(window.jupyterapp?.shell.currentWidget)"""


def run_all(page, address):
    """Open a notebook and Run All from a fresh kernel: its outputs once all cells have run or one has failed, and the
    most progress bars seen at once."""
    page.goto(address.replace("?", "?reset&"))
    path = address.partition("/lab/tree/")[2].partition("?")[0]
    page.wait_for_function(is_open.format(path=path))
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    bars = []
    def look():
        bars.append(page.locator(".widget-hprogress:visible").count())
        return page.evaluate(state)
    done = lambda now: now["idle"] and (now["run"] == now["all"] or errors(now))
    now = wait(look, done, lambda: page.wait_for_timeout(100))
    return now | {"bars": max(bars)}


def test_make_lab_opens_on_index(lab, page):
    assert lab.endswith(f"/lab/tree/nbs/index.ipynb?token={token}")
    now = run_all(page, lab)
    page.wait_for_load_state("networkidle")
    assert errors(now) == [] and page.wrong == []


@pytest.mark.parametrize("name", ["foundations/00_settings", "method/05_sampling"])
def test_a_notebook_runs(lab, page, name):
    now = run_all(page, lab.replace("index", name))
    assert errors(now) == [] and page.wrong == []


bars = """
from adq import compress, load_images
from adq.train import train
compress(load_images("digits"), 0.1, patch_keep=0.75, extractor="resnet18_narrow/self:2", progress=True)
train(load_images("digits"), load_images("digits", "test"), "resnet18_narrow", epochs=2, batch_size=64, lr=0.1,
      progress=True)
"""


def test_progress_is_one_bar(lab, page):
    python = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    notebook = new_notebook(cells=[new_code_cell(bars)], metadata=python)
    address = lab.replace("/lab/tree/", "/api/contents/").replace("index", "bars")
    page.request.put(address, data={"type": "notebook", "content": notebook}, timeout=1000*patience)
    now = run_all(page, lab.replace("index", "bars"))
    assert errors(now) == [] and page.wrong == []
    assert now["bars"] == 1 and page.locator(".widget-hprogress:visible").count() == 0
