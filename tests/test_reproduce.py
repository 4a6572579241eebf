"""`adq reproduce`: all pages at smoke size, failures, and sweeps that are interrupted or share a store."""
import json, os, re, shutil, signal, subprocess, sys, time
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pandas as pd, pytest, torch

from adq.cli import main, page_names
from adq.experiments import Experiment, by_value, collect, experiment, read_rows, sweep, table3
from adq.figures import index_page
from adq.settings import load_settings, package_folder

smoke = load_settings("smoke")
script = """
from adq.experiments import experiment, sweep
from adq.settings import load_settings
s = load_settings("smoke")
sweep([experiment(s, "random", keep=0.1, seed=i) for i in range({count})], {folder!r}, s, jobs={jobs})
"""


def keys(folder): return [row["key"] for row in read_rows(folder)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce")/"pages"
    assert main(["reproduce", "all", "--profile", "smoke", "--out", str(out), "--jobs", "2"]) == 0
    return out


def test_every_page_is_made(pages):
    for name in page_names:
        page = json.loads((pages/f"{name}.ipynb").read_text())
        assert all(c.get("execution_count") for c in page["cells"] if c["cell_type"] == "code")
        assert str(Path.home()) not in json.dumps(page["metadata"])
        assert not [o for c in page["cells"] for o in c.get("outputs", []) if o.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in o.get("data", {})] # no warning, no progress bar
    for name in ("table1", "table2", "table3", "evidence", "readings", "controls", "bin_value", "selections", "cost"): assert all((pages/f"{name}.{e}").stat().st_size for e in ("csv", "md", "tex"))
    for name in ("figure2", "figure4", "figure5", "figure6", "evidence", "readings", "controls", "bin_value", "selections"): assert all((pages/f"{name}.{e}").stat().st_size for e in ("svg", "png"))
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
    assert {p.name for p in pages.glob("[!.]*.*") if p.suffix in (".png", ".svg", ".csv", ".md", ".tex", ".ipynb")} <= {*links}
    for verdict in set(pd.read_csv(pages/"evidence.csv").verdict): assert re.search(rf'<td class="[a-z]+">{verdict}</td>', text)
    assert all(line in text for line in (pages/"evidence.txt").read_text().splitlines())
    row = read_rows(pages)[0]
    assert all(row[name] in text for name in ("source", "device")) and row["commit"][:8] in text and row["finished"][:10] in text
    assert "Profile smoke" in text and "epochs = 1" in text and "What failed" not in text and str(pages) not in text
    copy = shutil.copytree(pages, tmp_path/"copy", ignore=shutil.ignore_patterns("computed", "figure4.ipynb"))
    (copy/"table3.csv").write_bytes(b""); (copy/"runs.jsonl").write_text("{}\n") # as a kill may leave them
    index_page(copy, page_names, smoke, {"figure4": f"failed: ValueError: source '{copy}/none' does not exist"})
    text, links = glance(copy)
    assert "<b>table3.csv</b> is damaged" in text and "<b>runs.jsonl</b> is damaged" in text and "<b>figure4</b> failed: ValueError: source 'none' does not exist" in text and "figure4.png" in links


def test_finished_pages_are_not_made_again(pages, capsys):
    before = {p: p.stat().st_mtime_ns for p in pages.glob("*.ipynb")}
    assert main(["reproduce", "table3", "--profile", "smoke", "--out", str(pages)]) == 0
    assert "as it was" in capsys.readouterr().out and {p: p.stat().st_mtime_ns for p in pages.glob("*.ipynb")} == before
    assert main(["reproduce", "figure2", "--profile", "smoke", "--out", str(pages), "--force", "--stored", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pages"][0]["state"] == "made"


def test_a_page_is_made_again_when_its_runs_settings_or_package_change(tmp_path, capsys, monkeypatch):
    state = lambda *words: (main(["reproduce", "table3", "--profile", "smoke", "--out", str(tmp_path), "--json", "-p", "model=resnet18_narrow", *words]), json.loads(capsys.readouterr().out)["pages"][0]["state"])
    sweep([experiment(smoke, m, keep=0.1, seed=s) for m in ("dq", "rs", "ds", "adq", "random") for s in range(2)], tmp_path, smoke)
    assert state("--stored", "-p", "keep=0.1") == (0, "made") # a list among the parameters
    assert state("-p", "keep=0.1") == (0, "made") # the runs on all data came
    assert state("-p", "keep=0.1") == (0, "as it was")
    assert state("-p", "keep=0.1 0.2", "--stored") == (0, "made")
    other = shutil.copytree(package_folder(), tmp_path/"adq", ignore=shutil.ignore_patterns("__pycache__"))
    with open(other/"figures.py", "a") as f: f.write("# another line\n")
    monkeypatch.setattr("adq.cli.package_folder", lambda: other)
    assert state("-p", "keep=0.1 0.2", "--stored") == (0, "made")


def test_two_processes_make_what_one_makes(tmp_path):
    runs, threads = [experiment(smoke, m, keep=0.1, seed=s) for m in ("random", "dq") for s in range(2)], torch.get_num_threads()
    both = sweep(runs, tmp_path/"two", smoke, jobs=2)
    torch.set_num_threads(max(1, os.cpu_count()//2)) # as each of the two has
    try: alone = sweep(runs, tmp_path/"one", smoke)
    finally: torch.set_num_threads(threads)
    assert both.accuracy.tolist() == alone.accuracy.tolist() and both.device.tolist() == alone.device.tolist()


def test_a_budget_makes_the_first_runs_and_the_next_call_goes_on(tmp_path, capsys):
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


def test_a_budget_may_leave_a_page_without_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adq.cli.page_names", ["figure2", "table3"])
    assert main(["reproduce", "all", "--profile", "smoke", "--out", str(tmp_path), "--budget", "0.001s"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"figure2 .* no run yet\n", out) and "1 of 2 pages" in out and not list(tmp_path.glob("figure2*"))


def test_imagenet_profile_on_class_folders(tmp_path, write_tree, capsys):
    for split in ("train", "val"): write_tree(tmp_path/"photos"/split, each=24, size=lambda i: (20 + i % 3, 24))
    small = dict(source=tmp_path/"photos", extractor="resnet18_narrow/self:1@16", model="resnet18_narrow", architectures="resnet18_narrow", full_architectures="resnet18_narrow", size=16, epochs=1, other_epochs=1, n_bins=4, drop=0.25, reconstruct="mean", batch_size=8, low_keep=0.3, table1_keep=0.5, high_keep=0.6, keep=0.5, other_seeds=2, seeds=2, endpoint_seeds=2, endpoints="adq>dq", second_extractor="resnet18_narrow/self:1@16")
    words = [w for k, v in small.items() for w in ("-p", f"{k}={v}")]
    stored = lambda page: main(["reproduce", page, "--profile", "smoke", "--stored", "--out", str(tmp_path/"smoke")])
    sweep([experiment(smoke, m, keep=k, seed=s) for m in ("dq", "adq") for k in (0.05, 0.1) for s in range(2)], tmp_path/"smoke", smoke)
    assert stored("figure5") == 0
    for page in ("figure5", "table1", "table2", "figure4"): assert main(["reproduce", page, "--profile", "imagenet", "--out", str(tmp_path/"imagenet"), *words]) == 0, capsys.readouterr()
    assert {r["experiment"]["method"] for r in read_rows(tmp_path/"imagenet")} == {"graphcut", "dq", "adq", "full", None}
    capsys.readouterr()
    for page in ("figure5", "evidence"): assert stored(page) == 0 and "as it was" not in (text := capsys.readouterr().out), text # they find the store beside theirs, though their own is as it was
    assert "points lost at 60 % of ImageNet" in (tmp_path/"smoke"/"evidence.csv").read_text()


def test_a_missing_data_set_stops_its_page_and_the_others_go_on(tmp_path, capsys):
    assert main(["reproduce", "figure2", "--profile", "smoke", "-p", f"source={tmp_path/'none'}", "--out", str(tmp_path/"out")]) == 1
    out = capsys.readouterr().out
    assert "failed: ValueError: source" in out and out.count("\n") == 2 and "1 failed" in out and str(tmp_path/"out"/"index.html") in out
    assert not (tmp_path/"out"/"figure2.ipynb").exists()
    assert "<b>figure2</b> failed: ValueError: source" in glance(tmp_path/"out")[0]


def test_a_failing_cell_is_told_and_kept(tmp_path, capsys):
    assert main(["reproduce", "figure2", "--profile", "smoke", "--stored", "--out", str(tmp_path)]) == 1 # there is no run yet
    assert "ValueError: the store has no run for this figure" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figure2.failed.ipynb", "index.html"]
    assert main(["reproduce", "figure4", "--profile", "smoke", "-p", f"source={tmp_path/'none'}", "--out", str(tmp_path)]) == 1 # and is still told with the next page
    text, links = glance(tmp_path)
    assert "<b>figure2</b> failed: ValueError" in text and "<b>figure4</b> failed: ValueError" in text and "figure2.failed.ipynb" in links


@pytest.mark.parametrize("jobs", [1, 2])
def test_kill_loses_and_doubles_no_row(tmp_path, jobs):
    count, store = 12, tmp_path/"runs.jsonl"
    process = subprocess.Popen([sys.executable, "-c", "if __name__ == '__main__':" + script.format(count=count, folder=str(tmp_path), jobs=jobs).replace("\n", "\n    ")], start_new_session=True)
    while not (store.exists() and store.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None, "the sweep ended early"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL); process.wait()
    before = read_rows(tmp_path)
    assert 2 <= len(before) < count
    with open(store, "ab") as f: f.write(b'{"key": "torn')
    rows = sweep([experiment(smoke, "random", keep=0.1, seed=i) for i in range(count)], tmp_path, smoke)
    assert len(rows) == count == len(set(keys(tmp_path))) == len(keys(tmp_path))
    assert read_rows(tmp_path)[:len(before)] == before and (tmp_path/"torn.txt").read_bytes() == b'{"key": "torn\n'


def test_two_sweeps_share_a_store(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", script.format(count=6, folder=str(tmp_path), jobs=1)]) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    assert len(keys(tmp_path)) == 6 == len(set(keys(tmp_path)))


def test_rows_of_other_settings_are_not_mixed_in(tmp_path):
    sweep([experiment(smoke, "random", keep=0.1)], tmp_path, smoke)
    other = replace(smoke, lr=0.05)
    assert len(sweep([experiment(other, "random", keep=0.1)], tmp_path, other)) == 1 and len(keys(tmp_path)) == 2
    with pytest.raises(ValueError, match="'elsewhere'"): collect([experiment(smoke, "random", keep=0.1)], tmp_path, replace(smoke, source="elsewhere"))


def test_everything_of_the_paper_profile_small(tmp_path):
    "Every method at every keep ratio, and every architecture, of the profiles for CIFAR-10."
    paper = replace(load_settings("paper"), source="digits", extractor="resnet18_narrow/self:1", reconstruct="mean", epochs=1, other_epochs=1, points=1, dm_iterations=1, dm_width=4, flip=False, compile=False)
    runs = [experiment(paper, m, keep=k, model="resnet18_narrow") for m in ("random", "graphcut", "dq", "rs", "ds", "adq", "dm") for k in sorted({*paper.keep, *paper.table1_keep, *paper.low_keep, *paper.high_keep})]
    runs += [experiment(paper, "random", keep=0.05, model=m) for m in dict.fromkeys(paper.architectures + load_settings("laptop").architectures)]
    rows = sweep(runs, tmp_path, paper)
    assert len(rows) == len(set(runs)) and rows.accuracy.between(0, 1).all()
    share = rows.keep/(1 - rows["drop"].fillna(0).astype(float)) # of the images
    assert (rows.images == (share*1437 + 1e-9).astype(int)).all() and set(rows.method[rows["drop"] == 0.25]) == {"dq", "rs", "ds", "adq"}
    assert rows["drop"].isna()[rows.keep == 0.8].all() # more than whole patches can give
