"""Stage ``import-schnetpack``: a PaiNN that was trained with SchNetPack 2 as a student, weight for weight.

SchNetPack's PaiNN (Schuett et al., J. Chem. Phys. 158, 144801 (2023)) is the student with ``mlp_width == n_features``, without
a wall. Scales and offsets (``ScaleProperty``, ``AddOffsets``) go into the last layer and the reference energies. What the student
has no place for is refused by name, and so is what would give the energy another meaning.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.student.config import StudentConfig
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.student.pickled import Shell, name_of, read_pickled
from mlff_distiller.systems.units import BOHR, HARTREE, KCAL_PER_MOL, KJ_PER_MOL
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.files import sha256_of

#: 1 of each unit in eV or A.
ENERGY_UNITS = {"eV": 1.0, "Hartree": HARTREE, "kcal/mol": KCAL_PER_MOL, "kJ/mol": KJ_PER_MOL}
LENGTH_UNITS = {"A": 1.0, "bohr": BOHR, "nm": 10.0}
ACTIVATION = ("torch.nn.functional.silu", "torch.nn.modules.activation.SiLU")
#: Modules that change no energy, by the part of the model where they stand.
INPUTS = ("PairwiseDistances", "Strain")
CASTS = ("CastTo32", "CastTo64")


@dataclass
class Imported:
    """What came of a model.

    Attributes:
        student: in float64, which holds the file's weights exactly.
        elements: atomic numbers that the file has reference energies for; empty where it has none.
        version: of SchNetPack.
    """

    student: StudentForceField
    elements: tuple[int, ...]
    version: str


def import_model(path: str | Path, energy_unit: str = "eV", length_unit: str = "A") -> Imported:
    """The student that computes what SchNetPack's model in ``path`` does.

    Args:
        path: ``best_model`` as a training of SchNetPack 2 writes it, or its Lightning checkpoint (``.ckpt``).
        energy_unit, length_unit: of the model; keys of :data:`ENERGY_UNITS` and :data:`LENGTH_UNITS`. No file says them.

    Raises:
        UserError: unreadable, or a model that is no student; names what cannot be mapped.
    """
    found = read_pickled(path)
    try:
        return _imported(_model(found), ENERGY_UNITS[energy_unit], LENGTH_UNITS[length_unit])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"{path}: not as SchNetPack 2.0 and 2.1 write a PaiNN ({type(error).__name__}: {error})"
        ) from None


def _model(found: Any) -> Shell:
    """The model in what was read: by itself, in a task, or in a checkpoint of Lightning with its newer weights."""
    if isinstance(found, dict):
        if "hyper_parameters" not in found:
            raise UserError(
                "weights alone do not say which basis, cutoff function and activation they belong to; give the file "
                "'best_model' that SchNetPack writes beside its checkpoints"
            )
        model = found["hyper_parameters"].get("model")
        if not isinstance(model, Shell):
            raise UserError(
                "a checkpoint without its model; give the file 'best_model' that SchNetPack writes beside it"
            )
        _take_weights(model, found["state_dict"])
        return model
    if isinstance(found, Shell) and name_of(found).rpartition(".")[2] == "AtomisticTask":
        found = found.part("model")
    if not isinstance(found, Shell) or not name_of(found).endswith(".NeuralNetworkPotential"):
        raise UserError(f"a {name_of(found)}, not a NeuralNetworkPotential of SchNetPack 2")
    return found


def _take_weights(model: Shell, state: dict[str, Tensor]) -> None:
    """Put the weights of a checkpoint into its model."""
    for prefix, module in model.walk("model."):
        for kind in ("_parameters", "_buffers"):
            held = module.__dict__.get(kind, {})
            for name in held:
                if held[name] is not None and f"{prefix}{name}" in state:
                    held[name] = state[f"{prefix}{name}"]


def _imported(model: Shell, energy: float, length: float) -> Imported:
    network = model.part("representation")
    if (kind := _kind(network)) != "PaiNN":
        raise UserError(f"representation: {name_of(network)}; the student is a PaiNN")
    _only("input_modules", model, INPUTS)
    readout, factor, offset, elements = _energy(model)
    weights, config, n_elements = _network(network, length)
    outnet = readout.part("outnet").parts()
    if len(outnet) != 2:
        raise UserError(
            f"output_modules: {kind} with a readout of {len(outnet)} layers; the student's has two (n_layers: 2)"
        )
    _activated(outnet[0], "the readout")
    first, last = (_dense(layer, "the readout") for layer in outnet)
    if len(last["weight"]) != 1:
        raise UserError(f"output_modules: Atomwise gives {len(last['weight'])} values an atom; an energy is one")
    weights |= {f"readout_in.{name}": value for name, value in first.items()}
    weights |= {f"readout_out.{name}": energy * factor * value for name, value in last.items()}
    if offset.dim() and len(offset) < n_elements:
        n_elements = len(offset)
    weights["embedding.weight"] = weights["embedding.weight"][:n_elements]
    sizes = config | {"readout_width": len(first["weight"]), "max_atomic_number": n_elements - 1}
    references = energy * (offset[:n_elements] if offset.dim() else offset.expand(n_elements))
    student = StudentForceField(StudentConfig.from_mapping(sizes), references.clone()).double()
    weights["wall"] = student.network.wall
    student.network.load_state_dict(weights)
    version = str(getattr(model, "spk_version", "2"))
    known = tuple(z for z in elements if 0 < z < n_elements)
    return Imported(student.eval().requires_grad_(False), known, version)


def _energy(model: Shell) -> tuple[Shell, float, Tensor, list[int]]:
    """The readout, the factor and offset of an atom's energy (one number, or one of each element), elements with an offset."""
    readout, factor, key, forces_of, force_key = None, 1.0, "", 1.0, ""
    offset, elements = torch.zeros([], dtype=torch.float64), []
    steps = [("output_modules", part) for part in model.part("output_modules").parts()]
    steps += [("postprocessors", part) for part in model.part("postprocessors").parts()]
    for where, step in steps:
        kind = _kind(step)
        if kind == "Atomwise" and where == "output_modules" and readout is None:
            readout, key = step, step.output_key
            if step.aggregation_mode != "sum":
                raise UserError(
                    f"output_modules: Atomwise takes the {step.aggregation_mode!r} over atoms; energies are sums"
                )
        elif kind == "Forces" and where == "output_modules" and readout is not None and step.energy_key == key:
            force_key, forces_of = step.force_key, factor
        elif kind == "ScaleProperty" and step.input_key == step.output_key:
            value = float(step.tensor("scale"))
            if step.input_key == key:
                factor, offset = factor * value, offset * value
            elif step.input_key == force_key:
                forces_of *= value
            else:
                raise UserError(f"{where}: ScaleProperty of {step.input_key!r}, which is neither energy nor forces")
        elif kind == "AddOffsets" and step._property == key:
            offset = _offset(step, offset)
            elements += step.tensor("atomref").flatten().nonzero().flatten().tolist() if step.add_atomrefs else []
        elif kind not in CASTS:
            known = ("Atomwise", "Forces", "ScaleProperty", "AddOffsets", *CASTS)
            raise UserError(
                f"{where}: {name_of(step)} has no place in a student, whose energy is one sum over atoms ({', '.join(known)} "
                "are mapped)"
            )
    if readout is None:
        raise UserError("output_modules: no Atomwise, which gives the energy")
    if force_key and abs(forces_of - factor) > 1e-6 * abs(factor):
        raise UserError(
            f"postprocessors: energies are scaled by {factor:g} and forces by {forces_of:g}; a student's forces are its "
            "energy's gradient"
        )
    return readout, factor, offset, elements


