"""SchNetPack's PaiNN of the student's width and depth, to compare the times of another library on the same molecules.

Its MLPs are as wide as the features, the student's are narrower, so it cannot take the student's weights: it is another
network, with random ones. It is timed, without a speed-up or a check against the student. Neighbor
search, sums and forces by autograd are eager's, so that the network alone is what differs.
"""

import importlib.util

import torch
from torch import nn

from mlff_distiller.neighbors.search import edge_vectors
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.variants.base import VariantFamily


def import_schnetpack():
    """SchNetPack 2.1.1, which names a type variable of PyTorch's data loader that newer versions have made private."""
    import torch.utils.data.dataloader as dataloader

    if not hasattr(dataloader, "T_co"):
        dataloader.T_co = dataloader._T_co
    import schnetpack

    return schnetpack


class SchNetPackEnergy(nn.Module):
    """PaiNN (Schuett, Unke, Gastegger 2021) as SchNetPack has it, with the signature of the student's ``forward``."""

    def __init__(self, student):
        super().__init__()
        spk = import_schnetpack()
        config = student.config
        self.neighbor_search, self.cutoff = student.neighbor_search, student.cutoff
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.representation = spk.representation.PaiNN(
                n_atom_basis=config.n_features,
                n_interactions=config.n_blocks,
                radial_basis=spk.nn.GaussianRBF(n_rbf=config.n_radial, cutoff=config.cutoff),
                cutoff_fn=spk.nn.CosineCutoff(config.cutoff),
            )
            self.readout = spk.nn.build_mlp(
                n_in=config.n_features,
                n_out=1,
                n_hidden=config.readout_width,
                n_layers=2,
                activation=nn.functional.silu,
            )

    def forward(self, numbers, positions, batch, cell=None, pbc=None):
        """Energies [B]; see :meth:`mlff_distiller.student.painn.StudentForceField.forward`."""
        receivers, senders, shifts = self.neighbor_search(positions, self.cutoff, batch, cell, pbc)
        vectors = edge_vectors(positions, receivers, senders, batch, cell, shifts)
        inputs = {"_atomic_numbers": numbers, "_Rij": vectors, "_idx_i": receivers, "_idx_j": senders}
        atomic = self.readout(self.representation(inputs)["scalar_representation"]).squeeze(-1).to(torch.float64)
        n_systems = cell.shape[0] if cell is not None else int(batch[-1]) + 1
        return torch.zeros([n_systems], dtype=torch.float64, device=positions.device).index_add(0, batch, atomic)


class SchNetPack(VariantFamily):
    """No options."""

    def unavailable(self, spec, device):
        """It needs the package."""
        if importlib.util.find_spec("schnetpack") is None:
            return "SchNetPack is not installed; `pip install schnetpack==2.1.1` (the dependency group dev has it)"
        return None

    def load(self, student, spec, folder):
        """SchNetPack's network with random weights, forces by autograd."""
        network = SchNetPackEnergy(student).to(student.device, student.dtype).eval().requires_grad_(False)
        return AutogradPotential(student, network)


FAMILY = SchNetPack()
