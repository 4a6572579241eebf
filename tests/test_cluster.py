"""More machines through Ray: the same result as on one, also with a worker killed; bad addresses."""
import json, os, signal, sys

import numpy as np, pytest, torch

os.environ |= dict(RAY_USAGE_STATS_ENABLED="0", RAY_BACKEND_LOG_LEVEL="fatal")
ray = pytest.importorskip("ray")

from adq import pipeline
from adq.cli import main
from adq.sources import load_images
from adq.diversity import augment_view
from adq.pipeline import compress


@pytest.mark.parametrize("address, words", [
    ("127.0.0.1:1", "cluster '127.0.0.1:1' does not answer"),
    ("ray://127.0.0.1:1", "cluster is 'ray://127.0.0.1:1'; expected auto, or host:port"),
])
def test_bad_address(capsys, tmp_path, address, words):
    command = ["compress", "digits", "--profile", "smoke", "--cluster", address, "--out", str(tmp_path/"o")]
    code, out, err = main(command), *capsys.readouterr()
    assert code == 2 and out == "" and err.startswith("adq: error: ") and words in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_ray(capsys, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "adq.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["compress", "digits", "--profile", "smoke", "--cluster", "auto", "--out", str(tmp_path/"o")]) == 2
    said = "adq: error: --cluster needs Ray, which is not installed; pip install 'adq[cluster]'\n"
    assert capsys.readouterr().err == said


def start_ray(tries=4):
    "Ray gives itself 30 seconds to start, which a busy machine may not be able to."
    how = dict(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    for left in reversed(range(tries)):
        try: return ray.init(**how)
        except Exception as e:
            ray.shutdown()
            if not left or "timed out during startup" not in str(e): raise


@pytest.fixture(scope="module")
def two_workers():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start_ray()
    yield
    ray.shutdown()
    torch.set_num_threads(threads)


def stages(folder): return {p.name: p.read_bytes() for p in folder.glob("*.npy")}


def test_same_as_on_one_machine(capsys, tmp_path, write_tree, two_workers):
    about, tree = {}, write_tree(tmp_path/"tree", each=700, size=(8, 8))
    for name, cluster in dict(one=[], two=["--cluster", "auto"]).items():
        folders = ["--split", "all", "--out", str(tmp_path/name), "--work", str(tmp_path/f"{name}.work")]
        assert main(["compress", str(tree), "--profile", "smoke", *folders, *cluster]) == 0
        about[name] = json.loads((tmp_path/name/"compressed.json").read_text())
    assert stages(tmp_path/"one.work") == stages(tmp_path/"two.work") and len(stages(tmp_path/"one.work")) == 5
    for key in "rs", "ds", "importance", "quotas", "settings", "shards": assert about["one"][key] == about["two"][key]


def test_a_killed_worker_changes_nothing(tmp_path, write_tree, two_workers, monkeypatch):
    from adq.cluster import Cluster
    images = load_images(write_tree(tmp_path/"tree", each=600, size=lambda i: (8 + i % 5, 9)), "all")
    options = dict(extractor="resnet18_narrow/self:1@8", work=tmp_path/"work")
    one, before = compress(images, **options), stages(tmp_path/"work")
    views = next((tmp_path/"work").glob("views-*.npy"))
    views.unlink()
    (once := tmp_path/"once").touch()
    encoded = []
    def deadly(pixels):
        "Kills its worker in mid-run, once; batches drawn for others do not count."
        encoded.append(pixels.shape[-1] > 2)
        if sum(encoded) == 2 and once.exists():
            once.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return augment_view(pixels)
    monkeypatch.setattr(pipeline, "augment_view", deadly)
    with Cluster() as cluster: two = compress(images, where=cluster, **options)
    assert not once.exists() and encoded == [] and stages(tmp_path/"work") == before
    for name in "indices", "rs", "ds", "quotas": assert (getattr(one, name) == getattr(two, name)).all()
    assert all((a == b).all() for a, b in zip(one.bins, two.bins))