def _offset(step: Shell, before: Tensor) -> Tensor:
    if not step.is_extensive:
        raise UserError(
            "postprocessors: AddOffsets of an energy per atom (is_extensive: false); the student adds them up"
        )
    if step.add_mean:
        before = before + step.tensor("mean").double().reshape([])
    if step.add_atomrefs:
        atomref = step.tensor("atomref").double().flatten()
        before = before + atomref
    return before


def _network(network: Shell, length: float) -> tuple[dict[str, Tensor], dict[str, Any], int]:
    """Weights of the blocks by the student's names, the sizes, and the number of rows of the embedding."""
    cutoff_fn, basis, embedding = (network.part(name) for name in ("cutoff_fn", "radial_basis", "embedding"))
    if _kind(cutoff_fn) != "CosineCutoff":
        raise UserError(f"cutoff_fn: {name_of(cutoff_fn)}; the student's is CosineCutoff")
    if name_of(embedding) != "torch.nn.modules.sparse.Embedding":
        raise UserError(f"nuclear_embedding: {name_of(embedding)}; the student's is a table of the elements")
    if network.part("electronic_embeddings") is not None and network.part("electronic_embeddings").parts():
        raise UserError("electronic_embeddings: charge and spin have no place in a student")
    cutoff, n_radial = float(cutoff_fn.tensor("cutoff")), _n_radial(basis, float(cutoff_fn.tensor("cutoff")))
    interactions, mixing = network.part("interactions").parts(), network.part("mixing").parts()
    features, n_blocks = int(network.n_atom_basis), len(interactions)
    filters = _dense(network.part("filter_net"), "filter_net")
    if network.share_filters:
        filters = {name: torch.cat([value] * n_blocks) for name, value in filters.items()}
    weights = {"embedding.weight": _double(embedding.tensor("weight"))}
    weights |= {f"filters.{name}": value for name, value in filters.items()}
    epsilons = set()
    for block, (message, update) in enumerate(zip(interactions, mixing, strict=True)):
        first, second = message.part("interatomic_context_net").parts()
        third, fourth = update.part("intraatomic_context_net").parts()
        _activated(first, f"interactions.{block}")
        _activated(third, f"mixing.{block}")
        epsilons.add(float(update.epsilon))
        layers = {
            f"messages.{block}.phi_in": first,
            f"messages.{block}.phi_out": second,
            f"updates.{block}.mix_uv": update.part("mu_channel_mix"),
            f"updates.{block}.mlp_in": third,
            f"updates.{block}.mlp_out": fourth,
        }
        for name, layer in layers.items():
            weights |= {f"{name}.{key}": value for key, value in _dense(layer, name).items()}
    if len(epsilons) > 1:
        told = ", ".join(f"{value:g}" for value in sorted(epsilons))
        raise UserError(f"mixing: the blocks have different epsilon ({told}); a student has one norm_epsilon for all")
    sizes = {
        "n_features": features,
        "n_blocks": n_blocks,
        "n_radial": n_radial,
        "cutoff": cutoff * length,
        "mlp_width": features,
        "norm_epsilon": epsilons.pop(),
    }
    return weights, sizes, len(weights["embedding.weight"])


