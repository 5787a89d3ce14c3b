// Energy and forces of PaiNN; equations and names are those of potentials/ANALYTIC_FORCES.md.
//
// Each thread owns a contiguous range of atoms and writes only rows of its own atoms. A pair of atoms in one range is
// computed once for both directions; a pair across two ranges is computed by both threads, each for its own atom.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <vector>

#include "filters.hpp"
#include "gemm.hpp"
#include "neighbors.hpp"
#include "wall.hpp"
#include "weights.hpp"

namespace mlff {

constexpr int LAYERS = MLFF_LAYERS;
// Widths padded to whole vectors; padding has zero weights, so it does not change results.
constexpr int padded(int n) {
  const int vectors = (n + LANES - 1) / LANES;
  return LANES * (vectors > 6 ? round_up(vectors, vectors % 5 && vectors % 6 ? 4 : 1) : vectors);
}
constexpr int F = padded(MLFF_FEATURES), H = padded(MLFF_MLP), R = padded(MLFF_READOUT);
// Atoms per chunk of the node networks: their rows stay in the L1 and L2 caches while the weights are read.
constexpr int CHUNK = 12;
// Atoms closer than this (A) coincide: the direction between them is undefined.
constexpr double COINCIDING = 1e-6;

template <class T>
class Buffer {  // aligned memory that grows and never shrinks
 public:
  T* reserve(size_t size) {
    if (size > capacity) {
      const size_t bytes = size_t(round_up_bytes(size * sizeof(T)));
      T* fresh = static_cast<T*>(std::aligned_alloc(ALIGNMENT, bytes));
      if (!fresh) throw std::bad_alloc();
      memory.reset(fresh);
      capacity = size;
    }
    return memory.get();
  }

 private:
  static size_t round_up_bytes(size_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> memory;
  size_t capacity = 0;
};

// Entry at a padded column of a row of parts of MLFF_FEATURES each; zero in the padding. entry(i): i without padding.
template <class Entry>
inline Real part_of(int column, Entry entry) {
  const int part = column / F, feature = column % F;
  return feature < MLFF_FEATURES ? entry(part * MLFF_FEATURES + feature) : Real(0);
}

class Network {
 public:
  // a_ss, a_sv, a_vv: a_vv last, so that the last layer, which does not need it, uses the first 2F columns.
  Packed<F, H> phi_in[LAYERS];
  Packed<H, 3 * F, F> phi_out[LAYERS];
  Packed<F, 2 * F, F> mix[LAYERS];
  Packed<2 * F, H> mlp_in[LAYERS];
  Packed<H, 3 * F, F> mlp_out[LAYERS];
  Packed<F, R> readout_in;
  Packed<3 * F, H> phi_out_back[LAYERS];
  Packed<H, F> phi_in_back[LAYERS];
  Packed<2 * F, F> mix_back[LAYERS];
  Packed<H, 2 * F, F> mlp_in_back[LAYERS];
  Packed<3 * F, H> mlp_out_back[LAYERS];
  Packed<R, F> readout_in_back;
  Real *phi_in_bias, *phi_out_bias, *mlp_in_bias, *mlp_out_bias, *readout_in_bias, *readout_out;
  Real* embedding;      // [elements, F]
  Real* first_message;  // [elements, 2F]
  Real* filters;        // [LAYERS][TABLE_ROWS][3F], see filters.hpp
  RadialBasis basis;
  double readout_bias;
  double cutoff, norm_epsilon, wall_rest;
  int n_elements;
  std::vector<Wall> walls;  // [elements * elements]
  std::vector<double> references;
  std::vector<double> radii;     // [elements] two atoms are too close within the sum of theirs, A
  std::vector<uint8_t> learned;  // [elements]
  bool knows_limits;             // else nothing is too close, and all elements are as good as learned

