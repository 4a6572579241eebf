"""Dropping patches by networks of every family: explained, or refused by name before any training."""
import pytest, torch

from adq.activation import check_explainable, class_activation
from adq.cli import main
from adq.networks import Network, build_model
from adq.patches import GradCAMpp
from adq.settings import seeded

small = "test_byobnet test_convnext test_efficientnet test_mambaout test_nfnet test_resnet test_vit test_vit_relpos"


@pytest.mark.parametrize("name", small.split())
def test_small_networks_of_many_families(name): check_explainable(name, 160)


@pytest.mark.parametrize("name, size", [
    ("resnet18_narrow", 8), ("vit_cifar_narrow", 32), ("swin_cifar_narrow", 32), ("convnext_cifar_narrow", 32),
    ("mobilenetv2_cifar_narrow", 32), ("mobilenetv3_small_050", 64), ("regnetx_002", 64), ("densenet121", 64),
    ("ese_vovnet19b_slim_dw", 64), ("repghostnet_050", 64),
    ("mixer_s32_224", 224), ("resmlp_12_224", 224), ("gmlp_ti16_224", 224), # tokens, pooled at the end
    ("levit_128s", 224), ("efficientformer_l1", 224), ("convit_tiny", 224), ("pvt_v2_b0", 64), ("mobilevit_xxs", 64),
    ("deit_tiny_distilled_patch16_224", 224), ("eva02_tiny_patch14_224", 224)])
def test_networks_that_can_be_asked(name, size): check_explainable(name, size)


@pytest.mark.parametrize("name, size, fitted", [
    ("pit_ti_224", 224, False), ("xcit_nano_12_p16_224", 224, False), ("cait_xxs24_224", 224, False),
    ("crossvit_tiny_240", 240, False), ("coat_tiny", 224, False), ("efficientvim_m1", 224, False),
    ("levit_128s", 224, True), ("deit_tiny_distilled_patch16_224", 224, True)]) # two heads, and one is to be fitted
def test_networks_that_cannot(name, size, fitted):
    with pytest.raises(ValueError, match=f"network '{name}' cannot rank patches by class activation .*; expected one"):
        check_explainable(name, size, fitted)


def test_tokens_lie_in_rows():
    "What is bright at one place of the tokens is bright there on the map."
    with seeded(0): model = build_model("mixer_s32_224", 2, 224)
    network = Network(model, 224, (0.5,)*3, (0.25,)*3)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[1] = 1.0
        model.norm = torch.nn.Identity()
    def mark(module, _, out):
        out = torch.zeros_like(out)
        out[:, 7*1 + 5] = 1.0 # row 1, column 5 of 7×7
        return out
    model.blocks[-1].register_forward_hook(mark)
    found = class_activation(network, GradCAMpp)(torch.zeros(1, 3, 224, 224, dtype=torch.uint8), torch.tensor([1]))[0]
    assert divmod(int(found.argmax()), 224)[0]//32 == 1 and int(found.argmax()) % 224//32 == 5


@pytest.mark.parametrize("line", [
    "compress {tree} --split all --patch-keep 0.75 --keep 0.3 --bins 2 --extractor pit_ti_224/self:1@224 --out {out}",
    "compare {tree} --methods adq+drop --patch-keep 0.75 --bins 2 --extractor pit_ti_224/self:1@224 --out {out}"])
def test_refused_before_any_training(capsys, tmp_path, write_tree, monkeypatch, line):
    monkeypatch.setattr("adq.features.fit", lambda *args, **options: pytest.fail("it was trained"))
    write_tree(tmp_path/"tree", each=10)
    assert main(line.format(tree=tmp_path/"tree", out=tmp_path/"out").split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("adq: error: network 'pit_ti_224' cannot rank patches") and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize("name", ["mixer_s32_224", "levit_128s"])
def test_patches_dropped_by_tokens(capsys, tmp_path, write_tree, name):
    write_tree(tmp_path/"tree", each=10)
    line = f"compress {tmp_path/'tree'} --split all --patch-keep 0.75 --keep 0.3 --bins 2 --extractor {name}/self:1@224"
    assert main([*line.split(), "--out", str(tmp_path/"out")]) == 0
