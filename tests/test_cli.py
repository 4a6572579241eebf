"""The command line: bad input, outputs written whole or not at all, interrupts, sources of all kinds."""
import json, signal, subprocess, sys, time
from pathlib import Path

import numpy as np, pytest

from adq import store
from adq.cli import main
from adq.store import load

fast = "--profile smoke"


def run(capsys, line, **paths):
    "Exit code, standard output and standard error of one command line."
    try: code = main([word.format(**paths) for word in line.split()])
    except SystemExit as e: code = e.code
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize("line, words", [
    ("compress digits --keep 0 --out {out}", "keep is 0.0; expected a number above 0 and at most 1"),
    ("compress digits --keep 1.5 --out {out}", "keep is 1.5"),
    ("compress digits --keep nan --out {out}", "keep is nan"),
    ("compress digits --keep tenth --out {out}", "'tenth' is not a number"),
    ("compress digits --keep 0.00001 --out {out}", "which is none; expected at least 0.0007"),
    ("compress digits --alpha -0.1 --out {out}", "alpha is -0.1; expected a number from 0"),
    ("compress digits --bins 0 --out {out}", "n_bins is 0"),
    ("compress digits --bins 2.5 --out {out}", "'2.5' is not a whole number"),
    ("compress digits --bins 500 --out {out}", "n_bins is 500, too many for these classes"),
    ("compress dogits --out {out}", "source 'dogits' is neither a folder nor a known data set"),
    ("compress digits --method best --out {out}", "invalid choice: 'best' (choose from"),
    ("compress digits --extractor resnet19/self:1 --out {out}", "network 'resnet19' is unknown; nearest are"),
    ("compress digits --extractor resnet18/no.pt --out {out}", "weights 'no.pt' are no file"),
    ("compress digits --device cuda:77 --out {out}", "device 'cuda:77' is not on this machine"),
    ("compress digits --device gpu --out {out}", "device 'gpu' is unknown"),
    ("compress digits --profile fast --out {out}", "profile 'fast' is unknown; settings.ini has paper"),
    ("compress digits --split dev --out {out}", "split 'dev' is unknown"),
    ("compress digits", "the following arguments are required: --out"),
    ("compress {empty} --out {out}", "is an empty folder"),
    ("compress {one} --split all --out {out}", "one class only, 'cat'"),
    ("compress {bad} --split all --out {out}", "notes.txt' is not an image"),
    ("compress {tree} --split all --extractor {junk} --out {out}", "is not a file of weights that can be read safely"),
    ("train digits --model resnet19", "network 'resnet19' is unknown"),
    ("train digits --epochs 0", "epochs is 0"),
    ("train digits --lr 0", "lr is 0.0"),
    ("train digits --indices {empty}", "has no compressed.json"),
    ("compress digits --patch-keep 0 --out {out}", "patch_keep is 0.0"),
    ("compress digits --keep 0.9 --patch-keep 0.5 --out {out}", "expected keep at most 0.5"),
    ("compress digits --sample 0 --out {out}", "sample is 0.0"),
    ("compress digits --sample 0.1 --keep 0.1 --out {out}", "not allowed with argument"),
    ("compress digits --patch-keep 0.5 --cell 7 --out {out}", "cell is 7; expected a whole number from 1 to 4"),
    ("compress digits --codec gif --out {out}", "invalid choice: 'gif'"),
    ("compress digits --codec original --out {out}", "codec 'original' needs encoded images"),
    ("compress digits --dtype float64 --out {out}", "invalid choice: 'float64'"),
    ("compress digits --work {file} --out {out}", "is a file; expected a folder"),
    ("bins {empty}/features.npy --out {out}", "No such file"),
    ("bins {file} --out {out}", "is none of the files that can be read"),
    ("bins {array} --bins 0 --out {out}", "n_bins is 0; expected a whole number from 1 to 20"),
    ("bins {array} --labels {array} --out {out}", "has shape (20, 3); expected (20,), one for each row of features"),
    ("info {empty}", "has no compressed.json"),
    ("info {out}", "has no compressed.json"),
    ("train digits --reconstruct blur", "is not a compressed set"),
    ("compare digits --methods adq+drop --reconstruct paint", "reconstructor 'paint' is unknown"),
    ("compare digits --methods adq+drop --patch-keep 2", "patch_keep is 2.0"),
    ("compare digits --methods adq+drop --profile laptop", "patch_keep is 1, with which adq+drop drops nothing"),
    ("compare digits --methods best", "method 'best' is unknown"),
    ("compare digits --seeds 0", "seeds is 0"),
    ("train digits --size -5", "size is -5; expected a whole number of at least 8"),
    ("train digits --model vit_tiny_patch16_224", "does not take images of 8 pixels"),
    ("train digits --seed -1", "seed is -1"),
    ("compress digits --seed -1 --out {out}", "seed is -1; expected a whole number from 0"),
    ("compress digits --out {file}/small", "is a file; expected a new or empty folder"),
    ("compress {tree} --split all --out {tree}/small", "is inside the source"),
    ("compress digits --extractor resnet18/self:0 --out {out}", "self:N with N at least 1"),
    ("compare digits --epochs 0 --out {out}", "epochs is 0"),
    ("reproduce table9", "page 'table9' is unknown; expected all, figure2, table3"),
    ("reproduce table3 --profile phone --out {out}", "profile 'phone' is unknown; settings.ini has paper"),
    ("reproduce table3 -p colour=red --out {out}", "parameter 'colour' is unknown; expected one of alpha"),
    ("reproduce table3 -p seeds --out {out}", "-p seeds is not of the form KEY=VALUE"),
    ("reproduce table3 -p seeds=few --out {out}", "setting seeds = 'few' should be a whole number"),
    ("reproduce table3 -p keep=2 --out {out}", "keep is 2.0; expected a number above 0"),
    ("reproduce table3 --jobs 0 --out {out}", "jobs is 0"),
    ("fly digits", "invalid choice: 'fly'"),
    ("", "required"),
])
def test_bad_input(capsys, tmp_path, write_tree, line, words):
    paths = {name: tmp_path/name for name in ("empty", "one", "bad", "tree", "out")}
    paths["empty"].mkdir(); write_tree(paths["one"], classes=("cat",)); write_tree(paths["bad"]); write_tree(paths["tree"], each=20)
    (paths["bad"]/"cat"/"notes.txt").write_text("x"); (tmp_path/"junk.pt").write_bytes(b"junk")
    paths["array"] = tmp_path/"array.npy"
    np.save(paths["array"], np.ones((20, 3)))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(capsys, line, file=tmp_path/"junk.pt", junk=f"resnet18_narrow/{tmp_path/'junk.pt'}@16", **paths)
    assert code == 2 and out == ""
    assert err.startswith("adq: error: ") and words in err and err.count("\n") == 1 and "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_compress_train_and_force(capsys, tmp_path):
    code, out, _ = run(capsys, f"compress digits {fast} --keep 0.2 --out {{o}} --json", o=tmp_path/"o")
    result = json.loads(out)
    assert code == 0 and result["kept"] == 287 == sum(result["quotas"])
    indices = load(tmp_path/"o").indices
    assert len(indices) == 287 and (np.diff(indices) > 0).all()
    assert sorted(p.name for p in (tmp_path/"o").iterdir()) == ["README.md", "bins.npy", "compressed.json", "data", "scores.png", "scores.svg"]

    code, _, err = run(capsys, f"compress digits {fast} --out {{o}}", o=tmp_path/"o")
    assert code == 2 and "is not empty" in err and len(load(tmp_path/"o")) == 287
    code, *_ = run(capsys, f"compress digits {fast} --keep 0.1 --method dq --force --out {{o}}", o=tmp_path/"o")
    assert code == 0 and len(load(tmp_path/"o")) == 143

    code, out, _ = run(capsys, f"train digits {fast} --indices {{o}} --json", o=tmp_path/"o")
    assert code == 0 and json.loads(out)["images"] == 143
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


