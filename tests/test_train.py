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
came = dict(accuracy=trained.accuracy, world=world, weights=trained.network.state_dict())
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


def torchrun(processes, *words):
    command = [bin/"torchrun", "--standalone", "--nproc-per-node", processes, *words]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)


def in_two(line): return torchrun(2, "--no-python", bin/"adq", *line.split())


def test_two_processes_train_as_one(photos, tmp_path):
    (tmp_path/"script.py").write_text(script)
    for n in (1, 2):
        done = torchrun(n, tmp_path/"script.py", photos, tmp_path)
        assert done.returncode == 0, done.stderr
    one, first, second = (torch.load(tmp_path/f"{name}.pt", weights_only=True) for name in ("0of1", "0of2", "1of2"))
    assert first["world"] == second["world"] == 2
    for name, weight in first["weights"].items(): assert torch.equal(weight, second["weights"][name]), name
    assert first["accuracy"] == second["accuracy"]
    assert one["accuracy"] > 0.9 and abs(one["accuracy"] - first["accuracy"]) < 0.1


def test_the_command_under_torchrun_says_it_once(photos):
    done = in_two(f"train {photos} --profile imagenet --model resnet18_narrow --size 32 --epochs 1 --batch-size 16 "
                  "--device cpu --json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and json.loads(done.stdout)["images"] == 96


def test_a_batch_that_processes_cannot_share(photos):
    done = in_two(f"train {photos} --model resnet18_narrow --size 32 --epochs 1 --batch-size 15 --device cpu")
    assert done.returncode != 0 and "adq: error: batch_size is 15 for 2 processes; expected a multiple" in done.stderr
