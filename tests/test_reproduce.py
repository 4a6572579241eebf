"""`adq reproduce`: all pages at smoke size, failures, and sweeps that are interrupted or share a store."""
import json, os, re, shutil, subprocess, sys, time
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pandas as pd, psutil, pytest, torch

from adq.cli import main
from adq.execute import page_names
from adq.experiments import Experiment, by_value, collect, experiment, read_rows, sweep, table3
from adq.pages import index_page, reproduce
from adq.settings import load_settings, package_folder

smoke = load_settings("smoke")
script = """
from adq.experiments import experiment, sweep
from adq.settings import load_settings
if __name__ == '__main__': # which the processes of a sweep import
    s = load_settings("smoke")
    sweep([experiment(s, "random", keep=0.1, seed=i) for i in range({count})], {folder!r}, s, jobs={jobs})
"""


def keys(folder): return [row["key"] for row in read_rows(folder)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory, pages_here):
    out = tmp_path_factory.mktemp("reproduce")/"pages"
    assert main(["reproduce", "all", "--profile", "smoke", "--out", str(out)]) == 0
    return out


both = "evidence", "readings", "controls", "bin_value", "selections"
tables = *both, "table1", "table2", "table3", "cost"
figures = *both, "figure2", "figure4", "figure5", "figure6"


def is_noise(output):
    "A warning, or a progress bar."
    return output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def test_every_page_is_made(pages):
    for name in page_names:
        page = json.loads((pages/f"{name}.ipynb").read_text())
        assert all(c.get("execution_count") for c in page["cells"] if c["cell_type"] == "code")
        assert not [p for p in (Path.home(), Path(__file__).parents[1]) if str(p) in json.dumps(page["metadata"])]
        assert not [o for c in page["cells"] for o in c.get("outputs", []) if is_noise(o)]
    for name in tables: assert all((pages/f"{name}.{e}").stat().st_size for e in ("csv", "md", "tex"))
    for name in figures: assert all((pages/f"{name}.{e}").stat().st_size for e in ("svg", "png"))
    assert len(keys(pages)) == len(set(keys(pages)))
    assert not list(pages.glob(".*.new*")) and not list(pages.glob("*.failed.ipynb"))


def glance(folder):
    "index.html as text, once every link and picture of it is a file beside it, and nothing of it is elsewhere."
    text = (folder/"index.html").read_text(encoding="utf-8")
    links = [unquote(link) for link in re.findall(r'(?:href|src)="([^"]*)"', text)]
    assert all((folder/link).is_file() and "/" not in link for link in links) and "://" not in text
    assert all(re.search(r'alt="[^"]{4,}"', image) for image in re.findall("<img[^>]*>", text))
    return unescape(text), links


def test_index_shows_the_folder(pages, tmp_path):
    text, links = glance(pages)
    endings = ".png", ".svg", ".csv", ".md", ".tex", ".ipynb", ".html"
    assert {p.name for p in pages.glob("[!.]*.*") if p.suffix in endings} - {"index.html"} <= {*links}
    verdicts = set(pd.read_csv(pages/"evidence.csv").verdict)
    assert all(re.search(rf'<td class="[a-z]+">{verdict}</td>', text) for verdict in verdicts)
    assert all(line in text for line in (pages/"evidence.txt").read_text().splitlines())
    row = read_rows(pages)[0]
    assert all(told in text for told in (row["source"], row["device"], row["commit"][:8], row["finished"][:10]))
    assert "Profile smoke" in text and "epochs = 1" in text and "What failed" not in text and str(pages) not in text
    copy = shutil.copytree(pages, tmp_path/"copy", ignore=shutil.ignore_patterns("computed", "figure4.ipynb"))
    (copy/"table3.csv").write_bytes(b"") # as a kill may leave them
    (copy/"runs.jsonl").write_text("{}\n")
    index_page(copy, page_names, smoke, {"figure4": f"failed: ValueError: source '{copy}/none' does not exist"})
    text, links = glance(copy)
    assert "<b>table3.csv</b> is damaged" in text and "<b>runs.jsonl</b> is damaged" in text
    assert "<b>figure4</b> failed: ValueError: source 'none' does not exist" in text and "figure4.png" in links


def test_finished_pages_are_not_made_again(pages, capsys):
    before = {p: p.stat().st_mtime_ns for p in pages.glob("*.ipynb")}
    (left := pages/"table3.failed.ipynb").touch() # by a call with other parameters
    assert main(["reproduce", "table3", "--profile", "smoke", "--out", str(pages)]) == 0
    assert "as it was" in capsys.readouterr().out and not left.exists()
    assert {p: p.stat().st_mtime_ns for p in pages.glob("*.ipynb")} == before
    forced = ["reproduce", "figure2", "--profile", "smoke", "--out", str(pages), "--force", "--stored", "--json"]
    assert main(forced) == 0
    assert json.loads(capsys.readouterr().out)["pages"][0]["state"] == "made"


