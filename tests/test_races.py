"""Two runs at once: on one output, one file, one store. Each waits on a pipe, none on a clock."""
import multiprocessing, signal, subprocess, sys

import pytest, torch

from adq.cli import main
from adq.folders import append_line, locked, read_lines
from adq.store import load

forked = multiprocessing.get_context("fork")

stops = """
import sys
from adq import cli, pipeline
made = pipeline.compress
def stop(*args, **options):
    chosen = made(*args, **options)
    print("made", flush=True); sys.stdin.readline()
    return chosen
pipeline.compress = stop
sys.exit(cli.main())
"""


@pytest.fixture
def stopped():
    "A run of the command line that has chosen its images and waits, with its lock, before it writes them."
    started = []
    def start(*words, cwd=None):
        process = subprocess.Popen([sys.executable, "-c", stops, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, cwd=cwd)
        started.append(process)
        assert process.stdout.readline() == "made\n"
        return process
    yield start
    for process in started:
        process.kill()
        process.communicate()


def words(out, *more, keep="0.1", method="random"):
    return ["compress", "digits", "--profile", "smoke", "--method", method, "--keep", keep, "--out", str(out), *more]


def goes_on(process):
    "Exit code and standard error."
    _, err = process.communicate("\n")
    return process.returncode, err


@pytest.mark.parametrize("method", ["random", "dq"])
def test_the_second_run_on_an_output_is_refused_by_any_name(tmp_path, capsys, stopped, method):
    first = stopped(*words("two", method=method), cwd=tmp_path)
    (tmp_path/"link").symlink_to(tmp_path)
    for out in tmp_path/"two", tmp_path/"link"/"two":
        assert main(words(out, method=method)) == 2 and main(words(out, "--force", keep="0.2", method=method)) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 2 and err.count("is being written by another run") == 2
    assert main(words(tmp_path/"other")) == 0
    assert goes_on(first)[0] == 0 and len(load(tmp_path/"two")) == 143
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "other", "two"]


def test_what_appears_in_the_output_meanwhile_stays(tmp_path, stopped):
    first = stopped(*words(tmp_path/"two"))
    (tmp_path/"two").mkdir()
    (tmp_path/"two"/"thesis.tex").write_text("years")
    code, err = goes_on(first)
    assert code == 2 and "is not empty" in err and [p.name for p in tmp_path.rglob("*")] == ["two", "thesis.tex"]


def test_what_is_added_to_the_earlier_result_meanwhile_stays(tmp_path, stopped):
    assert main(words(tmp_path/"two")) == 0
    first = stopped(*words(tmp_path/"two", "--force", keep="0.2"))
    (tmp_path/"two"/"thesis.tex").write_text("years")
    code, err = goes_on(first)
    assert code == 2 and "holds 'thesis.tex', which adq did not write" in err
    assert (tmp_path/"two"/"thesis.tex").read_text() == "years" and len(load(tmp_path/"two")) == 143
    assert [p.name for p in tmp_path.iterdir()] == ["two"]


def test_the_lock_of_a_killed_run_is_free(tmp_path, stopped):
    first = stopped(*words(tmp_path/"two"))
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert main(words(tmp_path/"two")) == 0 and [p.name for p in tmp_path.iterdir()] == ["two"]


trains = """
import sys, torch
from adq import features
from adq.sources import load_images
save = torch.save
def stop(*args): print("trained", flush=True); sys.stdin.readline(); save(*args)
torch.save = stop
images = load_images("digits")
print("ready", flush=True)
network = features.load_extractor("resnet18_narrow/self:1", images, trained=sys.argv[1])
save(network.state_dict(), sys.argv[2])
"""


def test_two_processes_that_want_one_extractor_train_it_once(tmp_path):
    def start(name):
        words = sys.executable, "-c", trains, str(tmp_path/"work"/"x.pt"), str(tmp_path/name)
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    both = [start("one"), start("two")]
    assert [p.stdout.readline() for p in both] == ["ready\n"]*2
    for p in both:
        p.stdin.write("\n")
        p.stdin.close()
    out = [p.stdout.read() for p in both] # whoever comes first trains, whenever the other comes
    assert [p.wait() for p in both] == [0, 0] and sorted(out) == ["", "trained\n"]
    one, two = (torch.load(tmp_path/name, weights_only=True) for name in ("one", "two"))
    assert all(torch.equal(one[k], two[k]) for k in one) and [p.name for p in (tmp_path/"work").iterdir()] == ["x.pt"]


def _count(path, barrier, times):
    barrier.wait()
    for _ in range(times):
        with locked(path):
            n = int(path.read_text())
            path.write_text(str(n + 1))


def _append(path, barrier, who):
    barrier.wait()
    for i in range(50): append_line(path, dict(who=who, i=i, text="x"*i))


@pytest.mark.parametrize("work", [_count, _append])
def test_no_turn_is_lost_though_the_lock_is_removed_each_time(tmp_path, work):
    path, barrier = tmp_path/"file", forked.Barrier(4)
    if work is _count: path.write_text("0")
    each = [forked.Process(target=work, args=(path, barrier, 50 if work is _count else who)) for who in range(4)]
    for process in each: process.start()
    for process in each: process.join()
    assert [process.exitcode for process in each] == [0]*4 and [p.name for p in tmp_path.iterdir()] == ["file"]
    if work is _count: assert path.read_text() == "200"
    else:
        written = sorted((row["who"], row["i"]) for row in read_lines(path))
        assert written == [(who, i) for who in range(4) for i in range(50)]
