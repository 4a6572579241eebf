"""Work on a device, proved without one: tensors of a device of the test's own, whose values the processor computes.

`Elsewhere` tensors say that they are on the device `lazy`, which no build of PyTorch computes on. Every operation on
them is done on the processor and written down, and as on a GPU one of tensors of two devices is an error. So results
must be those of the processor, and what a training step fetches from the host, or waits for, can be counted."""
import copy, time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np, pytest, torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

import adq.data, adq.settings
from adq.baselines import augmentations, distribution_matching, siamese_augment
from adq.data import batches
from adq.diversity import augment_view, score_bin, train_discriminator
from adq.features import extract_features, load_extractor
from adq.networks import accuracy, fit, untrained_network
from adq.patches import rank_patches
from adq.reconstruction import fit_reconstructor, reconstruct
from adq.pipeline import compress
from adq.settings import autocast, pick_device, seeded
from adq.store import load, write
from adq.texture import texture_level
from adq.train import train

device = torch.device("lazy:0")
waits = "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal"


class Elsewhere(torch.Tensor):
    "A tensor that is on the device; `here` has its values."
    @staticmethod
    def __new__(cls, here):
        layout = dict(strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=device)
        tensor = torch.Tensor._make_wrapper_subclass(cls, here.shape, **layout)
        tensor.here = here
        return tensor

    def __repr__(self): return f"Elsewhere({self.here})"

    def tolist(self): return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return Machine.current.call(function, args, kwargs or {})


class Machine(TorchDispatchMode):
    "A machine with the device. `traffic` counts copies to it, to the host, and other waits; `called` what it did."
    def __init__(self):
        super().__init__()
        self.traffic, self.called, self.lifted, Machine.current = Counter(), Counter(), [], self

    def __enter__(self):
        self.lifted.append(torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True) # `torch.tensor` makes its tensor here and copies it, as for a GPU
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self.lifted.pop())
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None): return self.call(function, args, kwargs or {})

    def call(self, function, args, kwargs):
        if torch.is_inference_mode_enabled(): # otherwise autograd has taken it apart
            with self: parts = function.decompose(*args, **kwargs)
            if parts is not NotImplemented: return parts
        name = function.overloadpacket.__name__
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = any(isinstance(x, Elsewhere) for x in tensors)
        strangers = there and [x for x in tensors if x.dim() and not isinstance(x, Elsewhere)]
        to = there if kwargs.get("device") is None else torch.device(kwargs["device"]).type == device.type
        if name == "copy_": to = isinstance(args[0], Elsewhere)
        elif strangers and not name.startswith("index"): raise RuntimeError(f"{function} of tensors of two devices")
        if there: self.called[name] += 1
        if there and not to: self.traffic["to the host"] += 1
        elif strangers or name == "_to_copy" and to and not there: self.traffic["to the device"] += 1
        by_mask = name.startswith("index") and any(x.dtype == torch.bool for x in tree_leaves(args[1]) if x is not None)
        if there and (name in waits or by_mask): self.traffic["waits"] += 1
        if kwargs.get("device") is not None: kwargs = kwargs | dict(device="cpu")
        values, options = tree_map(lambda x: x.here if isinstance(x, Elsewhere) else x, (args, kwargs))
        out = function(*values, **options)
        if name == "copy_": return args[0]
        if not to: return out
        with torch.inference_mode(False):
            out = tree_map(lambda x: Elsewhere(x) if isinstance(x, torch.Tensor) else x, out)
        if not there: return out
        if torch.is_inference_mode_enabled(): return args[0] if name.endswith("_") else out
        return return_and_correct_aliasing(function, args, kwargs, out)


class Driver:
    "What `torch.cuda` is for a GPU; its generator is the processor's."
    def __init__(self): self.log = []
    def device(self, device): return nullcontext(self.log.append(("use", device)))
    def manual_seed(self, seed): self.log.append(("seed", seed))
    def get_rng_state(self, device): return self.log.append(("read", device))
    def set_rng_state(self, state, device): self.log.append(("restore", device))


lazy = Driver() # one for all tests, because PyTorch remembers it


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    "A processor that computes in bfloat16 rounds where the device of the test does not."
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    for module in adq.baselines, adq.diversity, adq.features, adq.reconstruction, adq.train:
        monkeypatch.setattr(module, "pick_device", torch.device)
    monkeypatch.setattr(torch, "lazy", lazy, raising=False)
    lazy.log.clear()
    return lazy


@pytest.fixture(scope="module")
def some(digits): return digits.subset(range(24))


def there(x): return x.to(device)