def test_a_page_is_made_again_when_its_runs_settings_or_package_change(tmp_path, monkeypatch, pages):
    def state(stored=False, **changes):
        changes |= dict(model="resnet18_narrow")
        return reproduce(["table3"], "smoke", tmp_path, changes=changes, stored=stored)["pages"][0]["state"]
    lines = (pages/"runs.jsonl").read_text().splitlines(keepends=True)
    (tmp_path/"runs.jsonl").write_text("".join(line for line in lines if '"method": "full"' not in line))
    assert state(stored=True, keep=(0.1,)) == "made" # a list among the parameters
    assert state(keep=(0.1,)) == "made" # the runs on all data came
    assert state(keep=(0.1,)) == "as it was"
    assert state(stored=True, keep=(0.1, 0.2)) == "made"
    other = shutil.copytree(package_folder(), tmp_path/"adq", ignore=shutil.ignore_patterns("__pycache__"))
    with open(other/"figures.py", "a") as f: f.write("# another line\n")
    monkeypatch.setattr("adq.pages.package_folder", lambda: other)
    assert state(stored=True, keep=(0.1, 0.2)) == "made"


def test_a_budget_makes_the_first_runs_and_the_next_call_goes_on(tmp_path, capsys, pages_here):
    runs, out = by_value(table3(smoke), smoke), tmp_path/"out"
    def reproduce(*words):
        assert main(["reproduce", "table3", "--profile", "smoke", "--out", str(out), *words]) == 0
        return [Experiment(**row["experiment"]) for row in read_rows(out)], capsys.readouterr().out
    made, told = reproduce("--budget", "0.001s") # each process makes one run, however long it takes
    assert made == runs[:1] and f"table3.ipynb  ({len(runs) - 1} of {len(runs)} runs are missing)" in told
    made, told = reproduce("--budget", "0.001s", "--jobs", "2", "--json")
    page = json.loads(told)["pages"][0]
    assert set(made) == set(runs[:3]) and (page["state"], page["missing"]) == ("made", len(runs) - 3)
    made, told = reproduce()
    assert len(made) == len(runs) and set(made) == set(runs) and "missing" not in told
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, os.cpu_count()//2)) # as each of the two processes had
    try: alone = sweep(runs[1:3], tmp_path/"alone", smoke)
    finally: torch.set_num_threads(threads)
    both = collect(runs[1:3], out, smoke)
    assert both.accuracy.tolist() == alone.accuracy.tolist() and both.device.tolist() == alone.device.tolist()


