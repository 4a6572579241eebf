"""`adq reproduce`: all pages at smoke size, failures, and sweeps that are interrupted or share a store."""
import json, os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

import pytest

from adq.cli import main, page_names
from adq.experiments import experiment, read_rows, sweep
from adq.settings import load_settings

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
    for name in ("table1", "table2", "table3", "claims", "cost"): assert all((pages/f"{name}.{e}").stat().st_size for e in ("csv", "md", "tex"))
    for name in ("figure2", "figure4", "figure5", "figure6"): assert all((pages/f"{name}.{e}").stat().st_size for e in ("svg", "png"))
    assert len(keys(pages)) == len(set(keys(pages)))
    assert not list(pages.glob(".*.new*")) and not list(pages.glob("*.failed.ipynb"))


def test_finished_pages_are_not_made_again(pages, capsys):
    before = {p: p.stat().st_mtime_ns for p in pages.glob("*.ipynb")}
    assert main(["reproduce", "table3", "--profile", "smoke", "--out", str(pages)]) == 0
    assert "as it was" in capsys.readouterr().out and {p: p.stat().st_mtime_ns for p in pages.glob("*.ipynb")} == before
    assert main(["reproduce", "figure2", "--profile", "smoke", "--out", str(pages), "--force", "--stored", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pages"][0]["state"] == "made"


def test_a_missing_data_set_stops_its_page_and_the_others_go_on(tmp_path, capsys):
    assert main(["reproduce", "figure2", "--profile", "smoke", "-p", f"source={tmp_path/'none'}", "--out", str(tmp_path/"out")]) == 1
    out = capsys.readouterr().out
    assert "failed: ValueError: source" in out and out.count("\n") == 2 and "1 failed" in out
    assert not (tmp_path/"out"/"figure2.ipynb").exists()


def test_a_failing_cell_is_told_and_kept(tmp_path, capsys):
    assert main(["reproduce", "claims", "--profile", "smoke", "--out", str(tmp_path)]) == 1
    assert "FileNotFoundError" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["claims.failed.ipynb"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_kill_loses_and_doubles_no_row(tmp_path, jobs):
    count, store = 12, tmp_path/"runs.jsonl"
    process = subprocess.Popen([sys.executable, "-c", "if __name__ == '__main__':" + script.format(count=count, folder=str(tmp_path), jobs=jobs).replace("\n", "\n    ")], start_new_session=True)
    for _ in range(600):
        if store.exists() and store.read_bytes().count(b"\n") >= 2: break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL); process.wait()
    before = read_rows(tmp_path)
    assert 2 <= len(before) < count
    with open(store, "ab") as f: f.write(b'{"key": "torn')
    rows = sweep([experiment(smoke, "random", keep=0.1, seed=i) for i in range(count)], tmp_path, smoke)
    assert len(rows) == count == len(set(keys(tmp_path))) == len(keys(tmp_path))
    assert read_rows(tmp_path)[:len(before)] == before and (tmp_path/"torn.txt").read_bytes() == b'{"key": "torn\n'


def test_two_sweeps_share_a_store(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", script.format(count=6, folder=str(tmp_path), jobs=1)]) for _ in range(2)]
    assert [p.wait(300) for p in both] == [0, 0]
    assert len(keys(tmp_path)) == 6 == len(set(keys(tmp_path)))


def test_rows_of_other_settings_are_not_mixed_in(tmp_path):
    sweep([experiment(smoke, "random", keep=0.1)], tmp_path, smoke)
    other = replace(smoke, lr=0.05)
    assert len(sweep([experiment(other, "random", keep=0.1)], tmp_path, other)) == 1 and len(keys(tmp_path)) == 2


def test_everything_of_the_paper_profile_small(tmp_path):
    "Every method at every keep ratio, and every architecture, of the profiles for CIFAR-10."
    paper = replace(load_settings("paper"), source="digits", extractor="resnet18_narrow/self:1", epochs=1, points=1, dm_iterations=1, dm_width=4, flip=False, compile=False)
    runs = [experiment(paper, m, keep=k, model="resnet18_narrow") for m in ("random", "graphcut", "dq", "rs", "ds", "adq", "dm") for k in sorted({*paper.keep, *paper.table1_keep, *paper.low_keep, *paper.high_keep})]
    runs += [experiment(paper, "random", keep=0.05, model=m) for m in dict.fromkeys(paper.architectures + load_settings("laptop").architectures)]
    rows = sweep(runs, tmp_path, paper)
    assert len(rows) == len(set(runs)) and rows.accuracy.between(0, 1).all()
    assert all(round(r.keep*1437 - 0.5) <= r.images <= r.keep*1437 for r in rows.itertuples())
