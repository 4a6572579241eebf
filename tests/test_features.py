"""Weights from files, and the same numbers on every device."""
import numpy as np, pytest, timm, torch
from safetensors.torch import save_file

from adq.features import Extractor, extract_features, load_extractor
from adq.networks import build_model, fit, untrained_network
from adq.pipeline import compress
from adq.settings import seeded


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_weights_from_a_file(tmp_path, digits, ending):
    with seeded(1): model = build_model("resnet18_narrow", num_classes=7, size=32)
    path = tmp_path/f"w.{ending}"
    state = model.state_dict()
    if ending == "safetensors": save_file(state, path)
    else: torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    network = load_extractor(f"resnet18_narrow/{path}@32", digits, device="cpu")
    # another number of classes: a fresh classifier
    assert network.model.get_classifier().out_features == 10
    own = network.model.state_dict()
    assert all(torch.equal(own[k], v) for k, v in model.state_dict().items() if not k.startswith("fc"))
    assert extract_features(digits.subset(range(9)), network).shape == (9, 128)


def test_weights_of_another_network(tmp_path, digits):
    torch.save(build_model("resnet34_narrow").state_dict(), tmp_path/"w.pt")
    with pytest.raises(ValueError, match="does not fit ResNet"):
        load_extractor(f"resnet18_narrow/{tmp_path/'w.pt'}@32", digits)


def test_a_pickle_with_code_is_refused(tmp_path, digits):
    class Evil:
        def __reduce__(self): return (open, (str(tmp_path/"ran"), "w"))
    torch.save({"state_dict": Evil()}, tmp_path/"w.pt")
    with pytest.raises(ValueError, match="is not a file of weights that can be read safely"):
        load_extractor(f"resnet18_narrow/{tmp_path/'w.pt'}@32", digits)
    assert not (tmp_path/"ran").exists()


def test_no_network_says_what_to_do(digits, monkeypatch):
    def offline(*args, **kwargs): raise ConnectionError("no route to host")
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FileNotFoundError, match="could not be downloaded .*give a file: resnet18/FILE@224"):
        load_extractor("resnet18/imagenet", digits)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto",
                                  "mobilenetv2_100", "mobilenetv3_small_100", "convnet7"])
def test_every_family_gives_embedding_and_pooled_maps(tmp_path, digits, name):
    size = 224 if "swin" in name else 32
    torch.save(build_model(name, 10, size).state_dict(), tmp_path/"w.pt")
    network = load_extractor(f"{name}/{tmp_path/'w.pt'}@{size}", digits, device="cpu")
    some = digits.subset(range(2))
    embedding, pooled = extract_features(some, network), extract_features(some, network, returns="pooled")
    assert embedding.shape == (2, network.width) and pooled.shape[1] > embedding.shape[1]
    np.testing.assert_allclose(pooled[:, :embedding.shape[1]], embedding, rtol=2e-2, atol=2e-2)
    h, b = extract_features(some, network, returns="gradient")
    assert b.shape == (2, 10) and np.allclose(b.sum(1), 0, atol=1e-5)


def test_extractor_text_round_trip(): assert str(Extractor.parse("resnet18/self:10@64")) == "resnet18/self:10@64"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_agrees_with_cpu(digits):
    on = {}
    for device in "cpu", "cuda":
        network = load_extractor("resnet18_narrow/self:2", digits, device="cpu").to(device)
        on[device] = extract_features(digits, network)
    np.testing.assert_allclose(on["cuda"], on["cpu"], rtol=5e-2, atol=5e-2)
    assert len(compress(digits, 0.1, extractor="resnet18_narrow/self:2", device="cuda").indices) == 143


def test_the_recipe_of_the_paper_is_what_is_trained_by_without_another(digits):
    few = digits.subset(range(100))
    def weights(**options):
        network = untrained_network("convnet7_narrow", few, 8, seed=0)
        stem = network.model.stem[0].weight.clone()
        fit(network, few, epochs=1, **options)
        assert torch.equal(network.model.stem[0].weight, stem) # measured, not learnt
        return network.model.head.weight
    assert torch.equal(weights(), weights(recipe="paper")) and not torch.equal(weights(), weights(recipe="fast"))
    with pytest.raises(ValueError, match="recipe 'slow' is unknown; expected paper or fast"): weights(recipe="slow")