def test_force_never_replaces_what_adq_did_not_write(capsys, tmp_path):
    (tmp_path/"thesis.tex").write_text("years of work"); (tmp_path/"compressed.json").write_text("{}")
    code, _, err = run(capsys, f"compress digits {fast} --force --out {{o}}", o=tmp_path)
    assert code == 2 and "which adq did not write" in err and (tmp_path/"thesis.tex").exists()


def test_indices_of_other_images_are_refused(capsys, tmp_path, write_tree):
    write_tree(tmp_path/"tree", each=30)
    assert run(capsys, f"compress {{t}} {fast} --method random --out {{o}}", t=tmp_path/"tree", o=tmp_path/"o")[0] == 0
    code, _, err = run(capsys, f"train digits {fast} --indices {{o}}", o=tmp_path/"o")
    assert code == 2 and "labels or images do not match" in err
    for spoil in ("[]", "{}"):
        about = (tmp_path/"o"/"compressed.json").read_text()
        (tmp_path/"o"/"compressed.json").write_text(spoil)
        code, _, err = run(capsys, f"train {{t}} {fast} --indices {{o}}", t=tmp_path/"tree", o=tmp_path/"o")
        assert code == 2 and "is damaged" in err
        (tmp_path/"o"/"compressed.json").write_text(about)