  explicit Network(const Weights& given)
      : cutoff(given.header.cutoff),
        norm_epsilon(given.header.norm_epsilon),
        wall_rest(given.header.wall_rest),
        n_elements(int(given.header.n_elements)),
        references(given.references, given.references + n_elements),
        radii(given.radii, given.radii + n_elements),
        learned(given.learned, given.learned + n_elements),
        knows_limits(given.header.knows_limits != 0) {
    constexpr int f = MLFF_FEATURES, h = MLFF_MLP, r = MLFF_READOUT;
    basis.cutoff = cutoff;
    basis.exponent = given.header.exponent;
    for (int k = 0; k < RADIAL; ++k) basis.centers[k] = given.centers[k];
    walls.resize(size_t(n_elements) * n_elements);
    for (size_t i = 0; i < walls.size(); ++i) walls[i] = {given.wall[2 * i], given.wall[2 * i + 1]};
    size_t total = 0;
    for (int pass = 0; pass < 2; ++pass) {
      // The first pass counts, the second fills.
      Real* at = pass ? storage.reserve(total) : nullptr;
      total = 0;
      const auto take = [&](size_t size) {
        Real* here = pass ? at + total : nullptr;
        total += (size + 15) / 16 * 16;
        return here;
      };
      const auto pack = [&](auto& matrix, auto element) {
        Real* to = take(std::remove_reference_t<decltype(matrix)>::SIZE);
        if (pass) matrix.pack(to, element);
      };
      const auto vector = [&](Real*& to, size_t size, auto element) {
        to = take(size);
        if (pass)
          for (size_t i = 0; i < size; ++i) to[i] = element(int(i));
      };
      vector(phi_in_bias, LAYERS * H,
             [&](int i) { return i >= H && i % H < h ? given.phi_in_bias[(i / H - 1) * h + i % H] : Real(0); });
      vector(phi_out_bias, LAYERS * 3 * F, [&](int i) {
        const int b = i / (3 * F) - 1;
        return b < 0 ? Real(0) : part_of(i % (3 * F), [&](int n) { return given.phi_out_bias[b * 3 * f + n]; });
      });
      vector(mlp_in_bias, LAYERS * H,
             [&](int i) { return i % H < h ? given.mlp_in_bias[i / H * h + i % H] : Real(0); });
      vector(mlp_out_bias, LAYERS * 3 * F, [&](int i) {
        const int b = i / (3 * F);
        return part_of(swapped(i % (3 * F)), [&](int n) { return given.mlp_out_bias[b * 3 * f + n]; });
      });
      vector(readout_in_bias, R, [&](int i) { return i < r ? given.readout_in_bias[i] : Real(0); });
      vector(readout_out, R, [&](int i) { return i < r ? given.readout_out[i] : Real(0); });
      vector(embedding, size_t(n_elements) * F,
             [&](int i) { return i % F < f ? given.embedding[i / F * f + i % F] : Real(0); });
      vector(first_message, size_t(n_elements) * 2 * F, [&](int i) {
        const int z = i / (2 * F);
        return part_of(i % (2 * F), [&](int n) { return given.first_message[z * 2 * f + n]; });
      });
      filters = take(size_t(LAYERS) * TABLE_ROWS * 3 * F);
      for (int b = 0; pass && b < LAYERS; ++b)
        fill_table(
            basis, 3 * F,
            [&](int k, int column) {
              return part_of(column, [&](int n) {
                return k < RADIAL ? given.filters[(b * 3 * f + n) * RADIAL + k] : given.filters_bias[b * 3 * f + n];
              });
            },
            filters + size_t(b) * TABLE_ROWS * 3 * F);
      for (int b = 0; b < LAYERS; ++b) {
        if (b > 0) {
          const Real *in = given.phi_in + (b - 1) * h * f, *out = given.phi_out + (b - 1) * 3 * f * h;
          const auto phi_in_entry = [=](int feature, int hidden) {
            return feature < f && hidden < h ? in[hidden * f + feature] : Real(0);
          };
          const auto phi_out_entry = [=](int hidden, int column) {
            return hidden < h ? part_of(column, [=](int n) { return out[n * h + hidden]; }) : Real(0);
          };
          pack(phi_in[b], phi_in_entry);
          pack(phi_out[b], phi_out_entry);
          pack(phi_out_back[b], [=](int k, int n) { return phi_out_entry(n, k); });
          pack(phi_in_back[b], [=](int k, int n) { return phi_in_entry(n, k); });
        }
        const Real *uv = given.mix_uv + b * 2 * f * f, *first = given.mlp_in + b * h * 2 * f,
                   *second = given.mlp_out + b * 3 * f * h;
        const auto mix_entry = [=](int k, int column) {
          return k < f ? part_of(column, [=](int n) { return uv[n * f + k]; }) : Real(0);
        };
        const auto mlp_in_entry = [=](int k, int hidden) {
          return hidden < h ? part_of(k, [=](int n) { return first[hidden * 2 * f + n]; }) : Real(0);
        };
        const auto mlp_out_entry = [=](int hidden, int column) {
          return hidden < h ? part_of(swapped(column), [=](int n) { return second[n * h + hidden]; }) : Real(0);
        };
        pack(mix[b], mix_entry);
        pack(mlp_in[b], mlp_in_entry);
        pack(mlp_out[b], mlp_out_entry);
        pack(mix_back[b], [=](int k, int n) { return mix_entry(n, k); });
        pack(mlp_in_back[b], [=](int k, int n) { return mlp_in_entry(n, k); });
        pack(mlp_out_back[b], [=](int k, int n) { return mlp_out_entry(n, k); });
      }
      const auto readout_entry = [=](int k, int n) { return k < f && n < r ? given.readout_in[n * f + k] : Real(0); };
      pack(readout_in, readout_entry);
      pack(readout_in_back, [=](int k, int n) { return readout_entry(n, k); });
    }
    readout_bias = given.readout_out_bias[0];
  }

  const Wall& wall(int first, int second) const { return walls[size_t(first) * n_elements + second]; }

 private:
  // Maps columns in the student's order (ss, vv, sv) to the order here (ss, sv, vv), and back.
  static int swapped(int column) { return column < F ? column : column < 2 * F ? column + F : column - F; }
  Buffer<Real> storage;
};

// A pair of neighbors; atom `self` belongs to this thread.
struct Pair {
  int32_t self, other;
  int32_t window;  // position in the filters' table
  bool both;       // `other` belongs to this thread too: compute both directions
  Real u[3], inverse_distance, distance;
  Real value[WINDOW];  // weights of the rows for W
  Real slope[WINDOW];  // weights of the rows for dW/dd, d as the network sees it
  Real seen_slope, repulsion_slope;  // of Contact, see wall.hpp
};

struct ThreadScratch {
  std::vector<Pair> pairs;
  Buffer<Real> memory;
  Buffer<Real> edge_gradients;  // [pairs][4]: g_d, g_u
  Failure failure;
  std::vector<double> virial;  // [systems][9]
};

// Input and output of a call. `batch` counts systems from `base`; cell and pbc, forces and virials may be null; virials
// (dE/dstrain [systems, 9], eV) need forces.
struct Call {
  int64_t n_atoms, n_systems, base;
  const int64_t* numbers;
  const Real* positions;
  const int64_t* batch;
  const Real* cell;
  const uint8_t* pbc;
  double* energies;
  Real* forces;
  double* virials;
  bool refuse_close = false;  // atoms closer than any that the student learned
  Real* last_layer = nullptr;  // or: what the last layer sums for each atom [atoms, MLFF_READOUT]

