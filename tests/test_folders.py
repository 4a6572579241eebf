"""Files and folders that are there whole or not at all: failures, kills, strangers' things, links, torn lines."""
import multiprocessing, os, signal

import pytest

from adq import folders
from adq.cli import main
from adq.folders import (append_line, check_new, identity, locked, new_folder, once, read_lines, signed, work_folder,
                         write_aside)

forked = multiprocessing.get_context("fork")


def names(folder): return sorted(p.name for p in folder.iterdir())


def result(folder, during=lambda: None, text="{}", **options):
    with new_folder(folder, **options) as aside:
        (aside/"compressed.json").write_text(text)
        during()


def killed(call, *args):
    "Run a call in a process that kills itself in it."
    process = forked.Process(target=call, args=args)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def die(): os.kill(os.getpid(), signal.SIGKILL)


def test_a_lock_leaves_nothing_and_a_dead_process_holds_none(tmp_path):
    def hold():
        with locked(tmp_path/"new"/"file"): die()
    killed(hold)
    assert names(tmp_path/"new") == [".file.adq.lock"]
    with locked(tmp_path/"new"/"file", wait=False): pass
    assert names(tmp_path/"new") == []
    with locked(tmp_path/"other"/"deep"/"file"): assert (tmp_path/"other"/"deep").is_dir()
    assert names(tmp_path) == ["new"] # was there before


def test_a_lock_may_be_taken_again_and_stays_until_the_last(tmp_path):
    with locked(tmp_path/"file"):
        with locked(tmp_path/"file", wait=False): pass
        assert names(tmp_path) == [".file.adq.lock"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["page.html", "array.npy", "plain", "two.dots.csv"])
def test_a_file_is_there_whole_or_as_it_was(tmp_path, name):
    path = tmp_path/name
    with write_aside(path) as aside:
        aside.write_text("first")
        assert aside.suffix == (path.suffix or ".new") and aside.name[0] == "." and not path.exists()
    for fails in KeyboardInterrupt, OSError, ValueError:
        with pytest.raises(fails):
            with write_aside(path) as aside:
                aside.write_text("half")
                raise fails
    def write():
        with write_aside(path) as aside:
            aside.write_text("half")
            die()
    killed(write)
    assert len(names(tmp_path)) == 3 and path.read_text() == "first"
    with write_aside(path) as aside: aside.write_text("second") # clears away what the dead one left
    assert names(tmp_path) == [name] and path.read_text() == "second"


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path/"real").mkdir()
    (tmp_path/"page").symlink_to(tmp_path/"real"/"page")
    with write_aside(tmp_path/"page") as aside: aside.write_text("x")
    assert (tmp_path/"page").is_symlink() and names(tmp_path/"real") == ["page"]
    assert (tmp_path/"real"/"page").read_text() == "x"


def test_once_makes_again_what_a_killed_process_left_half(tmp_path):
    def make(aside):
        aside.write_text("half")
        die()
    killed(once, tmp_path/"of"/"file.npy", make)
    assert once(tmp_path/"of"/"file.npy", lambda aside: aside.write_text("whole")).read_text() == "whole"
    once(tmp_path/"of"/"file.npy", lambda aside: 1/0)
    assert names(tmp_path/"of") == ["file.npy"]


def test_file_and_names_are_on_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(folders, "_sync", lambda path: done.append(path.name if path.exists() else None))
    with write_aside(tmp_path/"file") as aside: aside.write_text("x")
    assert done == [aside.name, tmp_path.name]
    done.clear()
    result(tmp_path/"set")
    first, *others = sorted(done[:-1])
    assert done[-1] == tmp_path.name and first.startswith(".set.adq-") and others == ["compressed.json"]