def test_images_of_different_sizes(capsys, tmp_path, write_tree):
    write_tree(tmp_path/"tree", each=30, size=lambda i: (20 + i, 24))
    code, _, err = run(capsys, f"compress {{t}} {fast} --out {{o}}", t=tmp_path/"tree", o=tmp_path/"o")
    assert code == 2 and "expected an input size" in err
    code, out, _ = run(capsys, f"compress {{t}} {fast} --bins 4 --keep 0.25 --extractor resnet18_narrow/self:1@16 --out {{o}} --json", t=tmp_path/"tree", o=tmp_path/"o")
    assert code == 0 and json.loads(out)["kept"] == 12
    code, out, _ = run(capsys, f"train {{t}} {fast} --size 16 --indices {{o}} --json", t=tmp_path/"tree", o=tmp_path/"o")
    assert code == 0 and json.loads(out)["images"] == 12


def test_a_failing_rename_puts_the_earlier_result_back(capsys, tmp_path, monkeypatch):
    assert run(capsys, f"compress digits {fast} --method random --out {{o}}", o=tmp_path/"o")[0] == 0
    rename = Path.rename
    def fail(self, target):
        if self.name.endswith(".new"): raise OSError("the disk is gone")
        return rename(self, target)
    monkeypatch.setattr(Path, "rename", fail)
    code, _, err = run(capsys, f"compress digits {fast} --method random --keep 0.5 --force --out {{o}}", o=tmp_path/"o")
    assert code == 2 and "the disk is gone" in err
    assert len(load(tmp_path/"o")) == 143 and [p.name for p in tmp_path.iterdir()] == ["o"]


def test_interrupt_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from adq.cli import main; print('go', flush=True); sys.exit(main())", # a shell starts background jobs with SIGINT ignored
               "compress", "digits", "--profile", "demo", "--extractor", "resnet18_narrow/self:500", "--out", str(tmp_path/"o")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "adq: interrupted, nothing was written" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_goes_on_after_its_last_stage(capsys, tmp_path):
    killed = "import os, signal, sys; from adq import cli, pipeline; pipeline.here.graphcut_bins = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL); cli.main()"
    line = f"compress digits {fast} --keep 0.1 --out"
    assert subprocess.run([sys.executable, "-c", killed, *line.split(), str(tmp_path/"o")]).returncode == -signal.SIGKILL
    stages = lambda: {p.name: p.stat().st_mtime_ns for p in (tmp_path/"o.work").iterdir() if p.suffix in (".npy", ".pt")}
    before = stages()
    assert sorted(n.partition("-")[0] for n in before) == ["extractor", "features"] and not (tmp_path/"o").exists()
    assert run(capsys, f"{line} {{o}} --work {{w}}", o=tmp_path/"o", w=tmp_path/"o.work")[0] == 0
    after = stages()
    assert len(after) == 6 and {name: after[name] for name in before} == before
    assert run(capsys, f"{line} {{o}}", o=tmp_path/"whole")[0] == 0 and not (tmp_path/"whole.work").exists()
    assert (load(tmp_path/"o").indices == load(tmp_path/"whole").indices).all()


def test_other_images_under_the_same_path_are_other_stages(capsys, tmp_path, write_tree):
    line = f"compress {{t}} --split all {fast} --bins 4 --keep 0.25 --work {{w}} --json --out {{o}}"
    for seed in 0, 1:
        write_tree(tmp_path/"tree", each=30, seed=seed)
        assert run(capsys, line, t=tmp_path/"tree", w=tmp_path/"work", o=tmp_path/f"o{seed}")[0] == 0
    kinds = [p.name.partition("-")[0] for p in (tmp_path/"work").glob("*.npy")]
    assert sorted(kinds) == sorted(2*["features", "bins", "texture", "views", "diversity"])
    assert run(capsys, line, t=tmp_path/"tree", w=tmp_path/"fresh", o=tmp_path/"o")[0] == 0
    assert (load(tmp_path/"o").indices == load(tmp_path/"o1").indices).all()


def test_a_failure_while_saving_leaves_the_earlier_result(capsys, tmp_path, monkeypatch):
    assert run(capsys, f"compress digits {fast} --method random --out {{o}}", o=tmp_path/"o")[0] == 0
    before = (tmp_path/"o"/"compressed.json").read_bytes()
    def fail(*args, **kwargs): raise OSError("No space left on device")
    monkeypatch.setattr(store, "checksum", fail)
    code, _, err = run(capsys, f"compress digits {fast} --method random --keep 0.5 --force --out {{o}}", o=tmp_path/"o")
    assert code == 2 and "No space left" in err
    assert (tmp_path/"o"/"compressed.json").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["o"]
