"""The command line: bad input, outputs written whole or not at all, interrupts, sources of all kinds."""
import json, os, shutil, signal, subprocess, sys
from pathlib import Path

import numpy as np, pyarrow as pa, pytest, torch

from adq import store
from adq.cli import main
from adq.sources import load_images
from adq.store import load

fast = "--profile smoke"


def run(capsys, line, **paths):
    "Exit code, standard output and standard error of one command line."
    try: code = main([word.format(**paths) for word in line.split()])
    except SystemExit as e: code = e.code
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("small")/"small"
    line = f"compress digits {fast} --method random --patch-keep 0.5 --keep 0.1 --out"
    assert main([*line.split(), str(out)]) == 0
    return out


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
    ("compress {bad} --split all --out {out}", "notes.docx' is not an image"),
    ("compress {tree} --split all --extractor {junk} --out {out}", "is not a file of weights that can be read safely"),
    ("train digits --model resnet19", "network 'resnet19' is unknown"),
    ("train digits --epochs 0", "epochs is 0"),
    ("train digits --lr 0", "lr is 0.0"),
    ("train digits --lr 1e999", "lr is inf"),
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
    ("compare digits --methods best", "invalid choice: 'best' (choose from"),
    ("compare digits --seeds 0", "seeds is 0"),
    ("train digits --size -5", "size is -5; expected a whole number of at least 8"),
    ("train digits --model vit_tiny_patch16_224", "does not take images of 8 pixels"),
    ("train digits --seed -1", "seed is -1"),
    ("compress digits --seed -1 --out {out}", "seed is -1; expected a whole number from 0"),
    ("compress digits --out {file}/small", "is a file; expected a new or empty folder"),
    ("compress {tree} --split all --out {tree}/small", "is inside the source"),
    ("compress digits --extractor resnet18/self:0 --out {out}", "self:N with N at least 1"),
    ("compare digits --epochs 0 --out {out}", "epochs is 0"),
    ("reproduce table9", "page 'table9' is unknown; expected all, figure2, evidence"),
    ("reproduce table3 --profile phone --out {out}", "profile 'phone' is unknown; settings.ini has paper"),
    ("reproduce table3 -p colour=red --out {out}", "parameter 'colour' is unknown; expected alpha"),
    ("reproduce table3 -p seeds --out {out}", "-p seeds is not of the form KEY=VALUE"),
    ("reproduce table3 -p seeds=few --out {out}", "setting seeds = 'few' should be a whole number"),
    ("reproduce table3 -p keep=2 --out {out}", "keep is 2.0; expected a number above 0"),
    ("reproduce table3 --jobs 0 --out {out}", "jobs is 0"),
    ("reproduce table3 --budget 25 --out {out}", "argument --budget: '25' is not a time such as 90s, 25m or 2h"),
    ("reproduce table3 --budget 0m --out {out}", "argument --budget: '0m' is not a time"),
    ("reproduce table3 --budget 25m --stored --out {out}", "--stored: not allowed with argument --budget"),
    ("fly digits", "invalid choice: 'fly'"),
    ("", "required"),
])
def test_bad_input(capsys, tmp_path, write_tree, line, words):
    paths = {name: tmp_path/name for name in ("empty", "one", "bad", "tree", "out")}
    paths["empty"].mkdir()
    write_tree(paths["one"], classes=("cat",))
    write_tree(paths["bad"])
    write_tree(paths["tree"], each=20)
    (paths["bad"]/"cat"/"notes.docx").write_text("x")
    (tmp_path/"junk.pt").write_bytes(b"junk")
    paths["array"] = tmp_path/"array.npy"
    np.save(paths["array"], np.ones((20, 3)))
    before = sorted(tmp_path.rglob("*"))
    junk = tmp_path/"junk.pt"
    code, out, err = run(capsys, line, file=junk, junk=f"resnet18_narrow/{junk}@16", **paths)
    assert code == 2 and out == ""
    assert err.startswith("adq: error: ") and words in err and err.count("\n") == 1 and "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_compress_train_and_force(capsys, tmp_path):
    code, out, _ = run(capsys, f"compress digits {fast} --keep 0.2 --out {{o}} --json", o=tmp_path/"o")
    result = json.loads(out)
    assert code == 0 and result["kept"] == 287 == sum(result["quotas"])
    indices = load(tmp_path/"o").indices
    assert len(indices) == 287 and (np.diff(indices) > 0).all()
    written = ["README.md", "bins.npy", "compressed.json", "data", "scores.png", "scores.svg"]
    assert sorted(p.name for p in (tmp_path/"o").iterdir()) == written

    code, _, err = run(capsys, f"compress digits {fast} --out {{o}}", o=tmp_path/"o")
    assert code == 2 and "is not empty" in err and len(load(tmp_path/"o")) == 287
    code, *_ = run(capsys, f"compress digits {fast} --keep 0.1 --method dq --force --out {{o}}", o=tmp_path/"o")
    assert code == 0 and len(load(tmp_path/"o")) == 143

    code, out, _ = run(capsys, f"train digits {fast} --indices {{o}} --json", o=tmp_path/"o")
    assert code == 0 and json.loads(out)["images"] == 143
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


