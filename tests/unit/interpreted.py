"""Triton's interpreter on a CPU, with what it lacks; to be imported before Triton, which decides at its first import."""

import ctypes
import os

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import triton.runtime.interpreter as interpreter


class NumpyMemory:
    """Loads and stores of the interpreter: those of Triton 3.1 are compiled for NumPy 1 and read garbage under NumPy 2."""

    @staticmethod
    def _view(addresses, dtype):
        low = int(addresses.min())
        length = (int(addresses.max()) - low) // dtype.itemsize + 1
        memory = (ctypes.c_char * (length * dtype.itemsize)).from_address(low)
        return np.frombuffer(memory, dtype), ((addresses - np.uint64(low)) // np.uint64(dtype.itemsize)).astype(
            np.int64
        )

    @staticmethod
    def load(pointers, mask, other, dtype):
        dtype = np.dtype(dtype)
        value = np.array(np.broadcast_to(other, pointers.shape).astype(dtype))
        mask = np.broadcast_to(mask, pointers.shape).astype(bool)
        if mask.any():
            view, index = NumpyMemory._view(pointers[mask].astype(np.uint64), dtype)
            value[mask] = view[index]
        return value

    @staticmethod
    def store(pointers, value, mask):
        mask = np.broadcast_to(mask, pointers.shape).astype(bool)
        if mask.any():
            view, index = NumpyMemory._view(pointers[mask].astype(np.uint64), value.dtype)
            view[index] = np.broadcast_to(value, pointers.shape)[mask]

    def __getattr__(self, name):
        return getattr(native, name)


native = interpreter._interpreter
interpreter._interpreter = NumpyMemory()
patch_tensor = interpreter._patch_lang_tensor


def patch(tensor, *scope):
    """NumPy 2 also refuses to turn an array of one element into an index."""
    patch_tensor(tensor, *scope)
    tensor.__index__ = lambda self: int(self.handle.data.item())


interpreter._patch_lang_tensor = patch
