// The C interface: that of mlff.h for all programs, and below it calls for this package alone, whose batches of tensors are
// checked before. There are no global variables: a model owns its memory, and many threads may call it at once.
#include <fstream>

#include "mlff.h"
#include "painn.hpp"
#include "system.hpp"
#include "words.hpp"

using namespace mlff;

struct mlff_model {
  Model model;
  int threads = 0;
  unsigned allowed = 0;

  explicit mlff_model(const Weights& weights) : model(weights) {}
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
  if (!model || !numbers || !positions || !energy) {
    message.say("%s is NULL", !model ? "model" : !numbers ? "numbers" : !positions ? "positions" : "energy");
    return MLFF_BAD_ARGUMENT;
  }
  if (n_atoms < 1 || n_atoms > INT32_MAX) {
    message.say(n_atoms < 1 ? "no atoms: there is nothing to compute" : "more atoms than 2147483647");
    return MLFF_BAD_ARGUMENT;
  }
  try {
    const Network& net = model->model.network;
    GivenSystem system;
    if (const int code = system.set(net, n_atoms, numbers, positions, cell, periodic,
                                    model->allowed & MLFF_ALLOW_ELEMENTS, message))
      return code;
    std::vector<Real> found(forces || virial ? 3 * n_atoms : 0);
    double total, strain[9];
    Call call{n_atoms,
              1,
              0,
              system.numbers.data(),
              system.positions.data(),
              system.batch.data(),
              system.repeats ? system.cell : nullptr,
              system.repeats ? system.pbc : nullptr,
              &total,
              forces || virial ? found.data() : nullptr,
              virial ? strain : nullptr};
    call.refuse_close = net.knows_limits && !(model->allowed & MLFF_ALLOW_DISTANCES);
    const Failure failure = model->model.evaluate(threads_or_all(model->threads), call);
    if (failure.status != Status::ok) {
      explain(failure, positions + 3 * failure.where, message);
      return int(failure.status);
    }
    if (!std::isfinite(total)) {
      message.say("the energy is %g eV, not finite: has the simulation blown up?", total);
      return MLFF_NOT_FINITE;
    }
    *energy = total;
    if (forces) std::copy(found.begin(), found.end(), forces);
    for (int x = 0; virial && x < 9; ++x) virial[x] = -strain[x];
    return MLFF_OK;
  } catch (const std::bad_alloc&) {
    explain({Status::out_of_memory}, positions, message);
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
