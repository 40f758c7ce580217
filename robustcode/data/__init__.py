"""A data set by name: numbered samples with pixels in [0, 1].

    digits              scikit-learn's 8x8 digits; nothing to download
    cifar10:DIR         packed npz, python batches, or binary batches
    cifar100:DIR        python or binary, with the 100 fine labels
    mnist:DIR           idx files, plain or .gz; fashion_mnist:DIR likewise
    tiny_imagenet:DIR   the original folders; its val is our test
    npz:FILE            arrays ``images`` and ``labels``, for whichever split is asked
    folder:DIR          one folder of PNG or JPEG files for each class
    FILE.py:CALLABLE    or package.module:CALLABLE, returning (images, labels) or a Dataset

A sample is known by its index in its split, everywhere in the project.
"""

from robustcode.data import cifar, digits, folder, idx, npz, tiny_imagenet  # noqa: F401 - register
from robustcode.data.arrays import from_arrays
from robustcode.data.dataset import DATA, Dataset
from robustcode.data.load import load_data

__all__ = ["DATA", "Dataset", "from_arrays", "load_data"]
