// The C interface: that of mlff.h for all programs, and below it calls for this package alone, whose batches of tensors are
// checked before. There are no global variables: a model owns its memory, and many threads may call it at once.
#include <fstream>

#include "domain.hpp"
#include "mlff.h"
#include "painn.hpp"
#include "system.hpp"
#include "words.hpp"

using namespace mlff;

struct mlff_model {
  Model model;
  const Domain domain;
  int threads = 0;
  unsigned allowed = 0;

  explicit mlff_model(const Weights& weights) : model(weights), domain(weights) {}
};

namespace {

int threads_or_all(int threads) {
#ifdef _OPENMP
  return threads > 0 ? threads : omp_get_max_threads();
#else
  return threads > 0 ? threads : 1;
#endif
}

bool read_file(const char* path, std::vector<char>& bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? std::streamoff(file.tellg()) : -1;
  // A folder can be opened, and has any size.
  if (size < 0 || size > (int64_t(1) << 32)) return false;
  bytes.resize(size_t(size));
  file.seekg(0);
  return bool(file.read(bytes.data(), size));
}

// Whether an argument of a call for one system makes no sense, said in `message`; `result` is called `name`.
bool is_wrong(const mlff_model* model, int64_t n_atoms, const int32_t* numbers, const double* positions,
              const double* result, const char* name, Message& message) {
  if (!model || !numbers || !positions || !result) {
    message.say("%s is NULL", !model ? "model" : !numbers ? "numbers" : !positions ? "positions" : name);
    return true;
  }
  if (n_atoms < 1 || n_atoms > INT32_MAX) {
    message.say(n_atoms < 1 ? "no atoms: there is nothing to compute" : "more atoms than 2147483647");
    return true;
  }
  return false;
}

// A system as it is given, and where its results go: total energy, and as in Call, or null.
struct Given {
  int64_t n_atoms;
  const int32_t* numbers;
  const double *positions, *cell;
  const int* periodic;
};
struct Wanted {
  double* total;
  Real* forces;
  double* strain;
  Real* last_layer;
};

// MLFF_OK, or another code and `message`.
int compute(mlff_model* model, const Given& given, const Wanted& wanted, Message& message) {
  const Network& net = model->model.network;
  GivenSystem system;
  if (const int code = system.set(net, given.n_atoms, given.numbers, given.positions, given.cell, given.periodic,
                                  model->allowed & MLFF_ALLOW_ELEMENTS, message))
    return code;
  Call call{given.n_atoms,
            1,
            0,
            system.numbers.data(),
            system.positions.data(),
            system.batch.data(),
            system.repeats ? system.cell : nullptr,
            system.repeats ? system.pbc : nullptr,
            wanted.total,
            wanted.forces,
            wanted.strain};
  call.refuse_close = net.knows_limits && !(model->allowed & MLFF_ALLOW_DISTANCES);
  call.last_layer = wanted.last_layer;
  const Failure failure = model->model.evaluate(threads_or_all(model->threads), call);
  if (failure.status != Status::ok) {
    explain(failure, given.positions + 3 * failure.where, message);
    return int(failure.status);
  }
  if (!std::isfinite(*wanted.total)) {
    message.say("the energy is %g eV, not finite: has the simulation blown up?", *wanted.total);
    return MLFF_NOT_FINITE;
  }
  return MLFF_OK;
}

// The first pointer of a part that is missing where it is needed, or nullptr.
const char* missing_of(const mlff_model* model, const mlff_part* part) {
  if (!model) return "model";
  if (!part) return "part";
  if (!part->numbers && part->n_own + part->n_ghosts > 0) return "numbers";
  if (!part->pairs && part->n_pairs > 0) return "pairs";
  if (!part->vectors && part->n_pairs > 0) return "vectors";
  return nullptr;
}

}  // namespace