  // The call for `systems` systems from `first` on, with `atoms` atoms from `atom` on.
  Call part(int64_t first, int64_t systems, int64_t atom, int64_t atoms) const {
    return {atoms,
            systems,
            base + first,
            numbers + atom,
            positions + 3 * atom,
            batch + atom,
            cell ? cell + 9 * first : nullptr,
            pbc ? pbc + 3 * first : nullptr,
            energies + first,
            forces ? forces + 3 * atom : nullptr,
            virials ? virials + 9 * first : nullptr,
            refuse_close,
            last_layer ? last_layer + size_t(atom) * MLFF_READOUT : nullptr};
  }
};

class Workspace {
 public:
  Failure evaluate(const Network& net, int threads, const Call& call) {
    const int64_t n_atoms = call.n_atoms, n_systems = call.n_systems;
    double* virials = call.virials;
    for (int64_t atom = 0; atom < n_atoms; ++atom)
      if (call.numbers[atom] < 0 || call.numbers[atom] >= net.n_elements) return {Status::bad_number, atom};
    const Failure failure =
        atoms.set(n_atoms, n_systems, call.positions, call.batch, call.base, call.cell, call.pbc, net.cutoff);
    if (failure.status != Status::ok) return failure;
    part = nullptr;
    refuse_close = call.refuse_close;
    last_layer = call.last_layer;
    threads = allocate(n_atoms, 0, threads);
    for (int64_t atom = 0; atom < n_atoms; ++atom) element[atom] = int32_t(call.numbers[atoms.order[atom]]);
    if (const Failure failed = run_threads(net, threads, n_systems, call.forces, virials); failed.status != Status::ok)
      return failed;
    for (int64_t b = 0; b < n_systems; ++b) {
      double total = 0;
      for (int64_t atom = atoms.first[b]; atom < atoms.first[b + 1]; ++atom) total += atomic[atom];
      call.energies[b] = total;
    }
    return {};
  }

  // Energies of own atoms [own] eV, forces on them [own, 3] or null, and dE/dstrain of their share [9] or null, which needs
  // forces. Numbers and indices have been checked.
  Failure evaluate_part(const Network& net, int threads, const mlff_part& given, bool refuse, double* energies,
                        Real* forces, double* virial) {
    atoms.set_part(given.n_own, given.n_ghosts);
    part = &given;
    refuse_close = refuse;
    last_layer = nullptr;
    threads = allocate(given.n_own, given.n_ghosts, threads);
    std::copy_n(given.numbers, given.n_own + given.n_ghosts, element.begin());
    const Failure failed = run_threads(net, threads, 1, forces, virial);
    part = nullptr;
    if (failed.status == Status::ok && energies) std::copy_n(atomic.begin(), given.n_own, energies);
    return failed;
  }

  Atoms atoms;

 private:
  const mlff_part* part = nullptr;
  std::vector<ThreadScratch> scratch;
  bool refuse_close;
  Real* last_layer;
  std::vector<int32_t> element;
  std::vector<double> atomic;  // energies of atoms, walls and references included
  Buffer<Real> node_memory;
  // Rows of atoms; those that are arrays over layers are saved for the backward pass.
  Real *s, *v_mid, *gs[2], *gv[2], *collected;
  Real *x[LAYERS], *v_in[LAYERS], *uv[LAYERS], *inverse_norm[LAYERS], *gate[LAYERS], *phi_slope[LAYERS],
      *mlp_slope[LAYERS];

  // The number of threads that will be used.
  int allocate(int64_t own, int64_t ghosts, int threads) {
    // Every thread reads all weights, so a thread with fewer than four atoms saves no time (see NOTES.md).
    threads = int(std::max<int64_t>(1, std::min<int64_t>(threads, own / 4)));
#ifndef _OPENMP
    threads = 1;
#endif
    if (int(scratch.size()) < threads) scratch.resize(threads);
    const int64_t n = own + ghosts;
    element.resize(n);
    atomic.resize(own);
    size_t total = 0;
    Real* base = nullptr;
    for (int pass = 0; pass < 2; ++pass) {
      if (pass) base = node_memory.reserve(total);
      total = 0;
      const auto take = [&](int width) {
        Real* here = base ? base + total : nullptr;
        total += size_t(n) * width;
        return here;
      };
      s = take(F);
      v_mid = take(3 * F);
      collected = take(5 * F);
      for (int i = 0; i < 2; ++i) gs[i] = take(F), gv[i] = take(3 * F);
      for (int b = 0; b < LAYERS; ++b) {
        x[b] = take(b ? 3 * F : 0);
        v_in[b] = take(b ? 3 * F : 0);
        uv[b] = take(6 * F);
        inverse_norm[b] = take(F);
        gate[b] = take(3 * F);
        phi_slope[b] = take(b ? H : 0);
        mlp_slope[b] = take(H);
      }
    }
    return threads;
  }

  // dE/dstrain goes to virials [systems, 9], unless null.
  Failure run_threads(const Network& net, int threads, int64_t n_systems, Real* forces, double* virials) {
    if (threads == 1) {
      run(net, 0, 1, n_systems, forces, virials != nullptr);
    }
#ifdef _OPENMP
    else {
#pragma omp parallel num_threads(threads)
      {
        const int granted = omp_get_num_threads();  // can be fewer than requested
        run(net, omp_get_thread_num(), granted, n_systems, forces, virials != nullptr);
#pragma omp single
        threads = granted;
      }
    }
#endif
    const Failure* closest = nullptr;
    for (int t = 0; t < threads; ++t) {
      const Failure& found = scratch[t].failure;
      if (found.status == Status::too_close) {
        if (!closest || found.distance - found.shortest < closest->distance - closest->shortest) closest = &found;
      } else if (found.status != Status::ok) {
        return found;
      }
    }
    if (closest) return *closest;
    for (int64_t x = 0; virials && x < 9 * n_systems; ++x) {
      virials[x] = 0;
      for (int t = 0; t < threads; ++t) virials[x] += scratch[t].virial[x];
    }
    return {};
  }

  static void wait() {
#pragma omp barrier
  }

  // Rows of atoms, `width` numbers each.
  struct Rows {
    Real* first;
    int width;
  };

  // Before a thread reads rows of atoms that are not its own: those of other threads, and of ghosts, are complete.
  void share(int thread, int threads, std::initializer_list<Rows> all) const {
    if (threads > 1) wait();
    if (!part || !part->exchange) return;
    if (thread == 0) {
      char* rows[2];
      size_t bytes[2];
      int n = 0;
      for (const Rows& one : all) {
        rows[n] = reinterpret_cast<char*>(one.first);
        bytes[n++] = one.width * sizeof(Real);
      }
      part->exchange(part->context, n, rows, bytes);
    }
    if (threads > 1) wait();
  }

