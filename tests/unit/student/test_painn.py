"""The physics that any student must obey, whatever its weights; tolerances are those of NequIP's tests."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.student import wall
from mlff_distiller.student.config import StudentConfig
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.batch import Batch
from mlff_distiller.utils.errors import UserError
from tests.conftest import make_student

DTYPES = [pytest.param(torch.float32, id="fp32"), pytest.param(torch.float64, id="fp64")]
#: (fp32, fp64) absolute tolerances, eV and eV/A.
EXACT = {torch.float32: 1e-4, torch.float64: 1e-10}
ROTATED = {torch.float32: 1e-3, torch.float64: 1e-8}


def evaluate(model, atoms, dtype):
    potential = AutogradPotential(model)
    energies, forces = potential(*Batch.from_atoms([atoms], "cpu", dtype))
    return float(energies[0]), forces.double().numpy()


@pytest.fixture(params=DTYPES)
def model(request, student, student64):
    return (student if request.param == torch.float32 else student64), request.param


def test_default_size_is_427169_parameters(student):
    assert sum(parameter.numel() for parameter in student.parameters()) == 427_169


def test_rotation_turns_the_forces_and_leaves_the_energy(model, molecules):
    student, dtype = model
    atoms = molecules["caffeine"].copy()
    energy, forces = evaluate(student, atoms, dtype)
    turn = Rotation.random(random_state=3).as_matrix()
    atoms.positions = atoms.positions @ turn.T
    turned_energy, turned_forces = evaluate(student, atoms, dtype)
    assert np.abs(forces).max() > 0.1
    assert turned_energy == pytest.approx(energy, abs=ROTATED[dtype])
    np.testing.assert_allclose(turned_forces, forces @ turn.T, rtol=0, atol=ROTATED[dtype])


def test_translation_changes_nothing(model, molecules):
    student, dtype = model
    atoms = molecules["caffeine"].copy()
    energy, forces = evaluate(student, atoms, dtype)
    atoms.positions += [3.0, -40.0, 7.0]
    moved_energy, moved_forces = evaluate(student, atoms, dtype)
    assert moved_energy == pytest.approx(energy, abs=EXACT[dtype])
    np.testing.assert_allclose(moved_forces, forces, rtol=0, atol=EXACT[dtype])


def test_permutation_permutes_the_forces(model, molecules):
    student, dtype = model
    atoms = molecules["caffeine"]
    energy, forces = evaluate(student, atoms, dtype)
    order = np.random.default_rng(0).permutation(len(atoms))
    other_energy, other_forces = evaluate(student, atoms[order], dtype)
    assert other_energy == pytest.approx(energy, abs=EXACT[dtype])
    np.testing.assert_allclose(other_forces, forces[order], rtol=0, atol=EXACT[dtype])


def test_energy_is_extensive(model, molecules):
    student, dtype = model
    one, two = molecules["benzene"], molecules["water"].copy()
    two.positions += 30.0
    together, _ = evaluate(student, one + two, dtype)
    assert together == pytest.approx(
        evaluate(student, one, dtype)[0] + evaluate(student, two, dtype)[0], abs=EXACT[dtype]
    )


def test_energy_and_forces_go_to_zero_smoothly_at_the_cutoff(student64):
    cutoff = student64.cutoff
    alone = 2 * evaluate(student64, Atoms("C"), torch.float64)[0]

    def pair(distance):
        energy, forces = evaluate(student64, Atoms("C2", [[0, 0, 0], [distance, 0, 0]]), torch.float64)
        return energy - alone, np.abs(forces).max()

    energies, forces = np.array([pair(cutoff - gap) for gap in (1e-2, 1e-3, 1e-4)]).T
    # The cosine cutoff leaves with zero slope: energy falls with the square of the gap, force with the gap.
    assert np.abs(energies[1] / energies[0]) == pytest.approx(1e-2, rel=0.2)
    assert forces[2] / forces[1] == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("distance", [5.0, 5.0 + 1e-9, 7.0])
def test_force_at_and_beyond_the_cutoff_is_exactly_zero(student64, distance):
    _, forces = evaluate(student64, Atoms("CO", [[0, 0, 0], [distance, 0, 0]]), torch.float64)
    assert (forces == 0).all()


def test_batch_equals_single(model, molecules):
    student, dtype = model
    systems = [molecules[name] for name in ("water", "caffeine", "methane")]
    energies, forces = AutogradPotential(student)(*Batch.from_atoms(systems, "cpu", dtype))
    tolerance = {torch.float32: 1e-3, torch.float64: 1e-10}[dtype]
    start = 0
    for index, atoms in enumerate(systems):
        energy, force = evaluate(student, atoms, dtype)
        assert float(energies[index]) == pytest.approx(energy, abs=tolerance)
        np.testing.assert_allclose(forces[start : start + len(atoms)].double(), force, rtol=0, atol=tolerance)
        start += len(atoms)


def test_a_molecule_feels_nothing_of_the_others_in_its_batch(student64, molecules):
    # On top of each other in space, apart in the batch.
    numbers, positions, batch, _, _ = Batch.from_atoms([molecules["water"], molecules["methane"]], "cpu", torch.float64)
    positions.requires_grad_(True)
    energies = student64(numbers, positions, batch)
    (gradient,) = torch.autograd.grad(energies[0], positions)
    assert (gradient[batch == 1] == 0).all()
    assert (gradient[batch == 0] != 0).any()


def test_forces_are_the_slope_of_the_energy_at_every_step_size(student64, molecules):
    atoms = molecules["methane"].copy()
    atoms.positions += np.random.default_rng(1).normal(0, 0.1, atoms.positions.shape)
    _, forces = evaluate(student64, atoms, torch.float64)
    errors = []
    for step in (1e-2, 1e-3, 1e-4):
        slope = np.zeros_like(forces)
        for index in np.ndindex(slope.shape):
            moved = [atoms.copy(), atoms.copy()]
            moved[0].positions[index] += step
            moved[1].positions[index] -= step
            up, down = (evaluate(student64, m, torch.float64)[0] for m in moved)
            slope[index] = -(up - down) / (2 * step)
        errors.append(np.abs(slope - forces).max())
    assert errors[2] < 1e-6
    # Central differences: the error falls with the square of the step until rounding takes over.
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.3)


def test_stress_is_the_slope_of_the_energy_under_strain(student64):
    atoms = bulk("NaCl", "rocksalt", a=5.0).repeat((1, 2, 1))
    generator = np.random.default_rng(2)
    atoms.positions += generator.normal(0, 0.1, atoms.positions.shape)
    atoms.set_cell(atoms.cell + generator.normal(0, 0.1, (3, 3)), scale_atoms=True)
    _, _, stress = AutogradPotential(student64).with_stress(*Batch.from_atoms([atoms], "cpu", torch.float64))
    step = 1e-5
    for i, j in np.ndindex(3, 3):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(evaluate_periodic(student64, strained))
        slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
        assert float(stress[0, i, j]) == pytest.approx(slope, abs=1e-7)


def evaluate_periodic(student, atoms):
    return float(student(*Batch.from_atoms([atoms], "cpu", torch.float64))[0])


def test_a_periodic_supercell_has_the_same_energy_per_atom(student64):
    cell = bulk("NaCl", "rocksalt", a=5.6)
    one, many = evaluate_periodic(student64, cell), evaluate_periodic(student64, cell.repeat((3, 2, 2)))
    assert many == pytest.approx(12 * one, abs=1e-8)


def test_reference_energies_stay_in_fp64_when_the_network_is_cast(student):
    import copy

    exact = torch.full_like(student.reference_energies, -1234.567890123456)
    model = copy.deepcopy(student)
    model.reference_energies.copy_(exact)
    assert torch.equal(model.to(torch.float32).half().reference_energies, exact)


def test_equals_schnetpack_weight_for_weight(molecules):
    from mlff_distiller.variants.families.schnetpack import import_schnetpack

    spk = import_schnetpack()
    student = make_student(mlp_width=128).to(torch.float64)
    network, config = student.network, student.config
    network.wall.copy_(wall.no_wall(config.max_atomic_number))
    reference = spk.representation.PaiNN(
        n_atom_basis=config.n_features,
        n_interactions=config.n_blocks,
        radial_basis=spk.nn.GaussianRBF(n_rbf=config.n_radial, cutoff=config.cutoff),
        cutoff_fn=spk.nn.CosineCutoff(config.cutoff),
        epsilon=student.config.norm_epsilon,
    ).to(torch.float64)
    weights = {"embedding.weight": network.embedding.weight}
    pairs = [("filter_net", network.filters)]
    for block, (message, update) in enumerate(zip(network.messages, network.updates, strict=True)):
        pairs += [
            (f"interactions.{block}.interatomic_context_net.0", message.phi_in),
            (f"interactions.{block}.interatomic_context_net.1", message.phi_out),
            (f"mixing.{block}.mu_channel_mix", update.mix_uv),
            (f"mixing.{block}.intraatomic_context_net.0", update.mlp_in),
            (f"mixing.{block}.intraatomic_context_net.1", update.mlp_out),
        ]
    for name, layer in pairs:
        weights[f"{name}.weight"] = layer.weight
        if layer.bias is not None:
            weights[f"{name}.bias"] = layer.bias
    state = reference.state_dict()
    for name, tensor in weights.items():
        # Fewer elements fit SchNetPack's table of embeddings the other way round: compare what both have.
        rows = min(len(tensor), len(state[name]))
        state[name][:rows] = tensor[:rows]
    reference.load_state_dict(state)
    # SchNetPack rounds its Gaussians to fp32 as it makes them; the comparison is of the equations.
    reference.radial_basis.offsets.copy_(network.basis.centers)
    reference.radial_basis.widths.fill_(config.cutoff / (config.n_radial - 1))
    numbers, positions, batch, cell, pbc = Batch.from_atoms([molecules["caffeine"]], "cpu", torch.float64)
    receivers, senders, _ = student.neighbor_search(positions, student.cutoff, batch, cell, pbc)
    vectors = positions[senders] - positions[receivers]
    inputs = {"_atomic_numbers": numbers, "_Rij": vectors, "_idx_i": receivers, "_idx_j": senders}
    features = reference(inputs)["scalar_representation"]
    theirs = network.readout_out(torch.nn.functional.silu(network.readout_in(features))).squeeze(-1)
    ours = network(numbers, vectors, receivers, senders)
    assert ours.abs().max() > 1e-2
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"cutoff": 0}, "cutoff: expected number > 0, got 0"),
        ({"cutoff": -1.0}, "cutoff: expected number > 0, got -1.0"),
        ({"n_feature": 64}, "did you mean 'n_features'"),
        ({"n_blocks": 2.5}, "whole number"),
        ({"n_radial": 1}, "n_radial: expected whole number >= 2, got 1"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(mapping, message):
    with pytest.raises(UserError, match=message):
        StudentConfig.from_mapping(mapping)


def test_text_for_the_choice_of_torch_cluster_is_refused():
    with pytest.raises(UserError, match="use_torch_cluster: expected True, False or None, got 'false'"):
        StudentForceField(use_torch_cluster="false")
