"""Adaptive Dataset Quantization: make a training set of images several times smaller."""

__version__ = "0.1.0"

from adq.sources import load_images
from adq.pipeline import compress
from adq.store import load
