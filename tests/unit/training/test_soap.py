"""SOAP's update, by hand and in a training."""

import numpy as np
import pytest
import torch

from mlff_distiller.student.painn import StudentConfig, StudentForceField
from mlff_distiller.training.data import pack, plan_capacity
from mlff_distiller.training.soap import Curvature, blocks_of, by_cholesky, length
from mlff_distiller.training.step import Stepper, Weights
from mlff_distiller.training.weights import FlatWeights
from tests.unit.training.test_train import SMALL, build, morse_dataset, settings

STEPS = 200


@pytest.mark.parametrize("config", [SMALL, {}], ids=["small", "default"])
def test_blocks_hold_every_matrix_once(config):
    network = StudentForceField(StudentConfig(**config)).network
    layout, width = FlatWeights(network), network.embedding.embedding_dim
    blocks = blocks_of(network)
    held = torch.cat([index.flatten() for index in blocks.values()])
    assert len(held.unique()) == len(held)
    flat = layout.read(network)
    matrices = sum(p.numel() for name, p in network.named_parameters() if p.dim() == 2 and min(p.shape) > 1)
    assert len(held) == matrices - network.embedding.weight.numel()
    assert all(max(shape) <= width for shape in blocks)
    mix = network.updates[0].mix_uv.weight
    pieces = flat[blocks[width, width]]
    assert any(torch.equal(piece, mix[width:]) for piece in pieces)
    assert length(blocks) == len(Curvature.start(blocks))


def test_in_its_own_basis_it_is_adam():
    blocks = {(3, 2): torch.arange(12).view(2, 3, 2)}
    curvature = Curvature(blocks, Curvature.start(blocks))
    torch.manual_seed(0)
    first, second = torch.zeros(12), torch.zeros(12)
    for step in range(1, 6):
        gradient = torch.randn(12)
        first.lerp_(gradient, 0.1)
        second.mul_(0.9).addcmul_(gradient, gradient, value=0.1)
        correction = (1 - 0.9**step) ** -0.5
        change = torch.full([12], torch.nan)
        curvature.turn(change, gradient, first, 0.9, correction, 1e-8)
        torch.testing.assert_close(change, first / (second.sqrt() * correction + 1e-8))


def test_a_turned_problem_gets_the_turned_step():
    """Adam's step depends on the axes; SOAP's, once it knows the eigenvectors, does not."""
    torch.manual_seed(0)
    blocks = {(4, 3): torch.arange(12).view(1, 4, 3)}
    left, right = (torch.linalg.qr(torch.randn(n, n)).Q for n in (4, 3))
    scale = torch.tensor([1.0, 3.0, 10.0, 30.0])[:, None] * torch.tensor([1.0, 4.0, 16.0])
    straight, turned = (Curvature(blocks, Curvature.start(blocks)) for _ in range(2))
    found = []
    for curvature, turn in ((straight, lambda g: g), (turned, lambda g: left @ g @ right.T)):
        generator = torch.Generator().manual_seed(1)
        first, change = torch.zeros(12), torch.zeros(12)
        for step in range(1, STEPS + 1):
            gradient = turn(torch.randn(4, 3, generator=generator) * scale).reshape(-1)
            first.lerp_(gradient, 0.1)
            if step == STEPS:
                # The second moment of the last basis alone.
                curvature.parts[4, 3][4].zero_()
            curvature.turn(change, gradient, first, 0.9, 1.0, 1e-8)
            curvature.find_bases(step)
        found.append(change.view(4, 3).clone())
    torch.testing.assert_close(left @ found[0] @ right.T, found[1], rtol=1e-2, atol=1e-2)
    for mean, basis in zip(straight.parts[4, 3][:2], straight.parts[4, 3][2:4], strict=True):
        # It follows the mean, which changes by a fiftieth an update.
        seen = basis.mT @ mean @ basis
        size = seen.diagonal(dim1=1, dim2=2).sqrt()
        beside = (seen / (size[:, :, None] * size[:, None, :]) - torch.eye(basis.shape[1])).abs().max()
        assert beside < 0.3
        torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[1])[None], rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [1, 10, 100])
def test_weights_that_are_lost_leave_the_bases_alone(step):
    blocks = {(2, 2): torch.arange(4).view(1, 2, 2)}
    curvature = Curvature(blocks, Curvature.start(blocks))
    curvature.turn(torch.zeros(4), torch.full([4], torch.nan), torch.zeros(4), 0.9, 1.0, 1e-8)
    curvature.find_bases(step)
    assert torch.equal(curvature.parts[2, 2][2][0], torch.eye(2))


@pytest.mark.parametrize("condition", [1e0, 1e3, 1e7, 1e12])
def test_columns_are_made_orthonormal_by_cholesky_as_by_householder(condition):
    """As on a GPU: the bases of means that are nearly singular, too."""
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 128, 128, dtype=torch.float64)).Q
    columns = turn * torch.logspace(0, -float(np.log10(condition)), 128, dtype=torch.float64) @ turn.mT
    basis = torch.linalg.qr(torch.randn(3, 128, 128, dtype=torch.float64)).Q
    columns = (columns @ basis).float()
    found = by_cholesky(columns)
    torch.testing.assert_close(found.mT @ found, torch.eye(128).repeat(3, 1, 1), rtol=0, atol=1e-5)
    if condition < 1e5:
        signs = (found * torch.linalg.qr(columns).Q).sum(dim=1)
        torch.testing.assert_close(signs.abs(), torch.ones(3, 128), rtol=0, atol=1e-2)
    assert by_cholesky(torch.full([1, 4, 4], torch.nan)).isnan().all()
    assert not by_cholesky(torch.zeros(1, 4, 4)).isfinite().all()


def test_it_learns_more_in_as_many_updates():
    configurations = build(morse_dataset(12), dtype=torch.float32)
    capacity = plan_capacity(configurations, 40)
    table, terms = pack(np.arange(12), configurations, capacity), {}
    for optimizer in ("adamw", "soap"):
        torch.manual_seed(0)
        network = StudentForceField(StudentConfig(**SMALL)).network
        weights = Weights.start(network, optimizer)
        chosen = settings(optimizer=optimizer)
        stepper = Stepper(network, weights, configurations, capacity, chosen, tf32=False, compiled=False)
        for step in range(1, 81):
            stepper(table[step % len(table)], step, 3e-3, 0.1, 1.0)
            if step == 60:
                stepper.read_sums()
        terms[optimizer] = stepper.read_sums()["force"]
    assert terms["soap"] < 0.8 * terms["adamw"]