def _n_radial(basis: Shell, cutoff: float) -> int:
    """The number of Gaussians of a basis that is the student's."""
    if _kind(basis) != "GaussianRBF":
        raise UserError(f"radial_basis: {name_of(basis)}; the student's is GaussianRBF")
    offsets, widths = (basis.tensor(name).detach().double() for name in ("offsets", "widths"))
    expected = torch.linspace(0.0, cutoff, len(offsets), dtype=torch.float64)
    close = torch.allclose(offsets, expected, rtol=0, atol=1e-5 * cutoff)
    if not close or not torch.allclose(widths, widths.new_tensor(cutoff / (len(offsets) - 1)), rtol=1e-5):
        raise UserError(
            "radial_basis: Gaussians that do not lie evenly from 0 to the cutoff, or whose widths are not their spacing "
            "(start, trainable, or another cutoff than cutoff_fn's)"
        )
    return len(offsets)


def _dense(layer: Shell, where: str) -> dict[str, Tensor]:
    """Weight and bias, where it has one, in float64."""
    if _kind(layer) != "Dense":
        raise UserError(f"{where}: {name_of(layer)}; expected SchNetPack's Dense")
    return {name: _double(layer.tensor(name)) for name in ("weight", "bias") if layer.tensor(name) is not None}


def _activated(layer: Shell, where: str) -> None:
    """Refuse another activation than the student's."""
    activation = layer.__dict__.get("activation", layer.part("activation"))
    if name_of(activation) not in ACTIVATION:
        raise UserError(f"{where}: the activation is {name_of(activation)}; the student's is torch.nn.functional.silu")