extern "C" {

int mlff_interface_version(void) { return MLFF_INTERFACE_VERSION; }

mlff_model* mlff_open_memory(const void* bytes, size_t n_bytes, char* text, size_t size) {
  Message message(text, size);
  if (!bytes && n_bytes) {
    message.say("no weights: the pointer is NULL");
    return nullptr;
  }
  try {
    Weights weights;
    return weights.read(bytes, n_bytes, message) ? new mlff_model(weights) : nullptr;
  } catch (const std::bad_alloc&) {
    message.say("not enough memory for the weights");
    return nullptr;
  }
}

mlff_model* mlff_open(const char* path, char* text, size_t size) {
  Message message(text, size);
  try {
    std::vector<char> bytes;
    if (!path || !read_file(path, bytes)) {
      message.say("%s: cannot be read; give the path of the weights.mlff of a bundle", path ? path : "NULL");
      return nullptr;
    }
    char reason[MLFF_MESSAGE];
    mlff_model* model = mlff_open_memory(bytes.data(), bytes.size(), reason, sizeof reason);
    if (!model) message.say("%s: %s", path, reason);
    return model;
  } catch (const std::bad_alloc&) {
    message.say("%s: not enough memory for the weights", path);
    return nullptr;
  }
}

void mlff_free(mlff_model* model) { delete model; }

double mlff_cutoff(const mlff_model* model) { return model->model.network.cutoff; }

int mlff_learned(const mlff_model* model, int atomic_number) {
  const Network& net = model->model.network;
  return atomic_number >= 1 && atomic_number < net.n_elements && (!net.knows_limits || net.learned[atomic_number]);
}

void mlff_set_threads(mlff_model* model, int threads) { model->threads = threads; }

void mlff_allow(mlff_model* model, unsigned what) { model->allowed = what; }

int mlff_evaluate(mlff_model* model, int64_t n_atoms, const int32_t* numbers, const double* positions,
                  const double* cell, const int* periodic, double* energy, double* forces, double* virial, char* text,
                  size_t size) {
  Message message(text, size);
  if (is_wrong(model, n_atoms, numbers, positions, energy, "energy", message)) return MLFF_BAD_ARGUMENT;
  try {
    std::vector<Real> found(forces || virial ? 3 * n_atoms : 0);
    double total, strain[9];
    const Wanted wanted{&total, forces || virial ? found.data() : nullptr, virial ? strain : nullptr, nullptr};
    if (const int code = compute(model, {n_atoms, numbers, positions, cell, periodic}, wanted, message)) return code;
    *energy = total;
    if (forces) std::copy(found.begin(), found.end(), forces);
    for (int x = 0; virial && x < 9; ++x) virial[x] = -strain[x];
    return MLFF_OK;
  } catch (const std::bad_alloc&) {
    explain({Status::out_of_memory}, positions, message);
    return MLFF_OUT_OF_MEMORY;
  }
}

int mlff_uncertainty(mlff_model* model, int64_t n_atoms, const int32_t* numbers, const double* positions,
                     const double* cell, const int* periodic, double* energy_error, double* force_errors,
                     double* unlike, char* text, size_t size) {
  Message message(text, size);
  if (is_wrong(model, n_atoms, numbers, positions, energy_error, "energy_error", message)) return MLFF_BAD_ARGUMENT;
  const Domain& domain = model->domain;
  if (!domain.n_elements) {
    message.say("the weights say nothing of the errors to expect: `python -m mlff_distiller learn-domain` adds that to a "
                "checkpoint; then make the bundle again");
    return MLFF_NO_UNCERTAINTY;
  }
  try {
    std::vector<Real> values(MLFF_READOUT * size_t(n_atoms));
    double total;
    const Wanted wanted{&total, nullptr, nullptr, values.data()};
    if (const int code = compute(model, {n_atoms, numbers, positions, cell, periodic}, wanted, message)) return code;
    double sums[MLFF_READOUT] = {};
    for (size_t i = 0; i < values.size(); ++i) sums[i % MLFF_READOUT] += values[i];
    *energy_error = domain.energy_error(sums, n_atoms);
    for (int64_t atom = 0; (force_errors || unlike) && atom < n_atoms; ++atom) {
      const double distance = domain.distance(numbers[atom], values.data() + atom * MLFF_READOUT);
      if (force_errors) force_errors[atom] = domain.force_error(distance);
      if (unlike) unlike[atom] = distance / domain.limit;
    }
    return MLFF_OK;
  } catch (const std::bad_alloc&) {
    explain({Status::out_of_memory}, positions, message);
    return MLFF_OUT_OF_MEMORY;
  }
}

size_t mlff_exchange_bytes(const mlff_model*) { return Model::EXCHANGE_BYTES; }

int mlff_evaluate_part(mlff_model* model, const mlff_part* part, double* energies, double* forces, double* virial,
                       char* text, size_t size) {
  Message message(text, size);
  if (const char* missing = missing_of(model, part)) {
    message.say("%s is NULL", missing);
    return MLFF_BAD_ARGUMENT;
  }
  if (part->n_own < 0 || part->n_ghosts < 0 || part->n_pairs < 0 || part->n_own > INT32_MAX - part->n_ghosts) {
    message.say("the number of atoms or pairs is negative, or there are more atoms than 2147483647");
    return MLFF_BAD_ARGUMENT;
  }
  const auto name = [=](int64_t atom) { return part->names ? part->names[atom] : atom; };
  try {
    const Network& net = model->model.network;
    for (int64_t atom = 0; atom < part->n_own + part->n_ghosts; ++atom)
      if (const int code =
              check_element(net, part->numbers[atom], name(atom), model->allowed & MLFF_ALLOW_ELEMENTS, message))
        return code;
    for (int64_t pair = 0; pair < part->n_pairs; ++pair) {
      const int64_t i = part->pairs[2 * pair], j = part->pairs[2 * pair + 1];
      if (i < 0 || i >= part->n_own || j < 0 || j >= part->n_own + part->n_ghosts) {
        message.say("pair %lld is of atoms %lld and %lld: the first must be an own atom, of %lld, and the second one of them "
                    "or of the %lld ghosts", static_cast<long long>(pair), static_cast<long long>(i),
                    static_cast<long long>(j), static_cast<long long>(part->n_own),
                    static_cast<long long>(part->n_ghosts));
        return MLFF_BAD_ARGUMENT;
      }
      const double* r = part->vectors + 3 * pair;
      if (!std::isfinite(r[0] + r[1] + r[2])) {
        message.say("the vector from atom %lld to atom %lld is %s: not finite; has the simulation blown up?",
                    static_cast<long long>(name(i)), static_cast<long long>(name(j)), listed(r).c_str());
        return MLFF_BAD_POSITION;
      }
    }
    std::vector<double> atomic(part->n_own);
    const bool derivative = forces || virial;
    std::vector<Real> found(derivative ? 3 * part->n_own : 0);
    double strain[9];
    // Of no atoms too: those of other parts wait for the exchange.
    Real none[3];
    Real* to = !derivative ? nullptr : found.empty() ? none : found.data();
    const bool refuse_close = net.knows_limits && !(model->allowed & MLFF_ALLOW_DISTANCES);
    Failure failure = model->model.evaluate_part(threads_or_all(model->threads), *part, refuse_close, atomic.data(), to,
                                                 virial ? strain : nullptr);
    if (failure.status != Status::ok) {
      failure.where = name(failure.where);
      failure.other = name(failure.other);
      explain(failure, nullptr, message);
      return int(failure.status);
    }
    for (int64_t atom = 0; atom < part->n_own; ++atom)
      if (!std::isfinite(atomic[atom])) {
        message.say("the energy of atom %lld is %g eV, not finite: has the simulation blown up?",
                    static_cast<long long>(name(atom)), atomic[atom]);
        return MLFF_NOT_FINITE;
      }
    if (energies) std::copy(atomic.begin(), atomic.end(), energies);
    if (forces) std::copy(found.begin(), found.end(), forces);
    for (int x = 0; virial && x < 9; ++x) virial[x] = -strain[x];
    return MLFF_OK;
  } catch (const std::bad_alloc&) {
    explain({Status::out_of_memory}, nullptr, message);
    return MLFF_OUT_OF_MEMORY;
  }
}

// What follows is for this package alone. Increase with every change of a signature below.
MLFF_API int mlff_batch_version() { return 1; }

// energies [systems]; forces [atoms, 3] or null; virials [systems, 9] (dE/dstrain, eV) or null, only with forces.
// Returns a Status; where[2]: the atoms or the system that caused it.
MLFF_API int mlff_evaluate_batch(mlff_model* model, int threads, int64_t n_atoms, int64_t n_systems,
                                 const int64_t* numbers, const Real* positions, const int64_t* batch, const Real* cell,
                                 const uint8_t* pbc, double* energies, Real* forces, double* virials, int64_t* where) {
  Failure failure;
  try {
    failure = model->model.evaluate(
        threads, {n_atoms, n_systems, 0, numbers, positions, batch, cell, pbc, energies, forces, virials});
  } catch (const std::bad_alloc&) {
    failure.status = Status::out_of_memory;
  }
  where[0] = failure.where;
  where[1] = failure.other;
  return int(failure.status);
}

// What a Status and `where` mean, in words; positions as in the call.
MLFF_API void mlff_explain(int status, const int64_t* where, const Real* positions, char* text, size_t size) {
  Message message(text, size);
  const Failure failure{Status(status), where[0], where[1]};
  double position[3] = {0, 0, 0};
  for (int k = 0; failure.status == Status::bad_position && k < 3; ++k) position[k] = positions[3 * where[0] + k];
  explain(failure, position, message);
}

// The neighbor search alone: mlff_neighbors makes the list, mlff_take_neighbors copies and frees it.
struct NeighborList {
  std::vector<int64_t> receivers, senders, shifts;
};

MLFF_API int mlff_neighbors(double cutoff, int64_t n_atoms, int64_t n_systems, const Real* positions,
                            const int64_t* batch, const Real* cell, const uint8_t* pbc, void** list, int64_t* n_edges,
                            int64_t* where) {
  Failure failure;
  *list = nullptr;
  try {
    auto found = std::make_unique<NeighborList>();
    Atoms atoms;
    failure = atoms.set(n_atoms, n_systems, positions, batch, 0, cell, pbc, cutoff);
    if (failure.status == Status::ok) {
      std::vector<int64_t> place(n_atoms);
      for (int64_t atom = 0; atom < n_atoms; ++atom) place[atoms.order[atom]] = atom;
      for (int64_t given = 0; given < n_atoms; ++given) {
        const int64_t atom = place[given];
        atoms.neighbors(atom, Real(cutoff) * Real(cutoff), [&](int64_t other, const auto&, const int* image) {
          found->receivers.push_back(given);
          found->senders.push_back(atoms.order[other]);
          if (atoms.periodic)
            for (int k = 0; k < 3; ++k)
              found->shifts.push_back(image ? image[k] + atoms.whole[atom][k] - atoms.whole[other][k] : 0);
        });
      }
      *n_edges = int64_t(found->receivers.size());
      *list = found.release();
    }
  } catch (const std::bad_alloc&) {
    failure.status = Status::out_of_memory;
  }
  where[0] = failure.where;
  where[1] = failure.other;
  return int(failure.status);
}

// Copies the list and frees it; shifts may be null.
MLFF_API void mlff_take_neighbors(void* list, int64_t* receivers, int64_t* senders, int64_t* shifts) {
  const std::unique_ptr<NeighborList> found(static_cast<NeighborList*>(list));
  std::copy(found->receivers.begin(), found->receivers.end(), receivers);
  std::copy(found->senders.begin(), found->senders.end(), senders);
  if (shifts) std::copy(found->shifts.begin(), found->shifts.end(), shifts);
}

}  // extern "C"
