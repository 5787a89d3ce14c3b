// The C interface. There are no global variables: a model owns its memory, and many threads may call it at once.
#include "painn.hpp"

using namespace mlff;

extern "C" {

// Increase with every change of a signature below.
int mlff_interface_version() { return 2; }

// Bytes of the pointers that mlff_create takes.
int mlff_sizeof_weights() { return int(sizeof(GivenWeights)); }

// weights: the pointers of GivenWeights; wall_rest: of the equations in wall.hpp. Returns null if there is not enough
// memory.
void* mlff_create(const Real* const* weights, const double* reference_energies, int n_elements, double cutoff,
                  double exponent, double norm_epsilon, double wall_rest) {
  try {
    GivenWeights given;
    static_assert(sizeof(GivenWeights) == 19 * sizeof(void*), "one pointer per field");
    const Real** fields = reinterpret_cast<const Real**>(&given);
    for (int i = 0; i < 19; ++i) fields[i] = weights[i];
    return new Model(given, reference_energies, n_elements, cutoff, exponent, norm_epsilon, wall_rest);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void mlff_destroy(void* model) { delete static_cast<Model*>(model); }

// energies [systems]; forces [atoms, 3] or null; virials [systems, 9] (dE/dstrain, eV) or null, only with forces.
// Returns a Status; where[2]: the atoms or the system that caused it.
int mlff_evaluate(void* model, int threads, int64_t n_atoms, int64_t n_systems, const int64_t* numbers,
                  const Real* positions, const int64_t* batch, const Real* cell, const uint8_t* pbc, double* energies,
                  Real* forces, double* virials, int64_t* where) {
  Failure failure;
  try {
    failure = static_cast<Model*>(model)->evaluate(
        threads, {n_atoms, n_systems, 0, numbers, positions, batch, cell, pbc, energies, forces, virials});
  } catch (const std::bad_alloc&) {
    failure.status = Status::out_of_memory;
  }
  where[0] = failure.where;
  where[1] = failure.other;
  return int(failure.status);
}

// The neighbor search alone: mlff_neighbors makes the list, mlff_take_neighbors copies and frees it.
struct NeighborList {
  std::vector<int64_t> receivers, senders, shifts;
};

int mlff_neighbors(double cutoff, int64_t n_atoms, int64_t n_systems, const Real* positions, const int64_t* batch,
                   const Real* cell, const uint8_t* pbc, void** list, int64_t* n_edges, int64_t* where) {
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
void mlff_take_neighbors(void* list, int64_t* receivers, int64_t* senders, int64_t* shifts) {
  const std::unique_ptr<NeighborList> found(static_cast<NeighborList*>(list));
  std::copy(found->receivers.begin(), found->receivers.end(), receivers);
  std::copy(found->senders.begin(), found->senders.end(), senders);
  if (shifts) std::copy(found->shifts.begin(), found->shifts.end(), shifts);
}

}  // extern "C"
