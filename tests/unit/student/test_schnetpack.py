"""PaiNNs of SchNetPack as students: the same energies and forces in fp64, and what cannot be one is refused by name.

``schnetpack_models/`` holds small models that SchNetPack made, and what it says of some frames (make_schnetpack_models.py).
"""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from mlff_distiller import cli
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.report.model_card import page, read_header
from mlff_distiller.student import schnetpack
from mlff_distiller.student.checkpoint import load_student, read_card
from mlff_distiller.student.pickled import read_pickled
from mlff_distiller.student.schnetpack import import_model
from mlff_distiller.utils.errors import UserError
from tests.unit.records.synthetic_records import accuracy

FOLDER = Path(__file__).parent / "schnetpack_models"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())["frames"]


def atoms_of(frame):
    return Atoms(frame["numbers"], frame["positions"], cell=frame["cell"], pbc=frame["cell"] is not None)


def compare(student, frames, energy_unit=1.0, length_unit=1.0, tolerance=1e-11):
    calculator = PotentialCalculator(AutogradPotential(student))
    for frame in frames:
        atoms = atoms_of(frame)
        atoms.set_cell(atoms.cell.array * length_unit)
        atoms.positions *= length_unit
        atoms.calc = calculator
        assert np.abs(frame["forces"]).max() > 0.01
        assert atoms.get_potential_energy() == pytest.approx(energy_unit * frame["energy"], rel=tolerance)
        expected = np.array(frame["forces"]) * energy_unit / length_unit
        assert np.abs(atoms.get_forces() - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", list(EXPECTED))
def test_a_student_says_what_schnetpack_says(name):
    found = import_model(FOLDER / f"{name}.model")
    compare(found.student, EXPECTED[name])
    assert found.version == "2.1.1"
    assert found.elements == ((1, 6, 8) if name in ("offsets", "shared") else ())


def test_units_are_those_that_are_named():
    found = import_model(FOLDER / "offsets.model", "kcal/mol", "bohr")
    assert found.student.cutoff == pytest.approx(4.0 * 0.529177210903)
    # Gaussians of another spacing round otherwise in fp32.
    compare(found.student, EXPECTED["offsets"], 0.0433641153, 0.529177210903, tolerance=1e-5)


def test_the_command_writes_a_checkpoint_that_knows_its_elements(tmp_path, capsys):
    output = tmp_path / "student.safetensors"
    command = ["import-schnetpack", "--energy-unit", "eV", "--length-unit", "A", "--output", str(output), "--model"]
    assert cli.main([*command, str(FOLDER / "offsets.model")]) == 0
    assert "elements H, C, O" in capsys.readouterr().out
    student = load_student(output, dtype=torch.float64)
    compare(student, EXPECTED["offsets"])
    assert student.limits.unknown_element(np.array([1, 7]))[0] == 1
    assert read_card(output)["imported"]["schnetpack"] == "2.1.1"
    card = page(output, read_header(output), [accuracy("test", 41.5)], [], {}, [])
    assert "Elements: H, C, O." in card
    # In fp32 as it runs.
    compare(load_student(output), EXPECTED["offsets"], tolerance=2e-5)


def test_without_reference_energies_the_elements_must_be_named(tmp_path, capsys):
    output = tmp_path / "student.safetensors"
    command = ["import-schnetpack", "--energy-unit", "eV", "--length-unit", "A", "--output", str(output)]
    command += ["--model", str(FOLDER / "plain.model")]
    for more, words in (
        ([], "the file does not say which elements it was trained on"),
        (["--elements", "H,Cc"], "no element 'Cc'"),
        (["--elements", "H,No"], "the file's tables end before No"),
    ):
        assert cli.main([*command, *more]) == 2
        assert words in capsys.readouterr().err
        assert not output.exists()
    assert cli.main([*command, "--elements", "O,C,H"]) == 0
    assert read_card(output)["elements"] == [1, 6, 8]


def test_blocks_with_different_smoothings_are_refused(monkeypatch):
    found = read_pickled(FOLDER / "plain.model")
    *_, last = found.part("representation").part("mixing").parts()
    last.epsilon = 0.5
    monkeypatch.setattr(schnetpack, "read_pickled", lambda path: found)
    with pytest.raises(UserError, match=r"the blocks have different epsilon \(1e-08, 0\.5\)"):
        import_model(FOLDER / "plain.model")


def test_no_code_of_a_file_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"hyper_parameters": {"model": Evil()}, "state_dict": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="the student is a PaiNN"):
        import_model(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(b""), "not a file of torch.save"),
        (lambda path: path.write_bytes(pickle.dumps(1)), "not a file of torch.save"),
        (lambda path: torch.save({"embedding.weight": torch.ones(3)}, path), "weights alone do not say which basis"),
        (
            lambda path: torch.save(torch.nn.Linear(2, 2), path),
            "a torch.nn.modules.linear.Linear, not a NeuralNetworkPot",
        ),
        (lambda path: path.write_bytes((FOLDER / "plain.model").read_bytes()[:20_000]), "not a file of torch.save"),
    ],
)
def test_other_files_are_refused(tmp_path, write, words):
    write(tmp_path / "file")
    with pytest.raises(UserError, match=words):
        import_model(tmp_path / "file")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.model: no such file"):
        read_pickled(tmp_path / "nothing.model")


@pytest.fixture(scope="module")
def spk():
    pytest.importorskip("pytorch_lightning", reason="SchNetPack is not installed: pip install schnetpack==2.1.1")
    from mlff_distiller.variants.families.schnetpack import import_schnetpack

    try:
        return import_schnetpack()
    except ImportError:
        pytest.skip("SchNetPack is not installed: pip install schnetpack==2.1.1")