def _only(where: str, model: Shell, known: Sequence[str]) -> None:
    for part in model.part(where).parts():
        if _kind(part) not in known:
            raise UserError(f"{where}: {name_of(part)} has no place in a student ({', '.join(known)} are left out)")


def _kind(part: Any) -> str:
    """The class of SchNetPack that a part is of; empty for other packages' classes."""
    package, _, name = name_of(part).rpartition(".")
    return name if package.partition(".")[0] == "schnetpack" else ""


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``import-schnetpack``."""
    parser.description = "Make a student of a PaiNN that was trained with SchNetPack 2, weight for weight."
    parser.add_argument("--model", type=Path, required=True, help="'best_model' of a training, or its .ckpt")
    parser.add_argument("--energy-unit", required=True, choices=ENERGY_UNITS, help="of the model's energies")
    parser.add_argument("--length-unit", required=True, choices=LENGTH_UNITS, help="of the positions that it takes")
    parser.add_argument("--elements", help="symbols that it was trained on, e.g. H,C,O; by default those that the file has "
                        "reference energies for")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="student checkpoint to write (safetensors)")


def run(args: argparse.Namespace) -> int:
    """Read, map and write."""
    from ase.data import chemical_symbols

    found = import_model(args.model, args.energy_unit, args.length_unit)
    elements = _elements(args, found)
    card = {
        "elements": list(elements),
        "imported": {
            "file": args.model.name,
            "sha256": sha256_of(args.model),
            "schnetpack": found.version,
            "energy_unit": args.energy_unit,
            "length_unit": args.length_unit,
        },
        "limits": [f"Trained with SchNetPack {found.version}, on data that this card does not know."],
    }
    save_student(args.output, found.student, card)
    names = ", ".join(chemical_symbols[z] for z in elements)
    parameters = sum(parameter.numel() for parameter in found.student.network.parameters())
    print(f"{args.output}: {parameters:,} parameters, cutoff {found.student.cutoff:g} A, elements {names}")
    print(f"run it with: student: {{checkpoint: {args.output}}}")
    return 0


def _elements(args: argparse.Namespace, found: Imported) -> tuple[int, ...]:
    """Atomic numbers that the student is to answer for.

    Raises:
        UserError: nobody says which; an unknown symbol; an element beyond the file's tables.
    """
    from ase.data import atomic_numbers

    if args.elements is None:
        if not found.elements:
            raise UserError(
                f"{args.model}: the file does not say which elements it was trained on, and the student would answer for all; "
                "name them: --elements H,C,O"
            )
        return found.elements
    symbols = [symbol.strip() for symbol in args.elements.split(",")]
    for symbol in symbols:
        if symbol not in atomic_numbers or symbol == "X":
            raise UserError(f"--elements: no element {symbol!r}{nearest(symbol, atomic_numbers)}")
        if atomic_numbers[symbol] > found.student.config.max_atomic_number:
            raise UserError(f"--elements: the file's tables end before {symbol}; leave it out")
    return tuple(sorted({atomic_numbers[symbol] for symbol in symbols}))