  void run(const Network& net, int thread, int threads, int64_t n_systems, Real* forces, bool want_virial) {
    ThreadScratch& mine = scratch[thread];
    mine.failure = {};
    const int64_t n = atoms.n_atoms, from = n * thread / threads, to = n * (thread + 1) / threads;
    try {
      find_pairs(net, mine, from, to);
      mine.memory.reserve(size_t(CHUNK) * std::max(11 * F + H, 2 * R));
      mine.edge_gradients.reserve(4 * mine.pairs.size());
      if (want_virial) mine.virial.assign(9 * n_systems, 0.0);
    } catch (const std::bad_alloc&) {
      mine.failure.status = Status::out_of_memory;
      mine.pairs.clear();
      if (!part) {
        // The other threads wait at the barriers: take part in those without any pairs.
        run_barriers(forces != nullptr, threads);
        return;
      }
    }
    if (part) {
      // All threads, or none: a call that fails exchanges nothing.
      if (threads > 1) wait();
      for (int t = 0; t < threads; ++t)
        if (scratch[t].failure.status != Status::ok) return;
    }
    for (int b = 0; b < LAYERS; ++b) {
      start_message(net, b, from, to);
      if (b == 0)
        message<true>(net, b, mine);
      else
        message<false>(net, b, mine);
      for_chunks(from, to, [&](int64_t first, int rows) {
        update(net, b, first, rows, mine.memory.reserve(0));
        if (b + 1 < LAYERS) phi(net, b + 1, first, rows, mine.memory.reserve(0));
      });
      if (b + 1 < LAYERS) share(thread, threads, {{x[b + 1], 3 * F}, {v_in[b + 1], 3 * F}});
    }
    int now = 0;  // index of the buffers with the current gs and gv
    for_chunks(from, to, [&](int64_t first, int rows) {
      readout(net, first, rows, mine.memory.reserve(0), forces != nullptr);
      if (forces) update_back(net, LAYERS - 1, first, rows, gs[now], gv[now], mine.memory.reserve(0));
    });
    if (!forces) return;
    std::fill_n(mine.edge_gradients.reserve(0), 4 * mine.pairs.size(), Real(0));
    for (int b = LAYERS - 1; b >= 0; --b) {
      share(thread, threads, {{gs[now], F}, {gv[now], 3 * F}});
      if (b == 0) {
        message_back<true>(net, b, gs[now], gv[now], mine);
      } else {
        std::fill(collected + from * 5 * F, collected + to * 5 * F, Real(0));
        message_back<false>(net, b, gs[now], gv[now], mine);
        for_chunks(from, to, [&](int64_t first, int rows) {
          phi_back(net, b, first, rows, gs[now], gv[now], gs[1 - now], gv[1 - now], mine.memory.reserve(0));
          update_back(net, b - 1, first, rows, gs[1 - now], gv[1 - now], mine.memory.reserve(0));
        });
        now = 1 - now;
      }
    }
    collect_forces(mine, from, to, forces, want_virial);
  }

  static void run_barriers(bool with_forces, int threads) {
    if (threads == 1) return;
    for (int b = 0; b + 1 < LAYERS; ++b) wait();
    if (with_forces)
      for (int b = 0; b < LAYERS; ++b) wait();
  }

  template <class Work>
  static void for_chunks(int64_t from, int64_t to, Work work) {
    const int64_t n = to - from, chunks = (n + CHUNK - 1) / CHUNK;
    for (int64_t c = 0; c < chunks; ++c) {
      const int64_t first = from + n * c / chunks;
      work(first, int(from + n * (c + 1) / chunks - first));
    }
  }

  void find_pairs(const Network& net, ThreadScratch& mine, int64_t from, int64_t to) {
    mine.pairs.clear();
    std::fill(atomic.begin() + from, atomic.begin() + to, 0.0);
    if (part) return take_pairs(net, mine, from, to);
    const Real cutoff2 = Real(net.cutoff) * Real(net.cutoff);
    for (int64_t self = from; self < to; ++self) {
      const auto add = [&](int64_t other, const std::array<Real, 3>& r, const int* image) {
        const bool both = other >= from && other < to;
        // Once for both directions; of an atom's own images, only those in one half space.
        if (both && (other < self || (other == self && !leads(image)))) return;
        add_pair(net, mine, self, other, r, both);
      };
      if (atoms.bin[self] < 0) {
        const int64_t b = atoms.system[self], first = atoms.first[b], last = atoms.first[b + 1];
        atoms.neighbors_all_pairs(self, first, std::min(from, last), cutoff2, add);
        atoms.neighbors_all_pairs(self, std::max(self + 1, first), last, cutoff2, add);
      } else {
        atoms.neighbors_by_bins(self, cutoff2, add);
      }
    }
  }

  // The given pairs that have an atom of [from, to).
  void take_pairs(const Network& net, ThreadScratch& mine, int64_t from, int64_t to) {
    const double cutoff2 = net.cutoff * net.cutoff;
    for (int64_t pair = 0; pair < part->n_pairs; ++pair) {
      const int64_t i = part->pairs[2 * pair], j = part->pairs[2 * pair + 1];
      const bool own_i = i >= from && i < to, own_j = j >= from && j < to;
      if (!own_i && !own_j) continue;
      const double* r = part->vectors + 3 * pair;
      if (!(r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < cutoff2)) continue;
      if (own_i)
        add_pair(net, mine, i, j, {Real(r[0]), Real(r[1]), Real(r[2])}, own_j);
      else
        add_pair(net, mine, j, i, {Real(-r[0]), Real(-r[1]), Real(-r[2])}, false);
    }
  }

  static bool leads(const int* image) {
    for (int k = 0; image && k < 3; ++k)
      if (image[k]) return image[k] > 0;
    return false;
  }