def built(spk, representation=None, outputs=None, posts=(), inputs=None, **changes):
    """A model with one part changed."""
    given = {
        "n_atom_basis": 8,
        "n_interactions": 1,
        "radial_basis": spk.nn.GaussianRBF(n_rbf=5, cutoff=4.0),
        "cutoff_fn": spk.nn.CosineCutoff(4.0),
    }
    return spk.model.NeuralNetworkPotential(
        representation=representation or spk.representation.PaiNN(**given | changes),
        input_modules=inputs or [spk.atomistic.PairwiseDistances()],
        output_modules=outputs or [atomwise(spk), spk.atomistic.Forces()],
        postprocessors=list(posts),
    )


def atomwise(spk, **changes):
    return spk.atomistic.Atomwise(**{"n_in": 8, "output_key": "energy"} | changes)


def scale(spk, key, value):
    step = spk.transform.ScaleProperty(key)
    step.scale = torch.tensor([value])
    return step


def mean_of_atoms(spk):
    return spk.transform.AddOffsets("energy", add_mean=True, is_extensive=False)


def without_parts(kind):
    """A module of a class whose constructor does not run with every version of its requirements."""
    made = kind.__new__(kind)
    torch.nn.Module.__init__(made)
    return made


REFUSED = {
    "basis": (lambda s: built(s, radial_basis=s.nn.BesselRBF(5, 4.0)), "radial_basis: schnetpack.*BesselRBF"),
    "start": (lambda s: built(s, radial_basis=s.nn.GaussianRBF(5, 4.0, start=0.5)), "do not lie evenly from 0"),
    "other cutoff": (lambda s: built(s, radial_basis=s.nn.GaussianRBF(5, 6.0)), "do not lie evenly from 0"),
    "cutoff": (lambda s: built(s, cutoff_fn=s.nn.MollifierCutoff(4.0)), "cutoff_fn: schnetpack.*MollifierCutoff"),
    "activation": (
        lambda s: built(s, activation=s.nn.shifted_softplus),
        "interactions.0: the activation is schnetpack.*shifted_softplus",
    ),
    "readout's activation": (
        lambda s: built(s, outputs=[atomwise(s, activation=torch.tanh)]),
        "the readout: the activation is torch.*tanh",
    ),
    "layers": (lambda s: built(s, outputs=[atomwise(s, n_layers=3)]), "a readout of 3 layers"),
    "mean": (lambda s: built(s, outputs=[atomwise(s, aggregation_mode="avg")]), "the 'avg' over atoms"),
    "values": (lambda s: built(s, outputs=[atomwise(s, n_out=2)]), "gives 2 values an atom"),
    "charges": (
        lambda s: built(s, outputs=[atomwise(s), s.atomistic.DipoleMoment(n_in=8)]),
        "output_modules: schnetpack.*DipoleMoment has no place",
    ),
    "repulsion": (
        lambda s: built(s, outputs=[atomwise(s), s.atomistic.ZBLRepulsionEnergy("eV", "Ang", "rep")]),
        "output_modules: schnetpack.*ZBLRepulsionEnergy has no place",
    ),
    "no energy": (lambda s: built(s, outputs=[s.atomistic.DipoleMoment(n_in=8)]), "DipoleMoment has no place"),
    "embeddings": (
        lambda s: built(s, electronic_embeddings=[s.nn.ElectronicEmbedding("total_charge", 8, 2, True)]),
        "electronic_embeddings: charge and spin",
    ),
    "nuclei": (lambda s: built(s, nuclear_embedding=s.nn.NuclearEmbedding(50, 8)), "nuclear_embedding: schnetpack"),
    "fields": (
        lambda s: built(s, inputs=[s.atomistic.PairwiseDistances(), s.atomistic.StaticExternalFields([])]),
        "input_modules: schnetpack.*StaticExternalFields",
    ),
    "scales": (lambda s: built(s, posts=[scale(s, "energy", 2.0)]), "energies are scaled by 2 and forces by 1"),
    "offsets per atom": (lambda s: built(s, posts=[mean_of_atoms(s)]), "is_extensive: false"),
    "SchNet": (
        lambda s: built(s, s.representation.SchNet(8, 1, s.nn.GaussianRBF(5, 4.0), s.nn.CosineCutoff(4.0))),
        "representation: schnetpack.*SchNet; the student is a PaiNN",
    ),
    "SO3net": (
        lambda s: built(s, without_parts(s.representation.SO3net)),
        "representation: schnetpack.*SO3net; the student is a PaiNN",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_student_has_no_place_for_is_refused_by_name(spk, tmp_path, what):
    make, words = REFUSED[what]
    torch.save(make(spk), tmp_path / "best_model")
    with pytest.raises(UserError, match=words):
        import_model(tmp_path / "best_model")


def test_tasks_and_checkpoints_of_lightning_hold_the_same_model(spk, tmp_path, monkeypatch):
    # PyTorch 2.5 cannot say which the default device is once another test has set one and taken it back.
    monkeypatch.setattr(torch, "get_default_device", lambda: torch.device("cpu"))
    torch.manual_seed(0)
    model = built(spk)
    task = spk.AtomisticTask(model, outputs=[], optimizer_args={"lr": 1e-3})
    torch.save(model, tmp_path / "best_model")
    torch.save(task, tmp_path / "best_model.task")
    state = {name: value.clone() for name, value in task.state_dict().items()}
    checkpoint = {"hyper_parameters": dict(task.hparams), "state_dict": state}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    # The weights count that the checkpoint has, not those of the model in its settings.
    torch.save(checkpoint, tmp_path / "last.ckpt")
    expected = import_model(tmp_path / "best_model").student.state_dict()
    for name in ("best_model.task", "last.ckpt"):
        found = import_model(tmp_path / name).student.state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert expected["network.embedding.weight"].abs().max() > 0
