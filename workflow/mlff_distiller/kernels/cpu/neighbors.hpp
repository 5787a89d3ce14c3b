// Neighbor search: all pairs in small molecules, bins in large or periodic systems; for any cell, also smaller than the
// cutoff, and any number of systems in one call.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "mlff.h"
#include "simd.hpp"

namespace mlff {

using Vector3 = std::array<double, 3>;

enum class Status : int {
  ok = MLFF_OK,
  bad_position = MLFF_BAD_POSITION,   // where: atom
  coinciding = MLFF_COINCIDING,       // where: atom, other: atom
  bad_number = MLFF_UNKNOWN_ELEMENT,  // where: atom
  bad_cell = MLFF_BAD_CELL,           // where: system
  bad_batch = MLFF_BAD_BATCH,         // where: atom
  out_of_memory = MLFF_OUT_OF_MEMORY,
  too_close = MLFF_TOO_CLOSE,  // where: atom, other: atom
};

struct Failure {
  Status status = Status::ok;
  int64_t where = 0, other = 0;
  double distance = 0, shortest = 0;  // of atoms too close, A
};

// Systems of more atoms than this are searched by bins.
constexpr int64_t ALL_PAIRS_LIMIT = 160;
// Coordinates beyond this (A) are an error: no digits are left for distances.
constexpr double FARTHEST = 1e9;
// A cell that needs more images than this along one axis is too flat.
constexpr double MOST_IMAGES = 1000;

inline Vector3 cross(const Vector3& a, const Vector3& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}
inline double dot(const Vector3& a, const Vector3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// The cell of one system. Axes that are not periodic get unit vectors perpendicular to the periodic ones.
struct Lattice {
  std::array<Vector3, 3> cell, inverse;  // rows; fractional coordinate k of x is dot(x, inverse[k])
  std::array<bool, 3> periodic;

  // False where the vectors along periodic axes span no volume.
  template <class Number>
  bool set_cell(const Number* given, const uint8_t* pbc) {
    int fixed = 0;
    for (int k = 0; k < 3; ++k) {
      periodic[k] = pbc && pbc[k];
      for (int x = 0; x < 3; ++x) cell[k][x] = periodic[k] ? double(given[3 * k + x]) : 0.0;
      fixed += periodic[k];
    }
    if (fixed == 0) {
      cell = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
    } else if (fixed == 1) {
      const int a = periodic[0] ? 0 : periodic[1] ? 1 : 2;
      // The Cartesian axis with the smallest component of the given vector is independent of it.
      int least = 0;
      for (int x = 1; x < 3; ++x)
        if (std::abs(cell[a][x]) < std::abs(cell[a][least])) least = x;
      Vector3 unit{0, 0, 0};
      unit[least] = 1;
      cell[(a + 1) % 3] = normalized(cross(cell[a], unit));
      cell[(a + 2) % 3] = normalized(cross(cell[a], cell[(a + 1) % 3]));
    } else if (fixed == 2) {
      const int a = !periodic[0] ? 0 : !periodic[1] ? 1 : 2;
      cell[a] = normalized(cross(cell[(a + 1) % 3], cell[(a + 2) % 3]));
    }
    const double volume = dot(cell[0], cross(cell[1], cell[2]));
    if (!(std::abs(volume) > 1e-12) || !std::isfinite(volume)) return false;
    for (int k = 0; k < 3; ++k) {
      inverse[k] = cross(cell[(k + 1) % 3], cell[(k + 2) % 3]);
      for (double& x : inverse[k]) x /= volume;
    }
    return true;
  }

 private:
  static Vector3 normalized(Vector3 a) {
    const double norm = std::sqrt(dot(a, a));
    for (double& x : a) x /= norm;
    return a;
  }
};

// The bins of one system.
struct Bins : Lattice {
  std::array<int, 3> count, reach;  // bins along each axis; how many bins apart neighbors can be
  Vector3 low, length;              // range of the fractional coordinates
  std::vector<int32_t> start;       // first atom of each bin, and the number of atoms at the end

  // Bins for n atoms with fractional coordinates in [low, high].
  bool divide(int64_t n, const Vector3& lowest, const Vector3& highest, double cutoff) {
    double total = 1;
    std::array<double, 3> wanted;
    for (int k = 0; k < 3; ++k) {
      low[k] = periodic[k] ? 0 : lowest[k];
      length[k] = periodic[k] ? 1 : std::max(highest[k] - lowest[k], 1e-9);
      const double height = length[k] / std::sqrt(dot(inverse[k], inverse[k]));
      wanted[k] = std::max(1.0, std::floor(height / cutoff));
      total *= wanted[k];
    }
    // Limit the number of bins, also if the atoms are far apart.
    const double most = 2.0 * n + 64;
    while (total > most) {
      const int largest = int(std::max_element(wanted.begin(), wanted.end()) - wanted.begin());
      total /= wanted[largest];
      wanted[largest] = std::max(1.0, std::floor(wanted[largest] / 2));
      total *= wanted[largest];
    }
    for (int k = 0; k < 3; ++k) {
      count[k] = int(wanted[k]);
      const double width = length[k] / std::sqrt(dot(inverse[k], inverse[k])) / count[k];
      const double bins = periodic[k] ? std::ceil(cutoff / width) : 1;
      if (!(bins <= MOST_IMAGES)) return false;
      reach[k] = int(bins);
    }
    return true;
  }

  int bin_along(int k, double fraction) const {
    const int bin = int((fraction - low[k]) / length[k] * count[k]);
    return std::min(std::max(bin, 0), count[k] - 1);
  }
};

// All atoms of a call, ordered so that atoms close in space are close in memory.
struct Atoms {
  int64_t n_atoms = 0, n_systems = 0;
  bool periodic = false;
  std::vector<int64_t> first;                 // [systems + 1] first atom of each system
  std::vector<int32_t> order;                 // [atoms] internal -> given index
  std::vector<int32_t> system;                // [atoms]
  std::vector<int32_t> bin;                   // [atoms] bin within the system; -1: all pairs
  std::vector<std::array<Real, 3>> position;  // [atoms] as given
  std::vector<Vector3> wrapped;               // [atoms] inside the cell; binned systems only
  std::vector<std::array<int32_t, 3>> whole;  // [atoms] lattice vectors subtracted by wrapping
  std::vector<Bins> bins;                     // of the binned systems
  std::vector<int32_t> bins_of;               // [systems] index into bins, or -1

  // Checks the input and orders the atoms. Given arrays: positions [n, 3], batch [n] counting from `base`, cell [b, 3,
  // 3] or null, pbc [b, 3].
  Failure set(int64_t n, int64_t systems, const Real* positions, const int64_t* batch, int64_t base, const Real* cell,
              const uint8_t* pbc, double cutoff) {
    n_atoms = n;
    n_systems = systems;
    periodic = false;
    first.assign(systems + 1, 0);
    for (int64_t atom = 0; atom < n; ++atom) {
      for (int x = 0; x < 3; ++x)
        if (!(std::abs(double(positions[3 * atom + x])) < FARTHEST)) return {Status::bad_position, atom};
      const int64_t b = batch[atom] - base;
      if (b < 0 || b >= systems || (atom && batch[atom] < batch[atom - 1])) return {Status::bad_batch, atom};
      ++first[b + 1];
    }
    for (int64_t b = 0; b < systems; ++b) first[b + 1] += first[b];
    order.resize(n);
    system.resize(n);
    bin.resize(n);
    position.resize(n);
    bins_of.assign(systems, -1);
    size_t used = 0;
    for (int64_t b = 0; b < systems; ++b) {
      const uint8_t* along = cell && pbc ? pbc + 3 * b : nullptr;
      const bool repeats = along && (along[0] || along[1] || along[2]);
      periodic = periodic || repeats;
      if (!repeats && first[b + 1] - first[b] <= ALL_PAIRS_LIMIT) {
        for (int64_t atom = first[b]; atom < first[b + 1]; ++atom) {
          order[atom] = int32_t(atom);
          system[atom] = int32_t(b);
          bin[atom] = -1;
        }
        continue;
      }
      // Cells of systems without atoms are checked too.
      if (bins.size() <= used) bins.emplace_back();
      bins_of[b] = int32_t(used);
      if (!sort_into(bins[used++], b, positions, repeats ? cell + 9 * b : nullptr, along, cutoff))
        return {Status::bad_cell, b};
    }
    for (int64_t atom = 0; atom < n; ++atom)
      for (int x = 0; x < 3; ++x) position[atom][x] = positions[3 * int64_t(order[atom]) + x];
    return {};
  }

  // Atoms in the given order, whose pairs are given too: own atoms of one system, and ghosts after them.
  void set_part(int64_t own, int64_t ghosts) {
    n_atoms = own;
    n_systems = 1;
    periodic = false;
    first = {0, own};
    order.resize(own + ghosts);
    std::iota(order.begin(), order.end(), 0);
    system.assign(own, 0);
  }

  // visit(other, vector [3], null) for every neighbor of `atom` among the atoms [from, to), without periodicity.
  template <class Visit>
  void neighbors_all_pairs(int64_t atom, int64_t from, int64_t to, Real cutoff2, Visit visit) const {
    const auto here = position[atom];
    for (int64_t other = from; other < to; ++other) {
      const std::array<Real, 3> r = {position[other][0] - here[0], position[other][1] - here[1],
                                     position[other][2] - here[2]};
      if (r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < cutoff2 && other != atom) visit(other, r, nullptr);
    }
  }

  template <class Visit>
  void neighbors_by_bins(int64_t atom, Real cutoff2, Visit visit) const {
    const Bins& grid = bins[bins_of[system[atom]]];
    const int64_t origin = first[system[atom]];
    const int own[3] = {bin[atom] / (grid.count[1] * grid.count[2]), bin[atom] / grid.count[2] % grid.count[1],
                        bin[atom] % grid.count[2]};
    int offset[3], at[3], image[3];
    for (offset[0] = -grid.reach[0]; offset[0] <= grid.reach[0]; ++offset[0]) {
      if (!step(grid, 0, own, offset, at, image)) continue;
      for (offset[1] = -grid.reach[1]; offset[1] <= grid.reach[1]; ++offset[1]) {
        if (!step(grid, 1, own, offset, at, image)) continue;
        for (offset[2] = -grid.reach[2]; offset[2] <= grid.reach[2]; ++offset[2]) {
          if (!step(grid, 2, own, offset, at, image)) continue;
          const int there = (at[0] * grid.count[1] + at[1]) * grid.count[2] + at[2];
          Vector3 move;
          for (int x = 0; x < 3; ++x)
            move[x] =
                image[0] * grid.cell[0][x] + image[1] * grid.cell[1][x] + image[2] * grid.cell[2][x] - wrapped[atom][x];
          const bool same_cell = !image[0] && !image[1] && !image[2];
          for (int64_t other = origin + grid.start[there]; other < origin + grid.start[there + 1]; ++other) {
            const std::array<Real, 3> r = {Real(wrapped[other][0] + move[0]), Real(wrapped[other][1] + move[1]),
                                           Real(wrapped[other][2] + move[2])};
            if (!(r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < cutoff2) || (other == atom && same_cell)) continue;
            visit(other, r, image);
          }
        }
      }
    }
  }

  // visit(other, vector [3], image [3] or null) for all neighbors; image: lattice vectors between wrapped positions.
  template <class Visit>
  void neighbors(int64_t atom, Real cutoff2, Visit visit) const {
    if (bin[atom] < 0)
      neighbors_all_pairs(atom, first[system[atom]], first[system[atom] + 1], cutoff2, visit);
    else
      neighbors_by_bins(atom, cutoff2, visit);
  }

 private:
  static bool step(const Bins& grid, int k, const int* own, const int* offset, int* at, int* image) {
    const int raw = own[k] + offset[k];
    if (!grid.periodic[k]) {
      at[k] = raw;
      image[k] = 0;
      return raw >= 0 && raw < grid.count[k];
    }
    image[k] = raw >= 0 ? raw / grid.count[k] : -((grid.count[k] - 1 - raw) / grid.count[k]);
    at[k] = raw - image[k] * grid.count[k];
    return true;
  }

  std::vector<Vector3> given_wrapped;
  std::vector<std::array<int32_t, 3>> given_whole;
  std::vector<int32_t> given_bin;

  bool sort_into(Bins& grid, int64_t b, const Real* positions, const Real* cell, const uint8_t* pbc, double cutoff) {
    const int64_t origin = first[b], n = first[b + 1] - origin;
    if (!grid.set_cell(cell, cell ? pbc : nullptr)) return false;
    wrapped.resize(n_atoms);
    whole.resize(n_atoms);
    given_wrapped.resize(n);
    given_whole.resize(n);
    given_bin.resize(n);
    Vector3 lowest{1e300, 1e300, 1e300}, highest{-1e300, -1e300, -1e300};
    for (int64_t atom = 0; atom < n; ++atom) {
      Vector3 x;
      for (int k = 0; k < 3; ++k) x[k] = positions[3 * (origin + atom) + k];
      Vector3 fraction;
      for (int k = 0; k < 3; ++k) fraction[k] = dot(x, grid.inverse[k]);
      for (int k = 0; k < 3; ++k) {
        const double turns = grid.periodic[k] ? std::floor(fraction[k]) : 0;
        if (!(std::abs(turns) < 2e9)) return false;
        given_whole[atom][k] = int32_t(turns);
        for (int y = 0; y < 3; ++y) x[y] -= turns * grid.cell[k][y];
        lowest[k] = std::min(lowest[k], fraction[k]);
        highest[k] = std::max(highest[k], fraction[k]);
      }
      given_wrapped[atom] = x;
    }
    if (!grid.divide(n, lowest, highest, cutoff)) return false;
    const int total = grid.count[0] * grid.count[1] * grid.count[2];
    grid.start.assign(total + 1, 0);
    for (int64_t atom = 0; atom < n; ++atom) {
      int index = 0;
      for (int k = 0; k < 3; ++k) {
        index = index * grid.count[k] + grid.bin_along(k, dot(given_wrapped[atom], grid.inverse[k]));
      }
      given_bin[atom] = index;
      ++grid.start[index + 1];
    }
    for (int index = 0; index < total; ++index) grid.start[index + 1] += grid.start[index];
    // Counting sort: filling a bin moves its start to the start of the next bin; undone below.
    for (int64_t atom = 0; atom < n; ++atom) {
      const int64_t to = origin + grid.start[given_bin[atom]]++;
      order[to] = int32_t(origin + atom);
      system[to] = int32_t(b);
      bin[to] = given_bin[atom];
      wrapped[to] = given_wrapped[atom];
      whole[to] = given_whole[atom];
    }
    for (int index = total; index > 0; --index) grid.start[index] = grid.start[index - 1];
    grid.start[0] = 0;
    return true;
  }
};

}  // namespace mlff