  void add_pair(const Network& net, ThreadScratch& mine, int64_t self, int64_t other, const std::array<Real, 3>& r,
                bool both) {
    const Real d = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    if (!(d > Real(COINCIDING))) {
      mine.failure = {Status::coinciding, std::min(atoms.order[self], atoms.order[other]),
                      std::max(atoms.order[self], atoms.order[other])};
      return;
    }
    mine.pairs.emplace_back();
    Pair& pair = mine.pairs.back();
    pair.self = int32_t(self);
    pair.other = int32_t(other);
    pair.both = both;
    pair.distance = d;
    pair.inverse_distance = 1 / d;
    for (int k = 0; k < 3; ++k) pair.u[k] = r[k] * pair.inverse_distance;
    if (refuse_close) check_distance(net, mine, self, other, d);
    Contact near{double(d)};
    const Wall& wall = net.wall(element[self], element[other]);
    if (d < wall.end) {
      near = contact(wall, d, net.wall_rest);
      // Half to each atom; of a pair across two ranges, the other thread adds the other half.
      atomic[self] += 0.5 * near.repulsion;
      if (both) atomic[other] += 0.5 * near.repulsion;
    }
    pair.window = table_window(net.basis, Real(near.seen), pair.value, pair.slope);
    pair.seen_slope = Real(near.seen_slope);
    pair.repulsion_slope = Real(near.repulsion_slope);
  }

  // Keeps the pair that is furthest within what the student learned.
  void check_distance(const Network& net, ThreadScratch& mine, int64_t self, int64_t other, double d) const {
    const double shortest = net.radii[element[self]] + net.radii[element[other]];
    Failure& worst = mine.failure;
    const bool first = worst.status == Status::ok;
    if (!(d < shortest) || !(first || worst.status == Status::too_close)) return;
    if (!first && !(d - shortest < worst.distance - worst.shortest)) return;
    worst = {Status::too_close, std::min(atoms.order[self], atoms.order[other]),
             std::max(atoms.order[self], atoms.order[other]), d, shortest};
  }

  // s and v before the messages of layer b are added.
  void start_message(const Network& net, int b, int64_t from, int64_t to) {
    if (b == 0) {
      for (int64_t atom = from; atom < to; ++atom)
        std::copy_n(net.embedding + size_t(element[atom]) * F, F, s + atom * F);
      std::fill(v_mid + from * 3 * F, v_mid + to * 3 * F, Real(0));
    } else {
      std::copy(v_in[b] + from * 3 * F, v_in[b] + to * 3 * F, v_mid + from * 3 * F);
    }
  }

  // W and dW/dd of LANES features from `feature` on: the parts s, a and (not in the first layer) c.
  template <int PARTS, bool SLOPES>
  static void filter(const Pair& pair, const Real* table, int feature, Vec* w, Vec* w_slope) {
#pragma GCC unroll 3
    for (int part = 0; part < PARTS; ++part) {
      w[part] = SPLINE ? load(table + size_t(pair.window) * 3 * F + part * F + feature) : Vec{};
      if constexpr (SLOPES) w_slope[part] = Vec{};
    }
    const Real* row = table + size_t(FIRST_WINDOW + pair.window) * 3 * F + feature;
#pragma GCC unroll 32
    for (int k = 0; k < WINDOW; ++k)
#pragma GCC unroll 3
      for (int part = 0; part < PARTS; ++part) {
        const Vec entry = load(row + k * 3 * F + part * F);
        w[part] += entry * pair.value[k];
        if constexpr (SLOPES) w_slope[part] += entry * pair.slope[k];
      }
  }

  const Real* message_row(const Network& net, int b, int64_t atom) const {
    return b == 0 ? net.first_message + size_t(element[atom]) * 2 * F : x[b] + atom * 3 * F;
  }

  template <bool FIRST>
  void message(const Network& net, int b, ThreadScratch& mine) {
    const Real* table = net.filters + size_t(b) * TABLE_ROWS * 3 * F;
    constexpr int PARTS = FIRST ? 2 : 3;
    for (const Pair& pair : mine.pairs) {
      const int64_t i = pair.self, j = pair.other;
      const Real *x_i = message_row(net, b, i), *x_j = message_row(net, b, j);
      const Real *v_i = v_in[b] + i * 3 * F, *v_j = v_in[b] + j * 3 * F;
      Real *s_i = s + i * F, *s_j = s + j * F, *sum_i = v_mid + i * 3 * F, *sum_j = v_mid + j * 3 * F;
      for (int f = 0; f < F; f += LANES) {
        Vec w[3];
        filter<PARTS, false>(pair, table, f, w, nullptr);
        store(s_i + f, load(s_i + f) + w[0] * load(x_j + f));
        const Vec a = w[1] * load(x_j + F + f);
        Vec c{};
        if constexpr (!FIRST) c = w[2] * load(x_j + 2 * F + f);
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) {
          Vec dv = a * pair.u[k];
          if constexpr (!FIRST) dv += c * load(v_j + k * F + f);
          store(sum_i + k * F + f, load(sum_i + k * F + f) + dv);
        }
        if (!pair.both) continue;
        store(s_j + f, load(s_j + f) + w[0] * load(x_i + f));
        const Vec back = w[1] * load(x_i + F + f);
        if constexpr (!FIRST) c = w[2] * load(x_i + 2 * F + f);
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) {
          Vec dv = -back * pair.u[k];
          if constexpr (!FIRST) dv += c * load(v_i + k * F + f);
          store(sum_j + k * F + f, load(sum_j + k * F + f) + dv);
        }
      }
    }
  }

