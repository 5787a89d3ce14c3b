"""Bundles in i-PI: a driver that computes all beads of a ring polymer in one call.

i-PI takes drivers as files: the one in a bundle's ``engines/ipi/`` derives from :class:`StudentDriver`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ipi.pes.dummy import Dummy_driver
from ipi.utils.units import unit_to_internal, unit_to_user

from mlff_distiller.deploy.bundle import load_bundle
from mlff_distiller.deploy.engines.many_systems import WITHOUT_STRESS, ManySystems
from mlff_distiller.systems.limits import checked_allow
from mlff_distiller.systems.read import read_system
from mlff_distiller.systems.stress import volumes
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.settings import refuse_unknown

#: Energy (hartree), forces [N, 3] (hartree/bohr), virial [3, 3] (hartree) and a text, as i-PI takes them.
Answer = tuple[float, np.ndarray, np.ndarray, str]


class StudentDriver(Dummy_driver):
    """A bundle as a potential of i-PI, in its atomic units; lists of structures are one batch.

    i-PI hands over positions and cell alone: elements and periodicity are those of ``template``. A virial that the student
    does not give (of molecules; of kernels without stress) is NaN, so that no pressure is made of it.

    Args:
        template: a structure file that ASE reads, atoms in i-PI's order.
        bundle: its folder.
        allow: what is computed although the student has not learned it, as a list or as words in one text, see
            :class:`~mlff_distiller.systems.limits.Limits`.
        options: those of i-PI's drivers, ``verbose`` and ``verbosity``.

    Raises:
        UserError: see :func:`mlff_distiller.deploy.bundle.load_bundle`; a template that cannot be read, with elements that the
            student never learned, or with a charge.
    """

    def __init__(self, template: str | Path, bundle: str | Path, allow: str | Sequence[str] = (), **options: Any):
        refuse_unknown(options, ("verbose", "verbosity"), "the driver of i-PI")
        allowed = checked_allow(allow.split() if isinstance(allow, str) else allow)
        potential = load_bundle(bundle, allow=allowed)
        structure = read_system(template, allow=allowed & {"charge", "spin"})
        potential.limits.check_numbers(structure.numbers)
        self._template, self._pbc = str(template), structure.pbc.copy()
        self._numbers = torch.from_numpy(structure.numbers.astype(np.int64)).to(potential.device)
        self._systems = ManySystems(potential)
        self._has_stress = bool(self._pbc.any()) and potential.has_stress
        self._first_cell: np.ndarray | None = None
        super().__init__(**options)

    def compute(self, cell: Any, pos: Any) -> Answer | list[Answer]:
        """One structure, or lists of them: cells [3, 3] with lattice vectors in columns, positions [N, 3], in bohr.

        Raises:
            UserError: another number of atoms than in the template; a cell that changes where there is no stress; what
                :class:`~mlff_distiller.deploy.engines.many_systems.ManySystems` refuses.
        """
        if isinstance(cell, list):
            return self._compute(cell, pos)
        return self._compute([cell], [pos])[0]

    def compute_structure(self, cell: np.ndarray, pos: np.ndarray) -> Answer:
        """One structure, see :meth:`compute`."""
        return self._compute([cell], [pos])[0]

    def _compute(self, cells: Sequence[np.ndarray], positions: Sequence[np.ndarray]) -> list[Answer]:
        count, n_atoms = len(cells), len(self._numbers)
        for structure in positions:
            if len(structure) != n_atoms:
                raise UserError(
                    f"i-PI has {len(structure)} atoms, {self._template} has {n_atoms}: give i-PI and the driver the same file"
                )
        device = self._numbers.device
        where = torch.from_numpy(unit_to_user("length", "angstrom", np.concatenate(positions))).to(device)
        batch = torch.arange(count, device=device).repeat_interleave(n_atoms)
        rows = unit_to_user("length", "angstrom", np.stack(cells)).transpose(0, 2, 1).copy()
        self._refuse_changes(rows)
        box = pbc = None
        if self._pbc.any():
            box = torch.from_numpy(rows).to(device)
            pbc = torch.from_numpy(self._pbc).to(device).repeat(count, 1)
        energies, forces, stresses = self._systems(
            self._numbers.repeat(count), where, batch, box, pbc, stress=self._has_stress
        )
        virials = np.full((count, 3, 3), np.nan)
        if stresses is not None:
            virials = -stresses.cpu().numpy() * volumes(rows)[:, None, None]
        return [
            (
                float(unit_to_internal("energy", "electronvolt", energy)),
                unit_to_internal("force", "ev/ang", force),
                unit_to_internal("energy", "electronvolt", virial.T),
                "",
            )
            for energy, force, virial in zip(
                energies.tolist(), forces.cpu().numpy().reshape(count, n_atoms, 3), virials, strict=True
            )
        ]

    def _refuse_changes(self, rows: np.ndarray) -> None:
        """Refuse cells [B, 3, 3] other than the first where i-PI was given no virial to change them by."""
        if self._has_stress:
            return
        if self._first_cell is None:
            self._first_cell = rows[0]
        # NaN, which is what a barostat makes of it, equals nothing.
        if not (rows == self._first_cell).all():
            if self._pbc.any():
                raise UserError(f"the cell changes, and {WITHOUT_STRESS}")
            raise UserError(
                f"the cell changes, but {self._template} is a molecule, which has no pressure: keep the volume, or state "
                "periodicity and cell in the template"
            )
