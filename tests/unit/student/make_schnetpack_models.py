"""Writes schnetpack_models/: small PaiNNs that SchNetPack made and trained, and what it says of some molecules in fp64.

    .venv/bin/python tests/unit/student/make_schnetpack_models.py

It needs SchNetPack 2 (`pip install schnetpack==2.1.1`; the dependency group dev has it). Tests read what it wrote without.
"""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

sys.path[:0] = [str(Path(__file__).parents[3] / "workflow")]
from mlff_distiller.variants.families.schnetpack import import_schnetpack  # noqa: E402 (after the path)

spk = import_schnetpack()
import schnetpack.transform as trn  # noqa: E402 (after import_schnetpack)
from schnetpack.interfaces import AtomsConverter  # noqa: E402

FOLDER = Path(__file__).parent / "schnetpack_models"
CUTOFF, FEATURES = 4.0, 12


def model(postprocessors=(), n_interactions=2, n_rbf=6, shared=False, key="energy", readout=7):
    """A PaiNN as SchNetPack's configuration builds it."""
    return spk.model.NeuralNetworkPotential(
        representation=spk.representation.PaiNN(
            n_atom_basis=FEATURES,
            n_interactions=n_interactions,
            radial_basis=spk.nn.GaussianRBF(n_rbf=n_rbf, cutoff=CUTOFF),
            cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
            shared_interactions=shared,
            shared_filters=shared,
        ),
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[
            spk.atomistic.Atomwise(n_in=FEATURES, n_hidden=readout, output_key=key),
            spk.atomistic.Forces(energy_key=key, force_key="forces"),
        ],
        postprocessors=list(postprocessors),
    )


def offsets(key="energy", **references):
    """AddOffsets with a mean and reference energies, as a training sets them from its data."""
    step = trn.AddOffsets(key, add_mean=True, add_atomrefs=bool(references), zmax=60)
    step.mean = torch.tensor([-0.37])
    for number, value in references.items():
        step.atomref[int(number[1:])] = value
    return step


def frames(n, seed=0):
    """Displaced molecules and a periodic crystal."""
    rng, found = np.random.default_rng(seed), []
    for i in range(n):
        atoms = molecule(("H2O", "CH4", "CH3OH")[i % 3])
        atoms.positions += rng.normal(0.0, 0.05, atoms.positions.shape)
        found.append(atoms)
    places = np.array([[0.4, 0.4, 0.4], [1.7, 1.0, 0.6], [0.5, 1.9, 2.0], [2.6, 2.5, 2.3]])
    carbon = Atoms("COHC", places + rng.normal(0.0, 0.05, places.shape))
    carbon.cell, carbon.pbc = [[4.2, 0.0, 0.3], [0.0, 4.4, 0.0], [0.2, 0.0, 4.6]], True
    return [*found, carbon]


def batch_of(atoms, dtype):
    """SchNetPack's inputs of some systems."""
    converter = AtomsConverter(neighbor_list=trn.ASENeighborList(cutoff=CUTOFF), dtype=dtype)
    return converter(atoms)


def train(network, steps=60):
    """A few steps of Adam on EMT's energies and forces, so that no weight is as it was drawn."""
    data = []
    for atoms in frames(6)[:-1]:
        atoms.calc = EMT()
        data.append((atoms, atoms.get_potential_energy(), atoms.get_forces()))
    energies = torch.tensor([energy for _, energy, _ in data], dtype=torch.float32)
    forces = torch.tensor(np.concatenate([force for *_, force in data]), dtype=torch.float32)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    network.do_postprocessing = False
    for _ in range(steps):
        found = network(batch_of([atoms for atoms, *_ in data], torch.float32))
        loss = ((found["energy"] - energies) ** 2).mean() + ((found["forces"] - forces) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.do_postprocessing = True


def in_double(network):
    """What the model says of the frames in fp64, with the Gaussians as the equations have them, not rounded to fp32."""
    exact = copy.deepcopy(network).double().eval()
    basis = exact.representation.radial_basis
    basis.offsets = torch.linspace(0.0, CUTOFF, len(basis.offsets), dtype=torch.float64).float().double()
    basis.widths = torch.full_like(basis.offsets, CUTOFF / (len(basis.offsets) - 1))
    exact.postprocessors = torch.nn.ModuleList(p for p in exact.postprocessors if "Cast" not in type(p).__name__)
    found = []
    for atoms in frames(3, seed=7):
        said = exact(batch_of([atoms], torch.float64))
        found.append(
            {
                "numbers": atoms.numbers.tolist(),
                "positions": atoms.positions.tolist(),
                "cell": atoms.cell.array.tolist() if atoms.pbc.any() else None,
                "energy": float(said["energy"]),
                "forces": said["forces"].detach().tolist(),
            }
        )
    return found


def main():
    """Train, ask and write."""
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(1)
    references = {"z1": -1.5, "z6": 2.25, "z8": -7.0}
    made = {
        "plain": model(),
        "offsets": model([trn.CastTo64(), offsets(**references)]),
        "scaled": model([
            trn.ScaleProperty("energy", scale=None), trn.ScaleProperty("forces", scale=None), trn.CastTo64(), offsets()
        ], n_interactions=1, n_rbf=9),
        "shared": model([trn.CastTo64(), offsets(**references)], n_interactions=3, shared=True),
    }  # fmt: skip
    expected = {}
    for name, network in made.items():
        train(network)
        if name == "scaled":
            for step in list(network.postprocessors)[:2]:
                step.scale = torch.tensor([0.0433641153])
        network.eval()
        torch.save(network, FOLDER / f"{name}.model")
        expected[name] = in_double(network)
    (FOLDER / "expected.json").write_text(json.dumps({"schnetpack": spk.__version__, "frames": expected}, indent=1))


if __name__ == "__main__":
    main()