def test_force_never_replaces_what_adq_did_not_write(capsys, tmp_path):
    (tmp_path/"thesis.tex").write_text("years of work")
    (tmp_path/"compressed.json").write_text("{}")
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


def test_indices_count_in_the_split_that_was_compressed(capsys, tmp_path, write_tree):
    here = dict(t=write_tree(tmp_path/"tree", each=30), o=tmp_path/"o")
    assert run(capsys, f"compress {{t}} {fast} --split all --method random --out {{o}}", **here)[0] == 0
    code, out, err = run(capsys, f"train {{t}} {fast} --indices {{o}}", **here)
    assert code == 0 and "may have been trained on" in err, err


def test_images_of_different_sizes(capsys, tmp_path, write_tree):
    write_tree(tmp_path/"tree", each=30, size=lambda i: (20 + i, 24))
    here = dict(t=tmp_path/"tree", o=tmp_path/"o")
    code, _, err = run(capsys, f"compress {{t}} {fast} --out {{o}}", **here)
    assert code == 2 and "expected an input size" in err
    line = f"compress {{t}} {fast} --bins 4 --keep 0.25 --extractor resnet18_narrow/self:1@16 --out {{o}} --json"
    code, out, _ = run(capsys, line, **here)
    assert code == 0 and json.loads(out)["kept"] == 12
    code, out, _ = run(capsys, f"train {{t}} {fast} --size 16 --indices {{o}} --json", **here)
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


# a shell starts background jobs with SIGINT ignored
interruptible = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
training = """
from adq import pipeline
load_extractor = pipeline.load_extractor
def told(*args, **options):
    print("now", flush=True)
    return load_extractor(*args, **options)
pipeline.load_extractor = told
"""
importing = """
class Slow:
    def find_spec(self, name, *_):
        if name == "timm":
            print("now", flush=True)
            time.sleep(3600)
sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize("when", [importing, training])
def test_interrupt_leaves_nothing(tmp_path, when):
    program = f"{interruptible}\n{when}\nfrom adq.cli import main\nsys.exit(main())"
    line = "compress digits --profile demo --extractor resnet18_narrow/self:5000 --out"
    process = subprocess.Popen([sys.executable, "-c", program, *line.split(), tmp_path/"o"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and err == "adq: interrupted, nothing was written\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line, where, words", [
    ("train digits", "adq.sources.load_images", "nothing was written"),
    ("train digits", "adq.cli._parser", "nothing was written"),
    ("compare digits", "adq.sources.load_images", "nothing was written"),
    ("report {small} --out {o}.html", "adq.report.execute_page", "nothing was written"),
    ("reproduce figure2 --profile smoke --out {o}", "adq.pages.sweep", "finished runs and pages stay"),
    ("reproduce figure2 --profile smoke --stored --out {o}", "adq.pages.execute_page", "finished runs and pages stay")])
def test_interrupt_is_one_line(capsys, tmp_path, small, monkeypatch, line, where, words):
    def interrupt(*args, **options): raise KeyboardInterrupt
    monkeypatch.setattr(where, interrupt)
    code, out, err = run(capsys, line, small=small, o=tmp_path/"o")
    assert (code, out, err.splitlines()[-1]) == (130, "", f"adq: interrupted, {words}") and "Traceback" not in err


killed = """
import os, signal
from adq import cli, pipeline
pipeline.here.graphcut_bins = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
cli.main()
"""
never_trained_again = """
from adq import cli, features, pipeline
def load_extractor(*a, trained, **k):
    assert trained.exists()
    return features.load_extractor(*a, trained=trained, **k)
