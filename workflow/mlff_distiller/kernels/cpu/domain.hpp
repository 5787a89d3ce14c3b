// The errors to expect of a student, and whether an atom is unlike any that it was trained on; the equations are those of
// student/domain.py.
#pragma once
#include <cmath>
#include <limits>
#include <vector>

#include "weights.hpp"

namespace mlff {

class Domain {
 public:
  const int n_elements;  // 0: the student's file says nothing of its errors
  const double limit;    // distance beyond which an atom is unlike any trained

  explicit Domain(const Weights& given)
      : n_elements(int(given.header.domain_elements)),
        limit(given.header.domain_limit),
        energy_scale(given.header.energy_scale),
        force_scale(given.header.force_scale),
        force_power(given.header.force_power),
        numbers(given.domain_numbers, given.domain_numbers + n_elements),
        atoms(given.domain_atoms, given.domain_atoms + size_t(n_elements) * SIZE * SIZE),
        systems(given.domain_systems, given.domain_systems + (n_elements ? SIZE * SIZE : 0)) {}

  // Of an atom from what its element was in training, by the values of its last layer [MLFF_READOUT]; infinite for elements
  // that were not trained on.
  double distance(int number, const Real* values) const {
    for (int k = 0; k < n_elements; ++k)
      if (numbers[k] == number) return length(atoms.data() + size_t(k) * SIZE * SIZE, values, 1);
    return std::numeric_limits<double>::infinity();
  }

  // eV/A, of a component of the force on an atom.
  double force_error(double distance) const { return force_scale * std::pow(distance, force_power); }

  // eV, of the energy of a system, by the sums over its atoms of the values of their last layers.
  double energy_error(const double* sums, int64_t n_atoms) const {
    return energy_scale * length(systems.data(), sums, double(n_atoms));
  }

 private:
  // The values of the last layer, and a 1 for its bias.
  static constexpr int SIZE = MLFF_READOUT + 1;

  double energy_scale, force_scale, force_power;
  std::vector<uint8_t> numbers;
  std::vector<double> atoms, systems;  // [elements][SIZE][SIZE] and [SIZE][SIZE], roots of inverse matrices

  // Root of the mean square of (values, last) times the matrix `root`.
  template <class Value>
  static double length(const double* root, const Value* values, double last) {
    double products[SIZE] = {};
    for (int i = 0; i < SIZE; ++i) {
      const double value = i < MLFF_READOUT ? double(values[i]) : last;
      for (int j = 0; j < SIZE; ++j) products[j] += value * root[i * SIZE + j];
    }
    double total = 0;
    for (const double product : products) total += product * product;
    return std::sqrt(total / SIZE);
  }
};

}  // namespace mlff