  // g_d and g_u of every pair. For senders, sums over the neighbors n of an atom, with u from the atom to n:
  // collected = (sum Ws gs_n, -sum Wa gv_n.u, sum Wc gv_n) [5F].
  template <bool FIRST>
  void message_back(const Network& net, int b, const Real* g_s, const Real* g_v, ThreadScratch& mine) {
    const Real* table = net.filters + size_t(b) * TABLE_ROWS * 3 * F;
    constexpr int PARTS = FIRST ? 2 : 3;
    Real* gradient = mine.edge_gradients.reserve(0);
    for (const Pair& pair : mine.pairs) {
      const int64_t i = pair.self, j = pair.other;
      const Real *x_i = message_row(net, b, i), *x_j = message_row(net, b, j);
      const Real *v_i = v_in[b] + i * 3 * F, *v_j = v_in[b] + j * 3 * F;
      const Real *gs_i = g_s + i * F, *gs_j = g_s + j * F, *gv_i = g_v + i * 3 * F, *gv_j = g_v + j * 3 * F;
      Real *to_i = collected + i * 5 * F, *to_j = collected + j * 5 * F;
      Vec g_d{}, g_u[3] = {};
      for (int f = 0; f < F; f += LANES) {
        Vec w[3], w_slope[3];
        filter<PARTS, true>(pair, table, f, w, w_slope);
        const Vec s_i = load(gs_i + f), s_j = load(gs_j + f);
        Vec vi[3], vj[3];
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) vi[k] = load(gv_i + k * F + f), vj[k] = load(gv_j + k * F + f);
        const Vec along_i = vi[0] * pair.u[0] + vi[1] * pair.u[1] + vi[2] * pair.u[2];
        const Vec along_j = vj[0] * pair.u[0] + vj[1] * pair.u[1] + vj[2] * pair.u[2];
        const Vec a_i = load(x_i + F + f), a_j = load(x_j + F + f);
        g_d += w_slope[0] * (load(x_j + f) * s_i + load(x_i + f) * s_j);
        g_d += w_slope[1] * (a_j * along_i - a_i * along_j);
        const Vec wa_i = w[1] * a_i, wa_j = w[1] * a_j;
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) g_u[k] += wa_j * vi[k] - wa_i * vj[k];
        if constexpr (!FIRST) {
          Vec carry_i{}, carry_j{};
#pragma GCC unroll 3
          for (int k = 0; k < 3; ++k) {
            carry_i += vi[k] * load(v_j + k * F + f);
            carry_j += vj[k] * load(v_i + k * F + f);
          }
          g_d += w_slope[2] * (load(x_j + 2 * F + f) * carry_i + load(x_i + 2 * F + f) * carry_j);
          store(to_i + f, load(to_i + f) + w[0] * s_j);
          store(to_i + F + f, load(to_i + F + f) - w[1] * along_j);
#pragma GCC unroll 3
          for (int k = 0; k < 3; ++k) store(to_i + (2 + k) * F + f, load(to_i + (2 + k) * F + f) + w[2] * vj[k]);
          if (!pair.both) continue;
          store(to_j + f, load(to_j + f) + w[0] * s_i);
          store(to_j + F + f, load(to_j + F + f) + w[1] * along_i);
#pragma GCC unroll 3
          for (int k = 0; k < 3; ++k) store(to_j + (2 + k) * F + f, load(to_j + (2 + k) * F + f) + w[2] * vi[k]);
        }
      }
      gradient[0] += sum(g_d);
      for (int k = 0; k < 3; ++k) gradient[1 + k] += sum(g_u[k]);
      gradient += 4;
    }
  }

  // silu in place; saves its slopes.
  static void activate(Real* hidden, Real* slopes, int size) {
    for (int i = 0; i < size; i += LANES) {
      Vec value, slope;
      silu(load(hidden + i), value, slope);
      store(hidden + i, value);
      store(slopes + i, slope);
    }
  }

  static void scale(Real* values, const Real* factors, int size) {
    for (int i = 0; i < size; i += LANES) store(values + i, load(values + i) * load(factors + i));
  }

  // x of layer b from s.
  void phi(const Network& net, int b, int64_t first, int rows, Real* hidden) {
    multiply<Start::bias>(net.phi_in[b], s + first * F, F, rows, net.phi_in_bias + b * H, hidden, H);
    activate(hidden, phi_slope[b] + first * H, rows * H);
    multiply<Start::bias>(net.phi_out[b], hidden, H, rows, net.phi_out_bias + b * 3 * F, x[b] + first * 3 * F, 3 * F);
  }

  void update(const Network& net, int b, int64_t first, int rows, Real* memory) {
    const bool last = b + 1 == LAYERS;
    Real *both = memory, *hidden = both + CHUNK * 2 * F;
    multiply<Start::zero>(net.mix[b], v_mid + first * 3 * F, F, 3 * rows, nullptr, uv[b] + first * 6 * F, 2 * F);
    const Real epsilon = Real(net.norm_epsilon);
    for (int row = 0; row < rows; ++row) {
      const Real* mixed = uv[b] + (first + row) * 6 * F;
      for (int f = 0; f < F; f += LANES) {
        Vec square = splat(epsilon);
        for (int k = 0; k < 3; ++k) square += load(mixed + 2 * k * F + f) * load(mixed + 2 * k * F + f);
        const Vec norm = square_root(square);
        store(both + row * 2 * F + f, load(s + (first + row) * F + f));
        store(both + row * 2 * F + F + f, norm);
        store(inverse_norm[b] + (first + row) * F + f, Real(1) / norm);
      }
    }
    multiply<Start::bias>(net.mlp_in[b], both, 2 * F, rows, net.mlp_in_bias + b * H, hidden, H);
    activate(hidden, mlp_slope[b] + first * H, rows * H);
    multiply<Start::bias>(net.mlp_out[b], hidden, H, rows, net.mlp_out_bias + b * 3 * F, gate[b] + first * 3 * F, 3 * F,
                          last ? 2 * F : 3 * F);
    for (int row = 0; row < rows; ++row) {
      const int64_t atom = first + row;
      const Real *mixed = uv[b] + atom * 6 * F, *a = gate[b] + atom * 3 * F, *old = v_mid + atom * 3 * F;
      for (int f = 0; f < F; f += LANES) {
        Vec dot{};
        for (int k = 0; k < 3; ++k) dot += load(mixed + 2 * k * F + f) * load(mixed + (2 * k + 1) * F + f);
        store(s + atom * F + f, load(s + atom * F + f) + load(a + f) + load(a + F + f) * dot);
        if (last) continue;
        const Vec a_vv = load(a + 2 * F + f);
        Real* fresh = v_in[b + 1] + atom * 3 * F;
        for (int k = 0; k < 3; ++k)
          store(fresh + k * F + f, load(old + k * F + f) + a_vv * load(mixed + (2 * k + 1) * F + f));
      }
    }
  }

  // Adds to the energies of atoms, which hold the walls' repulsion; gs[0] and gv[0], which start the backward pass.
  void readout(const Network& net, int64_t first, int rows, Real* hidden, bool with_gradient) {
    Real* slopes = hidden + CHUNK * R;
    multiply<Start::bias>(net.readout_in, s + first * F, F, rows, net.readout_in_bias, hidden, R);
    activate(hidden, slopes, rows * R);
    for (int row = 0; last_layer && row < rows; ++row)
      std::copy_n(hidden + row * R, MLFF_READOUT, last_layer + size_t(atoms.order[first + row]) * MLFF_READOUT);
    for (int row = 0; row < rows; ++row) {
      Vec energy{};
      for (int f = 0; f < R; f += LANES) {
        const Vec weight = load(net.readout_out + f);
        energy += load(hidden + row * R + f) * weight;
        store(slopes + row * R + f, load(slopes + row * R + f) * weight);
      }
      atomic[first + row] += double(sum(energy)) + net.readout_bias + net.references[element[first + row]];
    }
    if (!with_gradient) return;
    multiply<Start::zero>(net.readout_in_back, slopes, R, rows, nullptr, gs[0] + first * F, F);
    std::fill_n(gv[0] + first * 3 * F, size_t(rows) * 3 * F, Real(0));
  }

  // gs, gv after the update of layer b -> gs, gv before it, in place.
  void update_back(const Network& net, int b, int64_t first, int rows, Real* g_s, Real* g_v, Real* memory) {
    const bool last = b + 1 == LAYERS;
    Real *g_gate = memory, *hidden = g_gate + CHUNK * 3 * F, *g_in = hidden + CHUNK * H,
         *g_uv = memory + CHUNK * (3 * F + H + 2 * F);
    for (int row = 0; row < rows; ++row) {
      const int64_t atom = first + row;
      const Real *mixed = uv[b] + atom * 6 * F, *gv_row = g_v + atom * 3 * F;
      for (int f = 0; f < F; f += LANES) {
        Vec dot{}, stretch{};
        for (int k = 0; k < 3; ++k) {
          const Vec u = load(mixed + (2 * k + 1) * F + f);
          dot += load(mixed + 2 * k * F + f) * u;
          if (!last) stretch += load(gv_row + k * F + f) * u;
        }
        const Vec g = load(g_s + atom * F + f);
        store(g_gate + row * 3 * F + f, g);
        store(g_gate + row * 3 * F + F + f, g * dot);
        if (!last) store(g_gate + row * 3 * F + 2 * F + f, stretch);
      }
    }
    multiply<Start::zero>(net.mlp_out_back[b], g_gate, 3 * F, rows, nullptr, hidden, H, H, last ? 2 * F : 3 * F);
    scale(hidden, mlp_slope[b] + first * H, rows * H);
    multiply<Start::zero>(net.mlp_in_back[b], hidden, H, rows, nullptr, g_in, 2 * F);
    for (int row = 0; row < rows; ++row) {
      const int64_t atom = first + row;
      const Real *mixed = uv[b] + atom * 6 * F, *gv_row = g_v + atom * 3 * F, *a = gate[b] + atom * 3 * F;
      for (int f = 0; f < F; f += LANES) {
        const Vec g = load(g_s + atom * F + f), g_dot = g * load(a + F + f);
        const Vec g_norm = load(g_in + row * 2 * F + F + f) * load(inverse_norm[b] + atom * F + f);
        for (int k = 0; k < 3; ++k) {
          const Vec v = load(mixed + 2 * k * F + f), u = load(mixed + (2 * k + 1) * F + f);
          store(g_uv + (row * 3 + k) * 2 * F + f, g_dot * u + g_norm * v);
          Vec g_u = g_dot * v;
          if (!last) g_u += load(a + 2 * F + f) * load(gv_row + k * F + f);
          store(g_uv + (row * 3 + k) * 2 * F + F + f, g_u);
        }
        store(g_s + atom * F + f, g + load(g_in + row * 2 * F + f));
      }
    }
    multiply<Start::accumulate>(net.mix_back[b], g_uv, 2 * F, 3 * rows, nullptr, g_v + first * 3 * F, F);
  }

  // gs, gv after the message of layer b, and `collected` -> gs, gv before it.
  void phi_back(const Network& net, int b, int64_t first, int rows, const Real* g_s, const Real* g_v, Real* fresh_s,
                Real* fresh_v, Real* memory) {
    Real *g_x = memory, *hidden = memory + CHUNK * 3 * F;
    for (int row = 0; row < rows; ++row) {
      const int64_t atom = first + row;
      const Real *sums = collected + atom * 5 * F, *v = v_in[b] + atom * 3 * F, *x_c = x[b] + atom * 3 * F + 2 * F;
      for (int f = 0; f < F; f += LANES) {
        store(g_x + row * 3 * F + f, load(sums + f));
        store(g_x + row * 3 * F + F + f, load(sums + F + f));
        Vec g_c{};
        for (int k = 0; k < 3; ++k) {
          const Vec y = load(sums + (2 + k) * F + f);
          g_c += load(v + k * F + f) * y;
          store(fresh_v + (atom * 3 + k) * F + f, load(g_v + (atom * 3 + k) * F + f) + load(x_c + f) * y);
        }
        store(g_x + row * 3 * F + 2 * F + f, g_c);
        store(fresh_s + atom * F + f, load(g_s + atom * F + f));
      }
    }
    multiply<Start::zero>(net.phi_out_back[b], g_x, 3 * F, rows, nullptr, hidden, H);
    scale(hidden, phi_slope[b] + first * H, rows * H);
    multiply<Start::accumulate>(net.phi_in_back[b], hidden, H, rows, nullptr, fresh_s + first * F, F);
  }

  void collect_forces(ThreadScratch& mine, int64_t from, int64_t to, Real* forces, bool want_virial) {
    for (int64_t atom = from; atom < to; ++atom)
      for (int k = 0; k < 3; ++k) forces[3 * int64_t(atoms.order[atom]) + k] = 0;
    const Real* gradient = mine.edge_gradients.reserve(0);
    for (const Pair& pair : mine.pairs) {
      const Real along = gradient[1] * pair.u[0] + gradient[2] * pair.u[1] + gradient[3] * pair.u[2];
      const Real radial = gradient[0] * pair.seen_slope + pair.repulsion_slope;
      Real g[3];
      for (int k = 0; k < 3; ++k)
        g[k] = radial * pair.u[k] + (gradient[1 + k] - along * pair.u[k]) * pair.inverse_distance;
      Real *on_i = forces + 3 * int64_t(atoms.order[pair.self]), *on_j = forces + 3 * int64_t(atoms.order[pair.other]);
      for (int k = 0; k < 3; ++k) on_i[k] += g[k];
      if (pair.both)
        for (int k = 0; k < 3; ++k) on_j[k] -= g[k];
      if (want_virial) {
        // Of a pair across two ranges, the other thread adds the other half.
        const double share = pair.both ? 0.5 : 0.25;
        double* virial = mine.virial.data() + 9 * int64_t(atoms.system[pair.self]);
        for (int k = 0; k < 3; ++k)
          for (int l = 0; l < 3; ++l)
            virial[3 * k + l] += share * pair.distance * (double(pair.u[k]) * g[l] + double(pair.u[l]) * g[k]);
      }
      gradient += 4;
    }
  }
};