pipeline.load_extractor = load_extractor
cli.main()
"""


def python(program, *words): return subprocess.run([sys.executable, "-c", program, *map(str, words)]).returncode


def test_a_killed_run_goes_on_after_its_last_stage(capsys, tmp_path):
    line = f"compress digits {fast} --keep 0.1 --out"
    assert python(killed, *line.split(), tmp_path/"o") == -signal.SIGKILL
    work, = tmp_path.glob(".o.adq-*.work")
    stages = lambda folder: {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.suffix in (".npy", ".pt")}
    before = stages(work)
    assert sorted(n.partition("-")[0] for n in before) == ["extractor", "features"] and not (tmp_path/"o").exists()
    copy = shutil.copytree(work, tmp_path/"copy")
    assert run(capsys, f"{line} {{o}} --work {{w}}", o=tmp_path/"given", w=copy)[0] == 0
    after = stages(copy)
    assert len(after) == 6 and {name: after[name] for name in before} == before
    assert run(capsys, f"{line} {{o}} --seed 1", o=tmp_path/"o")[0] == 0 and stages(work) == before # of other settings
    shutil.rmtree(tmp_path/"o")
    assert python(never_trained_again, *line.split(), tmp_path/"o") == 0 # finds its own again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "given", "o"]
    assert (load(tmp_path/"o").indices == load(tmp_path/"given").indices).all()


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


def command_of(line, program="sys.exit(main())"):
    return [sys.executable, "-c", f"import sys\nfrom adq.cli import main\n{program}", *map(str, line)]


def alone(line, *, program="sys.exit(main())", env={}, **options):
    "One command line in a process of its own."
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE) | options
    return subprocess.run(command_of(line, program), text=True, env=os.environ | env, **streams)


heavy = {"torch", "torchvision", "timm", "sklearn", "scipy", "matplotlib", "seaborn", "pandas", "datasets",
         "transformers", "PIL", "papermill"}
imported = f"""
try: code = main()
except SystemExit as e: code = e.code
print(code, *sorted({heavy} & {{*sys.modules}}), file=sys.stderr)"""


good = ["--help", "compress --help", "reproduce --help", "info {small}", "info {small} --json --verify"]
bad = [
    "info {out}", "fly", "report {out}", "bins {out} --out {small}",
    "compress digits --keep 1.5 --out {out}", "compress digits --bins 0 --out {out}",
    "compress digits --seed -1 --out {out}", "compress digits --method best --out {out}",
    "compress digits --codec gif --out {out}", "compress digits --split dev --out {out}",
    "compress dogits --out {out}", "compress digits --profile phone --out {out}",
    "compress digits --out .", "compress digits --out {small}",
    "train digits --lr 0", "train {small}", "train digits --indices {out}",
    "compare digits --methods best", "compare digits --epochs 0",
    "reproduce table9", "reproduce table3 --jobs 0", "reproduce table3 -p seeds=few"]


@pytest.mark.parametrize("line, code", [(line, 0) for line in good] + [(line, 2) for line in bad])
def test_answers_at_once(tmp_path, small, line, code):
    "Help, a wrong argument and `adq info` import none of the libraries that take seconds."
    words = [word.format(small=small, out=tmp_path/"out") for word in line.split()]
    done = alone(words, program=imported, cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == str(code), done.stderr


handed_on = """
import adq, sys
print(adq.__all__, set(adq.__all__) <= set(dir(adq)), 'torch' in sys.modules)
adq.compress
print('torch' in sys.modules)
adq.compres
"""


def test_import_hands_on_names_lazily():
    done = subprocess.run([sys.executable, "-c", handed_on], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["['load_images', 'compress', 'load', 'compare'] True False", "True"]
    assert "AttributeError: module 'adq' has no attribute 'compres'" in done.stderr


def test_windows_has_no_module_resource(small):
    program = "import sys\nsys.modules['resource'] = None\nimport adq.cli\nsys.exit(adq.cli.main())"
    np.save(small.parent/"features.npy", np.random.default_rng(0).random((20, 3)))
    words = "bins features.npy --bins 2 --out bins".split()
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=small.parent)
    assert done.returncode == 0 and "memory" not in done.stdout and done.stderr == ""


@pytest.mark.parametrize("line", ["--help", "info {small}", "info {small} --json", "fly"])
def test_a_reader_that_has_gone(small, line):
    "As `adq info small | head -1`: neither an error nor a complaint of the interpreter as it ends."
    command = command_of(line.format(small=small).split(), "sys.stdin.read()\nsys.exit(main())")
    for lost in "stdout", "stderr":
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, **pipes)
        getattr(process, lost).close()
        process.stdin.close() # only now it begins to write
        left = getattr(process, "stderr" if lost == "stdout" else "stdout").read()
        assert process.wait() in (0, 2, 141)
        assert b"Traceback" not in left and b"BrokenPipe" not in left


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_is_not_utf8(small, encoding):
    done = alone(["info", small], env={"PYTHONIOENCODING": encoding}, encoding=encoding)
    assert done.returncode == 0 and done.stderr == "" and ("×" if encoding != "ascii" else "2?2") in done.stdout


def test_a_full_disk_under_the_output(small):
    if not Path("/dev/full").exists(): pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full: done = alone(["info", small], stdout=full)
    assert done.returncode == 2 and done.stderr == "adq: error: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("folder", [".", "..", "/"])
def test_the_folder_one_is_in_is_no_output(capsys, tmp_path, monkeypatch, folder):
    (tmp_path/"here").mkdir()
    monkeypatch.chdir(tmp_path/"here")
    told = f"adq: error: output folder '{folder}' is the folder you are in, or holds it; expected a new folder\n"
    for line in "compress digits", "compare digits --force", "bins x.npy":
        assert run(capsys, f"{line} --out {folder}") == (2, "", told)


def test_an_output_that_holds_the_source(capsys, small):
    before = (small/"compressed.json").read_bytes()
    code, _, err = run(capsys, "compress {s}/data --force --out {s}", s=small)
    assert code == 2 and err.endswith(f"'{small}' holds the source '{small}/data'; expected a folder outside\n")
    assert (small/"compressed.json").read_bytes() == before
    code, _, err = run(capsys, "compress {s}/data --out {s}-again", s=small) # its patches are dropped, too
    assert code == 2 and "is a compressed set" in err


def test_tested_on_what_it_was_made_from(capsys, tmp_path):
    run(capsys, f"compress digits --split all --method random --keep 0.1 {fast} --out {{o}}", o=tmp_path/"o")
    code, _, err = run(capsys, f"train {{o}} --test digits {fast}", o=tmp_path/"o")
    assert code == 0 and "so some of the test images may have been trained on" in err


@pytest.mark.parametrize("error, words", [
    (pa.lib.ArrowInvalid("no Parquet"), "no Parquet"),
    (pa.lib.ArrowNotImplementedError("lists of lists"), "ArrowNotImplementedError: lists of lists"),
    (pa.lib.ArrowTypeError("text"), "ArrowTypeError: text"),
    (pa.lib.ArrowCapacityError("too long"), "ArrowCapacityError: too long"),
    (MemoryError(), "MemoryError"),
    (torch.OutOfMemoryError("CUDA out of memory.\nSee the manual."), "OutOfMemoryError: CUDA out of memory."),
    (OverflowError("int too big"), "OverflowError: int too big"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "'utf-8' codec can't decode"),
    (json.JSONDecodeError("Expecting value", "", 0), "Expecting value"),
    (OSError(28, "No space left on device"), "[Errno 28] No space left on device")])
def test_what_a_user_can_cause_is_one_line(capsys, tmp_path, monkeypatch, error, words):
    def fail(*args, **options): raise error
    monkeypatch.setattr("adq.sources.load_images", fail)
    code, out, err = run(capsys, "compress digits --out {o}", o=tmp_path/"o")
    assert code == 2 and out == "" and err.startswith(f"adq: error: {words}") and err.count("\n") == 1


def test_a_mistake_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    def fail(*args, **options): return None.images
    monkeypatch.setattr("adq.sources.load_images", fail)
    with pytest.raises(AttributeError): main(["compress", "digits", "--out", str(tmp_path/"o")])


def test_json_is_json(capsys, tmp_path):
    "One seed has no spread: null, where Python would write NaN."
    refuse = lambda word: pytest.fail(f"{word} is not JSON")
    code, out, _ = run(capsys, f"compare digits {fast} --methods random --seeds 1 --out {{o}} --json", o=tmp_path/"o")
    assert code == 0 and json.loads(out, parse_constant=refuse)["table"][0]["std"] is None
    json.loads((tmp_path/"o"/"comparison.json").read_text(), parse_constant=refuse)


def test_notes_are_told_once(capsys, tmp_path, monkeypatch):
    def noted(*args, **options):
        images = load_images(*args, **options)
        images.notes = ["2 files are no images and are left out"]
        return images
    monkeypatch.setattr("adq.sources.load_images", noted)
    code, _, err = run(capsys, f"compare digits {fast} --methods random --seeds 1")
    assert code == 0 and err.count("note") == 1
    assert err.splitlines()[0] == "adq: note: 2 files are no images and are left out"


def test_columns_are_handed_on(capsys, tmp_path, monkeypatch):
    asked = []
    def load_nothing(source, split, **options):
        asked.append(options)
        raise ValueError("enough")
    monkeypatch.setattr("adq.sources.load_images", load_nothing)
    for line in "compress digits --out {o}", "train digits", "compare digits":
        assert run(capsys, f"{line} --label digit --image scan", o=tmp_path/"o")[0] == 2
    assert asked == 3*[dict(data_root=None, label="digit", image="scan")]