def same(ours, theirs):
    "Whether values of the device are those of the processor, bit by bit."
    return all(torch.equal(a.here if isinstance(a, Elsewhere) else a, b) for a, b in zip(ours, theirs, strict=True))


def close(ours, theirs):
    "The same up to rounding: the library picks its kernels, and not always the same ones."
    flat = lambda v: torch.as_tensor(v.here if isinstance(v, Elsewhere) else v).double().flatten()
    pairs = [(flat(a), flat(b)) for a, b in zip(ours, theirs, strict=True)]
    return all(len(a) == len(b) and (a - b).norm() <= 0.01*b.norm() + 1e-4 for a, b in pairs)


def test_the_device_tells_what_it_does():
    "The counter itself: it sees a copy, a wait and a mistake."
    with Machine() as machine:
        x = torch.arange(4.0).to(device)
        assert machine.traffic == {"to the device": 1}
        x[torch.tensor([1, 0])]
        assert machine.traffic == {"to the device": 2}
        (x*2 + 1).sum().item(), x[x > 1], x.cpu()
        assert machine.traffic == {"to the device": 2, "waits": 2, "to the host": 1}
        with pytest.raises(RuntimeError, match="tensors of two devices"): x + torch.ones(4)


pooling = "max_pool2d_with_indices_backward"
not_deterministic = { # of what `use_deterministic_algorithms` warns of, that which images could need
    pooling, "grid_sampler_2d_backward", "_scaled_dot_product_efficient_attention_backward", "bincount", "histc",
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "upsample_bilinear2d_backward", "median",
    "_upsample_bilinear2d_aa_backward", "upsample_bicubic2d_backward", "reflection_pad2d_backward", "put_",
    "nll_loss2d_backward", "kthvalue"}

convolutions = "resnet18_narrow", "mobilenetv2_cifar_narrow", "convnet7"
transformers = "vit_cifar_narrow", "swin_cifar_narrow", "convnext_cifar_narrow" # and what has their layer norm


@pytest.mark.parametrize("name", convolutions + transformers)
def test_training_is_that_of_the_processor_and_fetches_nothing(some, name):
    start = untrained_network(name, some, 32 if name.startswith("convnext") else 16, seed=0)
    def trained(where, batch_size):
        with Machine() as machine:
            network = copy.deepcopy(start).to(where)
            machine.traffic.clear()
            fit(network, some, epochs=1, batch_size=batch_size, lr=0.01)
        return list(network.state_dict().values()), machine
    (ours, machine), (theirs, _) = trained(device, 24), trained("cpu", 24)
    if name in convolutions: assert close(ours, theirs)
    else: # attention and layer norm are put together from other operations: the same up to rounding
        distance = lambda weights: sum((a - b).square().sum() for a, b in zip(weights, theirs))
        assert distance([x.here for x in ours]) < 0.01*distance(start.state_dict().values())
    assert machine.traffic == trained(device, 12)[1].traffic # of twice as many steps
    assert machine.traffic["to the device"] == 3 # pixels; order and labels once an epoch
    warned = not_deterministic & set(machine.called)
    assert warned == ({pooling} if name == "convnet7" else set()) # its windows do not overlap: always the same


def test_evaluation_waits_once(some):
    start, traffic = untrained_network("resnet18_narrow", some, 8, seed=0), {}
    for batch_size in 8, 24:
        with Machine() as machine:
            network, images = copy.deepcopy(start).to(device), there(some)
            machine.traffic.clear()
            assert accuracy(network, images, batch_size) == accuracy(start, some, 5, pad=True)
        traffic[batch_size] = machine.traffic
    assert traffic[8] == traffic[24] == {"to the device": 2, "waits": 1}


def test_distribution_matching_waits_for_nothing(some):
    two = some.subset(np.flatnonzero(some.labels < 2))
    def matched(where, iterations):
        with Machine() as machine:
            learnt, losses = distribution_matching(two, 0.5, iterations=iterations, width=4, device=where)
        return [learnt.images, torch.tensor(losses)], machine.traffic
    ours, traffic = matched(device, 6)
    assert close(ours, matched("cpu", 6)[0])
    assert traffic == matched(device, 3)[1]


@pytest.mark.parametrize("name", augmentations)
def test_augmentations_of_distribution_matching(name):
    with Machine() as machine:
        x = torch.rand(2, 3, 8, 8)
        ours, theirs = there(x).requires_grad_(), x.clone().requires_grad_()
        machine.traffic.clear()
        made = [siamese_augment(z, name, np.array([0.2, 0.7, 0.4])) for z in (ours, theirs)]
        for y in made: y.square().sum().backward()
        assert close([made[0], ours.grad], [made[1], theirs.grad]) and not machine.traffic