// A network, and one workspace for each call that runs at the same time.
class Model {
 public:
  const Network network;

  explicit Model(const Weights& weights) : network(weights) {}

  // Bytes of an atom's rows in an exchange of a part, at most.
  static constexpr size_t EXCHANGE_BYTES = 6 * F * sizeof(Real);

  Failure evaluate_part(int threads, const mlff_part& part, bool refuse_close, double* energies, Real* forces,
                        double* virial) {
    Lease lease(*this);
    return lease.workspace->evaluate_part(network, threads, part, refuse_close, energies, forces, virial);
  }

  // Many small systems: each thread computes whole groups of systems, without barriers. Few or large systems: all
  // threads compute them together.
  Failure evaluate(int threads, const Call& call) {
    std::vector<Group> groups;
    if (call.n_systems > 1) {
      const Failure failure = make_groups(call, groups);
      if (failure.status != Status::ok) return failure;
    }
    if (int64_t(groups.size()) < GROUPS_PER_THREAD * threads) {
      Lease lease(*this);
      return lease.workspace->evaluate(network, threads, call);
    }
    // Report the failure of the first group, independent of the order in which threads find failures.
    int64_t failed = int64_t(groups.size());
    Failure first;
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
#endif
    {
      std::unique_ptr<Lease> lease;
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
      for (int64_t g = 0; g < int64_t(groups.size()); ++g) {
        const Group& group = groups[g];
        Failure failure;
        try {
          if (!lease) lease = std::make_unique<Lease>(*this);
          failure = lease->workspace->evaluate(network, 1,
                                               call.part(group.system, group.n_systems, group.atom, group.n_atoms));
        } catch (const std::bad_alloc&) {
          failure.status = Status::out_of_memory;
        }
        if (failure.status == Status::ok) continue;
        failure.where += failure.status == Status::bad_cell ? group.system : group.atom;
        failure.other += group.atom;
        const std::lock_guard<std::mutex> lock(mutex);
        if (g < failed) failed = g, first = failure;
      }
    }
    return first;
  }

