"""Whether another environment's Python can run the jobs that ask the teacher."""

import json
import os
import shlex
import subprocess

from mlff_distiller.utils.errors import Words

#: Module -> package of what these jobs import, beside the teacher itself.
NEEDED = {
    "ase": "ase",
    "h5py": "h5py",
    "numpy": "numpy",
    "pydantic": "pydantic",
    "rdkit": "rdkit",
    "rich": "rich",
    "yaml": "pyyaml",
}
_TRIAL = """
import importlib.util, json, sys
print(json.dumps([sys.version_info[:2], [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]]))
"""


def problem(python: str) -> Words:
    """What is wrong with the Python at this path, and the command that mends it; empty where nothing is."""
    if not os.path.isfile(python):
        folder = python.partition("/")[0]
        name = folder.removeprefix(".venv-")
        shipped = name != folder and os.path.isfile(f"envs/{name}.lock")
        return f"{python}: no such file" + (f"; `make {name}` makes it" if shipped else "")
    if not os.access(python, os.X_OK):
        return f"{python}: not a program; name the Python of a virtual environment, such as .venv-mine/bin/python"
    try:
        done = subprocess.run([python, "-c", _TRIAL, *NEEDED], capture_output=True, text=True, timeout=120)
        version, missing = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return f"{python}: does not answer as Python does"
    if version < [3, 11]:
        return f"{python}: Python {version[0]}.{version[1]}; 3.11 or newer is needed"
    if missing:
        packages = " ".join(NEEDED[name] for name in missing)
        return f"{python}: lacks {packages}; `.venv/bin/uv pip install --python {shlex.quote(python)} {packages}`"
    return ""
