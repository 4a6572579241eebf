"""Training in several processes, as torchrun starts them, on images that are decoded as they are read."""
import json, subprocess, sys
from pathlib import Path

import numpy as np, pytest, torch
from torchvision.transforms.v2 import functional as TF

bin = Path(sys.executable).parent
script = """
import sys, torch
from adq.sources import load_images
from adq.networks import processes
from adq.settings import torchrun
from adq.train import train

images, test = (load_images(sys.argv[1], split) for split in ("train", "test"))
assert not images.in_memory
with torchrun("cpu") as device:
    rank, world = processes()
    trained = train(images, test, "resnet18_narrow", epochs=4, batch_size=16, lr=0.05, size=32, device=device)
    refused = ""
    try: train(images, test, "resnet18_narrow", epochs=1, batch_size=15, lr=0.05, size=32, device=device)
    except ValueError as e: refused = str(e)
came = dict(accuracy=trained.accuracy, world=world, weights=trained.network.state_dict(), refused=refused)
torch.save(came, f"{sys.argv[2]}/{rank}of{world}.pt")
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "Class folders of photographs in two sizes: reddish ones, bluish ones."
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, each in (("train", 48), ("val", 16)):
        for c, name in enumerate(("red", "blue")):
            (root/split/name).mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 160, (3, 40 + 8*(i % 2), 48), dtype=np.uint8)
                pixels[2*c] += 90
                TF.to_pil_image(torch.from_numpy(pixels)).save(root/split/name/f"{i}.png")
    return root


torchrun = bin/"torchrun", "--standalone", "--nproc-per-node"


def answer(*words): return subprocess.run(list(map(str, words)), capture_output=True, text=True)


def test_two_processes_train_as_one(photos, tmp_path):
    (tmp_path/"script.py").write_text(script)
    for started in [sys.executable], [*torchrun, "2"]:
        done = answer(*started, tmp_path/"script.py", photos, tmp_path)
        assert done.returncode == 0, done.stderr
    one, first, second = (torch.load(tmp_path/f"{name}.pt", weights_only=True) for name in ("0of1", "0of2", "1of2"))
    assert first["world"] == second["world"] == 2
    for name, weight in first["weights"].items(): assert torch.equal(weight, second["weights"][name]), name
    assert first["accuracy"] == second["accuracy"]
    assert "15 for 2 processes; expected a multiple of 2" in first["refused"] and one["refused"] == ""
    assert one["accuracy"] > 0.9 and abs(one["accuracy"] - first["accuracy"]) < 0.1


def test_the_command_under_torchrun_says_it_once(photos):
    line = f"train {photos} --profile imagenet --model resnet18_narrow --size 32 --epochs 1 --batch-size 16 --json"
    done = answer(*torchrun, 2, "--no-python", bin/"adq", *line.split(), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and json.loads(done.stdout)["images"] == 96