 private:
  struct Group {
    int64_t system, n_systems, atom, n_atoms;
  };
  // Atoms in a group of systems: their rows stay in the L2 cache.
  static constexpr int64_t GROUP_ATOMS = 48, GROUPS_PER_THREAD = 4;

  static Failure make_groups(const Call& call, std::vector<Group>& groups) {
    int64_t atom = 0;
    for (int64_t system = 0; system < call.n_systems; ++system) {
      const int64_t from = atom;
      while (atom < call.n_atoms && call.batch[atom] == system) ++atom;
      // One thread would compute a large system while the others wait.
      if (atom - from > 16 * GROUP_ATOMS) {
        groups.clear();
        return {};
      }
      if (groups.empty() || groups.back().n_atoms + atom - from > GROUP_ATOMS)
        groups.push_back({system, 1, from, atom - from});
      else
        groups.back().n_systems += 1, groups.back().n_atoms += atom - from;
    }
    if (atom < call.n_atoms) return {Status::bad_batch, atom};
    return {};
  }

  // A workspace for the duration of a call.
  struct Lease {
    Model& owner;
    std::unique_ptr<Workspace> workspace;

    explicit Lease(Model& model) : owner(model) {
      {
        const std::lock_guard<std::mutex> lock(owner.mutex);
        if (!owner.idle.empty()) {
          workspace = std::move(owner.idle.back());
          owner.idle.pop_back();
        }
      }
      if (!workspace) workspace = std::make_unique<Workspace>();
    }
    ~Lease() {
      const std::lock_guard<std::mutex> lock(owner.mutex);
      try {
        owner.idle.push_back(std::move(workspace));
      } catch (const std::bad_alloc&) {
        // The next call allocates a new one.
      }
    }
  };

  std::mutex mutex;
  std::vector<std::unique_ptr<Workspace>> idle;
};

}  // namespace mlff