@pytest.mark.parametrize("make, name", [
    (lambda p: (p/"drafts").mkdir(), "drafts"), (lambda p: (p/"data"/"raw").mkdir(parents=True), "data/raw"),
    (lambda p: (p/"photos").symlink_to(p.parent), "photos"), (lambda p: (p/"data").symlink_to(p.parent), "data"),
    (lambda p: (p/"bins.npy").symlink_to(p/"nowhere"), "bins.npy"),
    (lambda p: (p/"indices.npy").touch(), "indices.npy"),
    (lambda p: (p/"data").mkdir() or (p/"data"/"thesis.tex").touch(), "data/thesis.tex"),
    (lambda p: (p/"README.md").write_text(signed("# a\n").replace("a", "b")), "README.md"),
    (lambda p: os.mkfifo(p/"pipe"), "pipe"),
    (lambda p: [(p/name).write_text("my notes") for name in ("bins.npy", "torn.txt", "comparison.csv")], "bins.npy"),
])
def test_force_replaces_nothing_that_is_not_ours(tmp_path, make, name):
    (tmp_path/"set").mkdir()
    make(tmp_path/"set")
    before = sorted(tmp_path.rglob("*"))
    for call in (check_new, result):
        with pytest.raises(ValueError, match=f"holds '{name}', which adq did not write"):
            call(tmp_path/"set", force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_is_no_output(tmp_path):
    (tmp_path/"real").mkdir()
    (tmp_path/"link").symlink_to("real")
    (tmp_path/"dangling").symlink_to("nowhere")
    for name in "link", "dangling":
        for force in True, False:
            with pytest.raises(ValueError, match="is a link to"): result(tmp_path/name, force=force)
    assert names(tmp_path) == ["dangling", "link", "real"] and names(tmp_path/"real") == []
    (tmp_path/"parent").symlink_to("real")
    result(tmp_path/"parent"/"set") # above it there may be links
    assert names(tmp_path/"real") == ["set"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("appear", [
    lambda p: (p/"drafts").mkdir(parents=True), lambda p: p.write_text("years"), lambda p: p.symlink_to(p.parent)])
def test_what_appears_in_the_meantime_stays(tmp_path, appear, force):
    there = tmp_path/"set"
    with pytest.raises(ValueError, match="in the meantime|did not write"):
        result(there, lambda: appear(there), force=force)
    assert names(tmp_path) == ["set"] and (there.is_symlink() or there.is_file() or names(there) == ["drafts"])


def test_what_is_added_to_an_earlier_result_in_the_meantime_stays_with_it(tmp_path):
    result(tmp_path/"set", text="1")
    there = tmp_path/"set"
    with pytest.raises(ValueError, match="holds 'thesis.tex'"):
        result(there, lambda: (there/"thesis.tex").touch(), text="2", force=True)
    assert names(tmp_path) == ["set"] and names(there) == ["compressed.json", "thesis.tex"]
    assert (there/"compressed.json").read_text() == "1"


def test_an_empty_folder_and_a_result_are_replaced(tmp_path):
    (tmp_path/"set").mkdir()
    result(tmp_path/"set", text="1")
    with pytest.raises(ValueError, match="is not empty"): result(tmp_path/"set", text="2")
    result(tmp_path/"set", text="2", force=True)
    assert names(tmp_path) == ["set"] and (tmp_path/"set"/"compressed.json").read_text() == "2"


def test_names_like_ours_of_other_results_are_left_alone(tmp_path):
    others = [f".sets.adq-{'0'*16}.new", f".set.adq-{'0'*15}.new", f".set.adq-{'0'*16}.work", ".set.mine.new",
              "set.work", "set.new", ".set.new"]
    for name in others: (tmp_path/name).mkdir()
    result(tmp_path/"set")
    assert names(tmp_path) == sorted([*others, "set"])


def test_what_a_killed_run_moved_aside_is_put_back_or_kept(tmp_path):
    old = tmp_path/f".set.adq-{'0'*16}.old"
    result(tmp_path/"set", text="1")
    (tmp_path/"set").rename(old)
    with pytest.raises(ValueError, match="is not empty"): result(tmp_path/"set")
    assert names(tmp_path) == ["set"]
    (tmp_path/"set").rename(old)
    (old/"thesis.tex").touch()
    result(tmp_path/"other")
    (tmp_path/"other").rename(tmp_path/"set")
    result(tmp_path/"set", force=True)
    assert names(old) == ["compressed.json", "thesis.tex"]


def test_rows_are_added_whole(tmp_path):
    path = tmp_path/"store"/"runs.jsonl"
    assert read_lines(path) == []
    append_line(path, dict(a=1))
    append_line(path, dict(a="ü\n\u2028"))
    assert read_lines(path) == [dict(a=1), dict(a="ü\n\u2028")] and names(path.parent) == ["runs.jsonl"]
    for torn in b'{"a": 3', b"{", b'{"a": "\xc3', b"nonsense", b"3":
        path.write_bytes(path.read_bytes() + torn)
        rows = read_lines(path)
        append_line(path, dict(a=len(rows)))
        assert read_lines(path) == [*rows, dict(a=len(rows))]
        assert (path.parent/"torn.txt").read_bytes().endswith(torn + b"\n")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    rows = read_lines(path)
    append_line(path, dict(a="last"))
    assert read_lines(path) == [*rows, dict(a="last")]
    for damage in b"\n", b"[]\n", b'{"a": \n', b"\xff\n":
        path.write_bytes(b'{"a": 1}\n' + damage + b'{"a": 2}\n')
        with pytest.raises(ValueError, match="line 2 of .* is not the row of a run"):
            read_lines(path, "the row of a run")


def test_identity_is_of_content(tmp_path):
    folder = work_folder(tmp_path/"set", a=1, b=2)
    assert work_folder(tmp_path/"x"/".."/"set", b=2, a=1) == folder != work_folder(tmp_path/"set", a=1, b=3)
    assert identity(a={"x": 1, "y": 2}) == identity(a={"y": 2, "x": 1}) and len(identity()) == 16


@pytest.mark.parametrize("work, words", [
    ("photos", "is in the source"), ("photos/cat", "is in the source"), ("out", "is the output"), (".", "holds it"),
    ("out/work", "is in it"), ("file", "is a file")])
def test_a_work_folder_is_neither_source_nor_output(tmp_path, write_tree, capsys, work, words):
    write_tree(tmp_path/"photos", each=20)
    (tmp_path/"file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(["compress", str(tmp_path/"photos"), "--profile", "smoke", "--split", "all",
                 "--out", str(tmp_path/"out"), "--work", str(tmp_path/work)]) == 2
    assert words in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("method", ["random", "dq"])
def test_folders_that_look_like_work_folders_stay(tmp_path, write_tree, method):
    source = write_tree(tmp_path/"photos.work", each=20)
    (tmp_path/"photos").mkdir()
    before = sorted(source.rglob("*"))
    assert main(["compress", str(source), "--profile", "smoke", "--split", "all", "--keep", "0.5", "--bins", "4",
                 "--method", method, "--out", str(tmp_path/"photos")]) == 0
    assert sorted(source.rglob("*")) == before and names(tmp_path) == ["photos", "photos.work"]
