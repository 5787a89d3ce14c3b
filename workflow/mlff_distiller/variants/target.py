"""Where compiled code runs: the versions and hardware that it depends on."""

import hashlib
import platform
import sys
from typing import Any

from mlff_distiller.utils import provenance


def target_of(device: str) -> dict[str, str]:
    """Torch, Python, and the processor or GPU of this process, as an artifact compiled for ``device`` needs them.

    Returns:
        ``torch`` and ``python`` versions, ``device`` ("cpu" or "cuda"), ``architecture`` for people, and
        ``fingerprint``, a hash of what the compiler's tuning depends on.
    """
    import torch

    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        architecture = f"{torch.cuda.get_device_name()}, sm_{major}{minor}"
        fingerprint = architecture
    else:
        architecture = f"{provenance.cpu_model()}, {platform.machine()}"
        fingerprint = hashlib.sha256(provenance.processor().encode()).hexdigest()[:16]
    return {
        "torch": torch.__version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "device": device,
        "architecture": architecture,
        "fingerprint": fingerprint,
    }


def differences(made: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What separates two targets, in words; empty when code made for one runs on the other."""
    found = [
        f"made for {key if key != 'python' else 'Python'} {made.get(key)}, this is {here[key]}"
        for key in ("torch", "python", "device", "architecture")
        if made.get(key) != here[key]
    ]
    # The same name with other instruction sets: a virtual machine may hide some.
    if not found and made.get("fingerprint") != here["fingerprint"]:
        found.append(f"made for other instruction sets of {here['architecture']}")
    return found
