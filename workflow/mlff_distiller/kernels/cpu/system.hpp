// One system as the C interface gets it: checked, and moved in double so that Real keeps its digits for distances, as
// systems/boxes.py does for the calculator.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "painn.hpp"
#include "words.hpp"

namespace mlff {

// The limits of systems/boxes.py and potentials/checks.py, A.
constexpr double MAX_EXTENT = 1e4, MIN_THICKNESS = 0.5;
constexpr double MOST_IMAGES_IN_ALL = 50000;

// MLFF_OK where `z` is an element that the student learned, or any that it has numbers for; messages call the atom `name`.
inline int check_element(const Network& net, int z, int64_t name, bool any_element, Message& message) {
  const auto which = static_cast<long long>(name);
  if (z < 1 || z >= net.n_elements) {
    message.say("atom %lld has the atomic number %d; known elements are 1 to %d", which, z, net.n_elements - 1);
    return MLFF_UNKNOWN_ELEMENT;
  }
  if (net.knows_limits && !any_element && !net.learned[z]) {
    std::string known;
    for (int k = 0; k < net.n_elements; ++k)
      if (net.learned[k]) known += (known.empty() ? "" : ", ") + std::to_string(k);
    message.say("atom %lld has the atomic number %d, which the student never learned: it knows %s. Take one that was "
                "trained on that element, or insist on meaningless numbers with mlff_allow(model, MLFF_ALLOW_ELEMENTS)",
                which, z, known.c_str());
    return MLFF_UNKNOWN_ELEMENT;
  }
  return MLFF_OK;
}

class GivenSystem {
 public:
  std::vector<int64_t> numbers, batch;
  std::vector<Real> positions;
  Real cell[9];
  uint8_t pbc[3];
  bool repeats;

  // MLFF_OK, or another code and `message`.
  int set(const Network& net, int64_t n, const int32_t* given_numbers, const double* given, const double* given_cell,
          const int* periodic, bool any_element, Message& message) {
    if (const int code = set_numbers(net, n, given_numbers, any_element, message)) return code;
    if (const int code = set_cell(net, given_cell, periodic, message)) return code;
    return set_positions(n, given, message);
  }

 private:
  Lattice lattice;
  std::vector<Vector3> moved;

  int set_numbers(const Network& net, int64_t n, const int32_t* given, bool any_element, Message& message) {
    numbers.resize(n);
    batch.assign(n, 0);
    for (int64_t atom = 0; atom < n; ++atom) {
      if (const int code = check_element(net, given[atom], atom, any_element, message)) return code;
      numbers[atom] = given[atom];
    }
    return MLFF_OK;
  }

  int set_cell(const Network& net, const double* given, const int* periodic, Message& message) {
    repeats = false;
    for (int k = 0; k < 3; ++k) {
      pbc[k] = periodic ? periodic[k] != 0 : given != nullptr;
      repeats = repeats || pbc[k];
    }
    if (!repeats) return MLFF_OK;
    if (!given) {
      message.say("the system is periodic, but there is no cell; give the lattice vectors");
      return MLFF_BAD_CELL;
    }
    for (int k = 0; k < 3; ++k) {
      const double* vector = given + 3 * k;
      if (!pbc[k] || std::isfinite(vector[0] + vector[1] + vector[2])) continue;
      message.say("lattice vector %c is %s: not finite; has the simulation blown up?", 'a' + k, listed(vector).c_str());
      return MLFF_BAD_CELL;
    }
    double images = 1;
    const bool spans = lattice.set_cell(given, pbc);
    for (int k = 0; k < 3; ++k) {
      const double* vector = given + 3 * k;
      for (int x = 0; x < 3; ++x) cell[3 * k + x] = pbc[k] ? Real(vector[x]) : Real(0);
      if (!pbc[k]) continue;
      const double length = std::sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]);
      if (!(length <= MAX_EXTENT)) {
        message.say("lattice vector %c is %s, longer than %g A", 'a' + k, listed(vector).c_str(), MAX_EXTENT);
        return MLFF_BAD_CELL;
      }
      const double thickness = spans ? 1 / std::sqrt(dot(lattice.inverse[k], lattice.inverse[k])) : 0;
      if (!(thickness >= MIN_THICKNESS)) {
        message.say("periodic along %c, but the cell spans no volume, or is thinner than %g A; set the lattice vectors, or "
                    "do not let it repeat along %c", 'a' + k, MIN_THICKNESS, 'a' + k);
        return MLFF_BAD_CELL;
      }
      images *= 2 * std::ceil(net.cutoff / thickness) + 1;
    }
    if (images > MOST_IMAGES_IN_ALL) {
      message.say("the cell is too small for the cutoff of %g A", net.cutoff);
      return MLFF_BAD_CELL;
    }
    return MLFF_OK;
  }

  int set_positions(int64_t n, const double* given, Message& message) {
    moved.resize(n);
    Vector3 average{0, 0, 0};
    for (int64_t atom = 0; atom < n; ++atom) {
      Vector3& x = moved[atom];
      for (int k = 0; k < 3; ++k) x[k] = given[3 * atom + k];
      if (!(std::abs(x[0]) < FARTHEST && std::abs(x[1]) < FARTHEST && std::abs(x[2]) < FARTHEST)) {
        explain({Status::bad_position, atom}, given + 3 * atom, message);
        return MLFF_BAD_POSITION;
      }
      if (repeats) wrap(x);
      for (int k = 0; k < 3; ++k) average[k] += x[k] / double(n);
    }
    if (repeats) average = along_open_axes(average);
    positions.resize(3 * n);
    for (int64_t atom = 0; atom < n; ++atom)
      for (int k = 0; k < 3; ++k) {
        const double x = moved[atom][k] - average[k];
        // Wrapped atoms lie in the cell, which may be longer than the limit across.
        if (!(std::abs(x) < MAX_EXTENT)) {
          message.say("atom %lld is %.3g A from the center of its system: positions so far apart (limit %g A) keep no digits "
                      "for distances. Put fragments that do not interact into systems of their own",
                      static_cast<long long>(atom), std::abs(x), MAX_EXTENT);
          return MLFF_TOO_FAR;
        }
        positions[3 * atom + k] = Real(x);
      }
    return MLFF_OK;
  }

  // Into the cell along periodic axes.
  void wrap(Vector3& x) const {
    double whole[3];
    for (int k = 0; k < 3; ++k) whole[k] = lattice.periodic[k] ? std::floor(dot(x, lattice.inverse[k])) : 0;
    for (int k = 0; k < 3; ++k)
      for (int y = 0; y < 3; ++y) x[y] -= whole[k] * lattice.cell[k][y];
  }

  // The part of `x` along axes that are not periodic.
  Vector3 along_open_axes(const Vector3& x) const {
    Vector3 part{0, 0, 0};
    for (int k = 0; k < 3; ++k) {
      const double fraction = lattice.periodic[k] ? 0 : dot(x, lattice.inverse[k]);
      for (int y = 0; y < 3; ++y) part[y] += fraction * lattice.cell[k][y];
    }
    return part;
  }
};

}  // namespace mlff
