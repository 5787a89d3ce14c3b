// The short-range wall of a pair of atoms; student/wall.py has the reasons.
//
// A pair of elements has a distance R where its wall begins. Nearer, with x = d/R, t = 1 - x and s = min(1, t/rest),
// the network gets the distance d + R (t - rest (s - s^3 + s^4/2)), and the repulsion S t^3 / x is added to its energy.
#pragma once
#include <algorithm>

#include "simd.hpp"

namespace mlff {

// Of a pair of elements: R (A) and S (eV).
struct Wall {
  Real end, strength;
};

// Of a pair of atoms; as initialized, beyond the wall.
struct Contact {
  double seen;  // what the network gets instead of the distance, A
  double seen_slope = 1;
  double repulsion = 0;  // eV
  double repulsion_slope = 0;
};

// At a distance d < wall.end. In double also where Real is float: few pairs are that close, and the terms of t cancel.
inline Contact contact(const Wall& wall, double d, double rest) {
  const double end = wall.end, strength = wall.strength;
  const double x = d / end, t = 1 - x, s = std::min(1.0, t / rest);
  Contact found;
  found.seen = d + end * (t - rest * (s - s * s * s * (1 - 0.5 * s)));
  found.seen_slope = 1 - s * s * (3 - 2 * s);
  found.repulsion = strength * t * t * t / x;
  found.repulsion_slope = -strength / end * t * t * (1 + 2 * x) / (x * x);
  return found;
}

}  // namespace mlff
