"""Trainings that diverge, and weights that did: told by name, and nothing is written."""
import pytest, torch

from adq.cli import main
from adq.networks import build_model


def error(capsys, line):
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("adq: error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("lr", ["1e30", "1e38"])
def test_a_training_that_diverges(capsys, lr):
    err = error(capsys, f"train digits --profile smoke --epochs 3 --lr {lr}")
    assert "resnet18_narrow diverged in epoch 1 of 3" in err and "try a smaller lr" in err


def test_a_network_without_batch_normalisation(capsys):
    err = error(capsys, "train digits --profile smoke --model vit_cifar_narrow --lr 1e38")
    assert "vit_cifar_narrow diverged" in err


@pytest.fixture(params=["layer4.0.conv1.weight", "layer4.0.bn1.running_mean"])
def lost(request, tmp_path):
    "Weights of which one is not a number."
    state = build_model("resnet18_narrow", 10, 32).state_dict()
    state[request.param].flatten()[0] = torch.nan
    torch.save(state, tmp_path/"lost.pt")
    return tmp_path/"lost.pt"


def test_weights_that_are_lost(capsys, tmp_path, lost):
    err = error(capsys, f"compress digits --profile smoke --extractor resnet18_narrow/{lost}@32 --out {tmp_path/'out'}")
    assert "the features of image 0 by resnet18_narrow are not finite" in err and not (tmp_path/"out").exists()