def test_features_views_and_diversity(some):
    network = untrained_network("resnet18_narrow", some, 8, seed=0)
    features = extract_features(some, network, returns="pooled")
    views = extract_features(some, network, returns="pooled", transform=augment_view)
    gradients = extract_features(some, network, returns="gradient")
    scale = features.mean(0), features.std(0) + 1
    score = lambda where: score_bin(features, views, np.arange(24), scale, torch.device(where), epochs=2)
    with Machine() as machine:
        elsewhere = copy.deepcopy(network).to(device)
        assert close([extract_features(there(some), elsewhere, returns="pooled")], [features])
        assert close([extract_features(some, elsewhere, returns="pooled", transform=augment_view)], [views])
        pair = extract_features(some, elsewhere, returns="gradient")
        assert close(pair, gradients)
        assert score(device) == pytest.approx(score("cpu"), rel=1e-3)
        x, traffic = there(torch.from_numpy(features)), []
        for batch_size in 24, 12:
            machine.traffic.clear()
            train_discriminator(x, x, epochs=2, batch_size=batch_size)
            traffic.append(machine.traffic.copy())
        assert traffic == [{"to the device": 4}]*2 # its weights


def test_patches(some):
    network = load_extractor("resnet18_narrow/self:1@16", some, device="cpu")
    masks = np.random.default_rng(0).random((24, 4, 4)) < 0.7
    masks[:, 0] = True
    mae = fit_reconstructor(some, masks, cell=2, epochs=2, batch_size=12, device="cpu")
    fillers = dict(mean="mean", blur="blur", mae=mae)
    filled = {name: reconstruct(some, masks, filler, cell=2, device="cpu") for name, filler in fillers.items()}
    ranks = rank_patches(some, network, cell=2)
    with Machine() as machine:
        assert np.array_equal(rank_patches(some, copy.deepcopy(network).to(device), cell=2), ranks)
        for name, filler in (fillers | dict(mae=copy.deepcopy(mae).to(device))).items():
            found = reconstruct(there(some), masks, filler, cell=2, device=device)
            assert (found.int() - filled[name].int()).abs().max() <= 1, name
        traffic = []
        for batch_size in 12, 24:
            machine.traffic.clear()
            fit_reconstructor(some, masks, cell=2, epochs=1, batch_size=batch_size, device=device)
            traffic.append(machine.traffic.copy())
        assert traffic[0] == traffic[1] and not traffic[0]["waits"]
        assert np.array_equal(texture_level(there(some)), texture_level(some))


def test_a_set_on_the_device_is_saved_and_shown(some, tmp_path):
    with Machine():
        images = there(some)
        assert images.images.device == device and images.fingerprint() == some.fingerprint()
        write(tmp_path, images, indices=np.arange(24), bins=np.zeros(24, int))
        images.show(range(2))
    assert torch.equal(load(tmp_path).images, some.images)


def test_a_set_that_does_not_fit_stays_and_its_batches_go(some, monkeypatch):
    start = untrained_network("resnet18_narrow", some, 8, seed=0)
    def trained(free):
        monkeypatch.setattr(adq.data, "free_memory", lambda device: free)
        with Machine() as machine:
            network = copy.deepcopy(start).to(device)
            assert (some.to(device) is some) == (free < 2*some.images.nbytes)
            machine.traffic.clear()
            fit(network, some, epochs=2, batch_size=12, lr=0.01)
        return network.state_dict().values(), machine.traffic["to the device"]
    (fits, once), (stays, each) = trained(2*some.images.nbytes), trained(2*some.images.nbytes - 1)
    assert same(fits, [x.here for x in stays])
    assert (once, each) == (1 + 2*2, 2*(1 + 2)) # an epoch: order and labels; or labels, and pixels of two batches


def test_batches_of_a_set_that_stays_are_page_locked(some, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x.shape) or x)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for x, y in batches(some, 10, size=16, device="cuda"): assert x.device.type == y.device.type == "cuda"
    assert pinned == [(10, 1, 8, 8), (10, 1, 8, 8), (4, 1, 8, 8)]


def test_only_the_generator_of_the_own_device_is_touched(driver):
    with Machine(), seeded(3, device): assert torch.are_deterministic_algorithms_enabled()
    assert driver.log == [("read", device), ("use", device), ("seed", 3), ("restore", device)]
    assert not torch.are_deterministic_algorithms_enabled()
    with seeded(3): pass
    assert len(driver.log) == 4


def test_the_device_is_asked_for_bfloat16_not_the_current_one(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(asked.append(device)))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with autocast(torch.device("cuda:3")): pass
    assert asked == [torch.device("cuda:3")]


