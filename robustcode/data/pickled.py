"""Reading the pickles of CIFAR as data.

A pickle is a program. Of all it could call, the original CIFAR files need a handful that
rebuild byte arrays; those are replaced by the stand-ins below and anything else is refused
before it is called, so neither numpy nor any other module is ever driven by the file.
"""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from robustcode.errors import DataError
from robustcode.importing import reason


def read_pickle(handle: BinaryIO, name: str) -> dict[str, Any]:
    """The dictionary in a CIFAR file: text, numbers, lists of them, and uint8 arrays.

    Text and bytes of Python 2 come as str. ``name`` is the file's, for errors.
    """
    try:
        # latin1 maps each byte to one character, so arrays that Python 2 wrote survive.
        content = _Reader(handle, encoding="latin1").load()
    except DataError as refusal:
        raise DataError(f"{name!r} {refusal}") from None
    except Exception as cause:  # a damaged pickle can fail in any way at all
        raise DataError(f"{name!r} is damaged or no pickle: {reason(cause)}") from cause
    if not isinstance(content, dict):
        raise DataError(f"{name!r} holds a {type(content).__name__}, not the dictionary of CIFAR")
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: value
        for key, value in content.items()
    }


class ByteArray:
    """A uint8 array in the making."""

    def __init__(self) -> None:
        self._raw: bytes | bytearray | str = b""
        self._shape: tuple[int, ...] = (0,)

    def __setstate__(self, state: Any) -> None:
        """Take what numpy writes: version, shape, dtype, whether in Fortran order, bytes."""
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _ByteType) or fortran:
            raise DataError("holds an array that is not uint8 in C order; CIFAR has no such array")
        if not isinstance(shape, tuple) or not isinstance(raw, bytes | bytearray | str):
            raise DataError("holds an array without its bytes; CIFAR has no such array")
        self._shape, self._raw = shape, raw

    def array(self) -> NDArray[np.uint8]:
        """The array, read-only; ValueError if its bytes do not fill its shape."""
        raw = self._raw.encode("latin1") if isinstance(self._raw, str) else self._raw
        return np.frombuffer(raw, np.uint8).reshape(self._shape)


class _ByteType:
    """Stands for the dtype uint8."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in ("u1", "|u1", "uint8"):
            raise DataError(f"holds an array of {name!r}; CIFAR has uint8 arrays only")

    def __setstate__(self, state: object) -> None:
        """Byte order and flags, which mean nothing for single bytes."""


class _NdArray:
    """Stands for the class numpy.ndarray, which files name but need not call."""


def _reconstruct(*_: object) -> ByteArray:
    return ByteArray()


def _frombuffer(raw: bytes, dtype: object, shape: object, order: object) -> ByteArray:
    array = ByteArray()
    array.__setstate__((1, shape, dtype, order != "C", raw))
    return array


def _encode(text: str, encoding: str = "") -> bytes:
    # How Python 3 writes bytes for Python 2.
    if encoding not in ("latin1", "latin-1"):
        raise DataError(f"asks for the encoding {encoding!r}; CIFAR has latin1 only")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    # How Python 3 writes empty bytes for Python 2. With a number, bytes() would fill memory.
    return b""


ALLOWED = {
    "multiarray._reconstruct": _reconstruct,
    "numeric._frombuffer": _frombuffer,
    "numpy.ndarray": _NdArray,
    "numpy.dtype": _ByteType,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # numpy moved its core from numpy.core to numpy._core.
        for prefix in ("numpy.core.", "numpy._core."):
            module = module.removeprefix(prefix)
        found = ALLOWED.get(f"{module}.{name}")
        if found is None:
            raise DataError(
                f"would run {module}.{name} when read, so it is not a CIFAR file and was refused"
            )
        return found