def test_a_budget_may_leave_a_page_without_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adq.cli.page_names", ["figure2", "table3"])
    assert main(["reproduce", "all", "--profile", "smoke", "--out", str(tmp_path), "--budget", "0.001s"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"figure2 .* no run yet\n", out) and "1 of 2 pages" in out and not list(tmp_path.glob("figure2*"))


def test_imagenet_profile_on_class_folders(tmp_path, write_tree, capsys, pages):
    for split in ("train", "val"): write_tree(tmp_path/"photos"/split, each=24, size=lambda i: (20 + i % 3, 24))
    small = dict(source=tmp_path/"photos", size=16, n_bins=4, drop=0.25, reconstruct="mean", batch_size=8, epochs=1,
                 other_epochs=1, seeds=2, other_seeds=2, endpoint_seeds=2, endpoints="adq>dq",
                 keep=0.5, low_keep=0.3, table1_keep=0.5, high_keep=0.6)
    small |= dict.fromkeys(("model", "architectures", "full_architectures"), "resnet18_narrow")
    small |= dict.fromkeys(("extractor", "second_extractor"), "resnet18_narrow/self:1@16")
    words = [w for k, v in small.items() for w in ("-p", f"{k}={v}")]
    stored = lambda page: main(["reproduce", page, "--profile", "smoke", "--stored", "--out", str(tmp_path/"smoke")])
    (tmp_path/"smoke").mkdir()
    shutil.copy(pages/"runs.jsonl", tmp_path/"smoke")
    assert stored("figure5") == 0
    for page in "figure5", "table1", "table2", "figure4":
        line = ["reproduce", page, "--profile", "imagenet", "--out", str(tmp_path/"imagenet"), *words]
        assert main(line) == 0, capsys.readouterr()
    methods = {row["experiment"]["method"] for row in read_rows(tmp_path/"imagenet")}
    assert methods == {"graphcut", "dq", "adq", "full", None}
    capsys.readouterr()
    for page in "figure5", "evidence": # they find the store beside theirs, though their own is as it was
        assert stored(page) == 0
        assert "as it was" not in capsys.readouterr().out
    assert "points lost at 60 % of ImageNet" in (tmp_path/"smoke"/"evidence.csv").read_text()


def test_a_missing_data_set_stops_its_page_and_the_others_go_on(tmp_path, capsys):
    out = tmp_path/"out"
    words = ["reproduce", "figure2", "--profile", "smoke", "-p", f"source={tmp_path/'none'}"]
    assert main([*words, "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "failed: ValueError: source" in told and "1 failed" in told and str(out/"index.html") in told
    assert told.count("\n") == 2 and not (out/"figure2.ipynb").exists()
    assert "<b>figure2</b> failed: ValueError: source" in glance(out)[0]


def test_a_failing_cell_is_told_and_kept(tmp_path, capsys):
    shared = ["--profile", "smoke", "--out", str(tmp_path)]
    assert main(["reproduce", "figure2", "--stored", *shared]) == 1 # there is no run yet
    assert "ValueError: the store has no run for this figure" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figure2.failed.ipynb", "index.html"]
    assert main(["reproduce", "figure4", "-p", f"source={tmp_path/'none'}", *shared]) == 1
    text, links = glance(tmp_path) # which still tells of the first
    assert "<b>figure2</b> failed: ValueError" in text and "<b>figure4</b> failed: ValueError" in text
    assert "figure2.failed.ipynb" in links


@pytest.mark.parametrize("jobs", [1, 2])
def test_kill_loses_and_doubles_no_row(tmp_path, jobs):
    count, store = 8, tmp_path/"runs.jsonl"
    program = script.format(count=count, folder=str(tmp_path), jobs=jobs)
    process = subprocess.Popen([sys.executable, "-c", program])
    while not (store.exists() and store.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None, "the sweep ended early"
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, 600) # each ends its run at hand, and begins none
    assert not alive
    before = read_rows(tmp_path)
    assert 2 <= len(before) < count
    with open(store, "ab") as f: f.write(b'{"key": "torn')
    rows = sweep([experiment(smoke, "random", keep=0.1, seed=i) for i in range(count)], tmp_path, smoke)
    assert len(rows) == count == len(set(keys(tmp_path))) == len(keys(tmp_path))
    assert read_rows(tmp_path)[:len(before)] == before and (tmp_path/"torn.txt").read_bytes() == b'{"key": "torn\n'


def test_two_sweeps_share_a_store(tmp_path):
    program = script.format(count=6, folder=str(tmp_path), jobs=1)
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [p.wait() for p in processes] == [0, 0]
    assert len(keys(tmp_path)) == 6 == len(set(keys(tmp_path)))


def test_rows_of_other_settings_are_not_mixed_in(tmp_path):
    sweep([experiment(smoke, "random", keep=0.1)], tmp_path, smoke)
    other = replace(smoke, lr=0.05)
    assert len(sweep([experiment(other, "random", keep=0.1)], tmp_path, other)) == 1 and len(keys(tmp_path)) == 2
    with pytest.raises(ValueError, match="'elsewhere'"):
        collect([experiment(smoke, "random", keep=0.1)], tmp_path, replace(smoke, source="elsewhere"))


def test_everything_of_the_paper_profile_small(tmp_path):
    "Every method at the least, the usual and the greatest keep ratio, random at all, and every architecture."
    paper = replace(load_settings("paper"), source="digits", extractor="resnet18_narrow/self:1", reconstruct="mean",
                    epochs=1, other_epochs=1, points=1, dm_iterations=1, dm_width=4, flip=False, compile=False)
    every = "random", "graphcut", "dq", "rs", "ds", "adq", "dm"
    ratios = sorted({*paper.keep, *paper.table1_keep, *paper.low_keep, *paper.high_keep})
    pairs = [(m, k) for m in every for k in (ratios[0], 0.1, ratios[-1])] + [("random", k) for k in ratios[1:-1]]
    runs = [experiment(paper, m, keep=k, model="resnet18_narrow") for m, k in dict.fromkeys(pairs)]
    models = dict.fromkeys(paper.architectures + load_settings("laptop").architectures)
    runs += [experiment(paper, "random", keep=0.05, model=model) for model in models]
    rows = sweep(runs, tmp_path, paper)
    assert len(rows) == len(set(runs)) and rows.accuracy.between(0, 1).all()
    share = rows.keep/(1 - rows["drop"].fillna(0).astype(float)) # of the images
    assert (rows.images == (share*1437 + 1e-9).astype(int)).all()
    assert set(rows.method[rows["drop"] == 0.25]) == {"random", "dq", "rs", "ds", "adq"}
    assert rows["drop"].isna()[rows.keep == 0.8].all() # more than whole patches can give