def test_what_is_not_deterministic_is_what_the_notebook_lists(some):
    "Of `seeded`: the backward passes of grid_sample and of overlapping max pooling, and attention in float32."
    def called(work):
        with Machine() as machine: work()
        return not_deterministic & set(machine.called)
    two, large = some.subset(np.flatnonzero(some.labels < 2)), untrained_network("resnet18_narrow", some, 65, seed=0)
    assert called(lambda: fit(large.to(device), some, epochs=1, batch_size=24)) == {pooling}
    matching = called(lambda: distribution_matching(two, 0.5, iterations=9, width=4, device=device))
    assert matching == {"grid_sampler_2d_backward"}
    x, masks = torch.rand(24, 8), np.ones((24, 4, 4), bool)
    assert not called(lambda: train_discriminator(there(x), there(x), epochs=1))
    assert not called(lambda: fit_reconstructor(some, masks, cell=2, epochs=1, device=device))


def test_everything_works_in_bfloat16(some, monkeypatch):
    for module in adq.baselines, adq.features, adq.networks, adq.reconstruction:
        monkeypatch.setattr(module, "autocast", lambda device: torch.autocast("cpu", dtype=torch.bfloat16))
        monkeypatch.setattr(module, "pick_device", pick_device, raising=False)
    masks = np.ones((24, 4, 4), bool)
    masks[:, 1] = False
    for name in "resnet18_narrow", "vit_cifar_narrow":
        network = load_extractor(f"{name}/self:1@16", some, device="cpu")
        for features in extract_features(some, network, returns="gradient"): assert features.dtype == np.float32
        assert 0 <= accuracy(network, some) <= 1 and rank_patches(some, network, cell=2).shape == (24, 4, 4)
    assert np.isfinite(distribution_matching(some, 0.5, iterations=6, width=4, device="cpu")[1]).all()
    assert reconstruct(some, masks, "self:1", cell=2, device="cpu").dtype == torch.uint8


def test_equal_calls_of_compiled_training_are_equal_whatever_ran_before(some, monkeypatch):
    graphs, original = [], nn.Module.compile
    def record(graph, inputs):
        graphs.append([tuple(x.shape) if isinstance(x, torch.Tensor) else x for x in inputs])
        return graph.forward
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: original(module, backend=record, **options))
    def trained(images):
        graphs.clear()
        done = train(images, some, "convnet7", epochs=2, points=2, batch_size=8, lr=0.01, compile=True, device="cpu")
        return list(done.network.state_dict().values()), list(graphs)
    odd = some.subset(range(21)) # two batches of 8, and 5 images that are left out, others in each epoch
    (first, of_first), _, (third, of_third) = trained(odd), trained(some.subset(range(17))), trained(odd)
    assert same(first, third) and of_first == of_third
    assert len(of_first) == 2 # training and evaluation
    few, of_few = trained(some.subset(range(5)))
    assert len(of_few) == 2 and all(x.isfinite().all() for x in few)


def test_every_process_fills_on_its_own_device(tmp_path, digits, monkeypatch):
    import adq.store
    from adq.cli import main
    how = dict(method="random", patch_keep=0.75, extractor="resnet18_narrow/self:1", device="cpu")
    compress(digits.subset(range(300)), 0.5, **how).save(tmp_path/"small")
    filled, fill, own = [], adq.store.fill, torch.device("cpu", 0)
    def note(*args, **options):
        filled.append(options["device"])
        return fill(*args, **options)
    monkeypatch.setattr(adq.store, "fill", note)
    monkeypatch.setattr(adq.settings, "torchrun", lambda asked: nullcontext(own))
    monkeypatch.setattr(adq.train, "pick_device", pick_device)
    words = "--test digits --model resnet18_narrow --epochs 1 --reconstruct blur --device cpu".split()
    assert not main(["train", str(tmp_path/"small"), *words]) and filled == [own]


def test_one_of_several_processes_downloads(tmp_path, monkeypatch):
    import adq.sources
    at_work, made = [], []
    def make(root, train, download):
        file = tmp_path/"file"
        if not file.exists():
            if not download: raise RuntimeError("not found")
            assert not at_work
            at_work.append(1)
            time.sleep(0.2)
            at_work.pop()
            made.append(file.write_text("x"))
        return SimpleNamespace(data=np.zeros((2, 4, 4, 3), np.uint8), targets=[0, 1], classes=["a", "b"])
    monkeypatch.setitem(adq.sources._torchvision, "cifar10", make)
    load_one = lambda _: adq.sources.load_images("cifar10", data_root=tmp_path)
    with ThreadPoolExecutor(3) as pool: found = list(pool.map(load_one, range(3)))
    assert [len(images) for images in found] == [2, 2, 2] and len(made) == 1
