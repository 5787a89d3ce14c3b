"""The kernels of the messages under Triton's interpreter: run as a program, it compares them with PyTorch and prints JSON."""

import json

from tests.unit import interpreted  # noqa: F401  # isort: skip
import torch

from mlff_distiller.training import messages, messages_triton
from tests.unit.training.test_messages import arguments

DERIVED = {
    "message": (messages.message, messages_triton.message),
    "message_gradient": (messages.message_gradient, messages_triton.message_gradient),
    "message_second_gradient": (messages.message_second_gradient, messages_triton.message_second_gradient),
}


def main() -> None:
    found = []
    for dtype in (torch.float64, torch.float32):
        # 24 is no power of two: some columns of a program are not used.
        for features, carries in ((16, True), (24, True), (24, False)):
            for name, (expected, kernel) in DERIVED.items():
                given, graph = arguments(name, features, carries, dtype)
                pairs = zip(expected(*given, *graph), kernel(*given, *graph[2:]), strict=True)
                errors = [float((a - b).abs().max()) if a.numel() else 0.0 for a, b in pairs]
                found.append({"operation": name, "dtype": str(dtype), "error": max(errors)})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
