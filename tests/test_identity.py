"""What results are made of is told by content: images, weights, settings, code; never by names, sizes and times."""
import os
from dataclasses import replace

import numpy as np, pytest, torch

from adq import stages
from adq.data import ImageData
from adq.experiments import collect, experiment, sweep
from adq.networks import build_model
from adq.pipeline import compress
from adq.settings import load_settings
from adq.sources import load_images
from adq.store import load

smoke = load_settings("smoke")


def test_fingerprint_is_of_every_image_and_of_nothing_else(tmp_path, write_tree, digits):
    sizes = lambda i: (16 + i % 3, 20)
    one, two = (load_images(write_tree(tmp_path/name, each=30, size=sizes), "all") for name in ("one", "two"))
    again = lambda: ImageData(two.images, two.labels, two.classes).fingerprint()
    assert not one.in_memory and one.fingerprint() == two.fingerprint()
    for i in 0, 29, 37: # one byte of one image
        path = two.images.places[i]
        content = bytearray(open(path, "rb").read())
        told = os.stat(path)
        content[-20] ^= 1
        open(path, "wb").write(content)
        os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
        assert again() != one.fingerprint()
        content[-20] ^= 1
        open(path, "wb").write(content)
        assert again() == one.fingerprint()
    few = digits.subset(range(50))
    as_it_is = few.fingerprint()
    for i in 1, 23, 49:
        few.images[i, 0, 7, 7] ^= 1
        assert few.fingerprint() != as_it_is
        few.images[i, 0, 7, 7] ^= 1
    assert few.fingerprint() == as_it_is == ImageData(few.images, few.labels, few.classes, "elsewhere").fingerprint()
    pixels, labels, classes = few.images, few.labels, few.classes
    for other in [(pixels, labels[::-1], classes), (pixels, labels, "abcdefghij"), (pixels.flip(0), labels, classes),
                  (pixels.view(50, 1, 4, 16), labels, classes)]:
        assert ImageData(*other).fingerprint() != as_it_is


def test_encoded_images_are_read_once_and_only_when_asked(tmp_path, write_tree, monkeypatch):
    images = load_images(write_tree(tmp_path/"tree", each=20, size=lambda i: (16 + i % 3, 20)), "all")
    read, data = [], type(images.images).data
    monkeypatch.setattr(type(images.images), "data", lambda self, i: read.append(i) or data(self, i))
    chosen = compress(images, 0.5, method="random")
    assert read == []
    assert images.fingerprint() == images.fingerprint() and read == list(range(40))
    assert chosen.save(tmp_path/"set") and sorted(set(read)) == list(range(40))


def test_an_image_that_cannot_be_read_is_named(tmp_path, write_tree):
    images = load_images(write_tree(tmp_path/"tree", each=4, size=lambda i: (16 + i, 20)), "all")
    (tmp_path/"tree"/"dog"/"2.png").unlink()
    with pytest.raises(ValueError, match="dog/2.png cannot be read"): images.fingerprint()


def weights(path, seed):
    "Weights of one size and one time, whatever the seed."
    torch.manual_seed(seed)
    torch.save(build_model("resnet18_narrow", 10, 8).state_dict(), path)
    os.utime(path, (10**9, 10**9))


def test_other_weights_under_one_name_are_other_stages_and_other_runs(tmp_path, digits):
    path, works = tmp_path/"weights.pt", tmp_path/"work"
    extractor = f"resnet18_narrow/{path}@8"
    settings = replace(smoke, extractor=extractor)
    made, rows, e = [], [], experiment(settings, kind="scores")
    for seed in 0, 1:
        weights(path, seed)
        made.append(compress(digits, extractor=extractor, work=works).rs)
        rows.append(sweep([e], tmp_path/"store", settings).rs[0])
        assert len(list(works.glob("features-*"))) == seed + 1
        assert len(list((tmp_path/"store"/"computed").glob("*.npz"))) == seed + 1
    assert (made[0] != made[1]).any() and rows[0] != rows[1]
    (tmp_path/"moved.pt").write_bytes(path.read_bytes())
    moved = replace(smoke, extractor=f"resnet18_narrow/{tmp_path/'moved.pt'}@8")
    assert experiment(moved, kind="scores").key("x") == e.key("x")


def test_features_that_no_label_changes_are_computed_once(tmp_path):
    weights(tmp_path/"weights.pt", 0)
    for extractor, made in (f"resnet18_narrow/{tmp_path/'weights.pt'}@8", 1), (smoke.extractor, 3):
        settings, store = replace(smoke, extractor=extractor), tmp_path/str(made)
        wrong = [(0, None), (0, 0.1), (1, 0.1)]
        sweep([experiment(settings, "ccs-probe", keep=0.1, seed=s, noise=n) for s, n in wrong], store, settings)
        assert len(list((store/"computed").glob("*.npz"))) == made


def test_stored_runs_are_found_without_the_file_of_their_weights(tmp_path):
    path = tmp_path/"weights.pt"
    weights(path, 0)
    settings = replace(smoke, extractor=f"resnet18_narrow/{path}@8")
    sweep([experiment(settings, kind="scores")], tmp_path/"store", settings)
    path.unlink()
    assert len(collect([experiment(settings, kind="scores")], tmp_path/"store", settings)) == 1


def test_weights_of_a_reconstructor_are_part_of_a_run(tmp_path):
    e = experiment(replace(smoke, reconstruct=str(tmp_path/"mae"), drop=0.25), "dq", keep=0.1)
    (tmp_path/"mae").mkdir()
    (tmp_path/"mae"/"model.bin").write_bytes(b"one")
    key = e.key("x")
    (tmp_path/"mae"/"model.bin").write_bytes(b"two")
    assert e.key("x") != key


def test_compile_is_part_of_a_run():
    runs = [experiment(replace(smoke, compile=c), "random", keep=0.1) for c in (False, True)]
    assert [e.compile for e in runs] == [None, True] and runs[0].key("x") != runs[1].key("x")


def test_changed_code_makes_stages_again_but_no_rows(tmp_path, digits, monkeypatch):
    e = experiment(smoke, kind="scores")
    def both():
        compress(digits, extractor=smoke.extractor, work=tmp_path/"work")
        sweep([e], tmp_path/"store", smoke)
        rows = (tmp_path/"store"/"runs.jsonl").read_text().splitlines()
        made = [*(tmp_path/"work").glob("bins-*")], [*(tmp_path/"store"/"computed").glob("*.npz")]
        return *map(len, made), len(rows)
    assert both() == both() == (1, 1, 1)
    (tmp_path/"package").mkdir()
    (tmp_path/"package"/"bins.py").write_text("# another line\n")
    monkeypatch.setattr(stages, "package_folder", lambda: tmp_path/"package")
    stages.made_by.cache_clear()
    try: assert both() == (2, 1, 1)
    finally: stages.made_by.cache_clear()


def test_bins_of_a_million_samples_keep_their_numbers(tmp_path, digits):
    chosen = compress(digits, features=np.random.default_rng(0).random((1437, 4), np.float32), method="dq", n_bins=2)
    chosen = replace(chosen, bins=[np.array([], int)]*2**16 + [np.arange(1437)], quotas=np.zeros(2**16 + 1, int))
    out = chosen.save(tmp_path/"set")
    assert (np.load(out/"bins.npy") == 2**16).all() and (load(out).bins == 2**16).all()
