"""Adaptive Dataset Quantization: make a training set of images several times smaller.

    from adq import compress, load, load_images

    images = load_images("photos") # 800 of the sample photographs that come with the package, or a folder of yours
    compress(images, keep=0.1, extractor="tf_efficientnet_lite0/wheel@64").save("small")
    dataset = load("small")        # a PyTorch dataset of (uint8 image, label)

`compare` trains on what several methods keep, and says what each of them costs. A name is imported when it is first
used, because torch and the libraries beside it take seconds.
"""
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adq.pipeline import compress
    from adq.sources import load_images
    from adq.store import load
    from adq.train import compare

__version__ = "0.1.0"
__all__ = ["load_images", "compress", "load", "compare"]

_module_of = {"load_images": "sources", "compress": "pipeline", "load": "store", "compare": "train"}


def __getattr__(name):
    if name not in _module_of: raise AttributeError(f"module 'adq' has no attribute '{name}'")
    globals()[name] = value = getattr(import_module(f"adq.{_module_of[name]}"), name)
    return value


def __dir__(): return sorted({*globals(), *__all__})
