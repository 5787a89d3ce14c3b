// The filters W(d) of all layers and their derivatives, as weighted sums of a few consecutive rows of a table.
//
// float: quintic B-splines on equally spaced knots that interpolate W, cutoff included. W(d) is the sum of a row of
// coefficients and five weighted rows of their differences, dW/dd the sum of the same five rows with other weights.
// These are fewer rows than the about twelve nonzero Gaussians, without an exponential per pair; the differences are
// taken in double, so they lose no digits. The energy has four continuous derivatives, and the slopes are its own.
// With 7 knots per Gaussian the relative errors are 5e-9 for values and 2e-7 for slopes, as small as rounding in float.
// double: all Gaussians and the bias, without interpolation.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "simd.hpp"

namespace mlff {

constexpr int RADIAL = MLFF_RADIAL;
constexpr bool SPLINE = sizeof(Real) == 4;
constexpr int KNOTS_PER_GAUSSIAN = 7;
constexpr int INTERVALS = KNOTS_PER_GAUSSIAN * (RADIAL - 1);
// WINDOW: rows that are weighted and added for a filter. TABLE_ROWS: rows of the table of a layer. Spline tables have
// first one row of coefficients per interval, then the differences.
constexpr int WINDOW = SPLINE ? 5 : RADIAL + 1;
constexpr int FIRST_WINDOW = SPLINE ? INTERVALS : 0;
constexpr int TABLE_ROWS = FIRST_WINDOW + (SPLINE ? INTERVALS + 4 : RADIAL + 1);

// The radial functions of the student: Gaussians, each one spacing wide, and the cosine cutoff.
struct RadialBasis {
  std::array<double, RADIAL> centers;
  double cutoff, exponent;

  // Gaussians times the cutoff function, and last the cutoff function alone (for the bias), with their slopes. Smooth
  // also below 0 and beyond the cutoff, as the splines need.
  template <class T>
  void operator()(double d, T* value, T* slope) const {
    const double turn = M_PI / cutoff;
    const double envelope = 0.5 * (std::cos(turn * d) + 1), envelope_slope = -0.5 * turn * std::sin(turn * d);
    for (int k = 0; k < RADIAL; ++k) {
      const double offset = d - centers[k], gaussian = std::exp(exponent * offset * offset);
      value[k] = T(gaussian * envelope);
      slope[k] = T(gaussian * (2 * exponent * offset * envelope + envelope_slope));
    }
    value[RADIAL] = T(envelope);
    slope[RADIAL] = T(envelope_slope);
  }
};

// A quintic spline with coefficients c at t in [0, 1] behind knot i is c_i + sum value_k (c_{i-1+k} - c_{i-2+k}), and
// its derivative by t is sum slope_k (c_{i-1+k} - c_{i-2+k}), k = 0..4: the slopes are the quartic B-splines.
template <class T>
inline void spline_weights(T t, T* value, T* slope) {
  const T r = 1 - t;
  // Cumulative sums of the quintic B-splines, each expanded about the nearer knot.
  const auto fifth = [](T x) { return x * x * x * x * x / 120; };
  const auto fourth = [](T x) { return (1 + x * (5 + x * (10 + x * (10 + x * (5 - 4 * x))))) / 120; };
  value[0] = -fifth(r);
  value[1] = -fourth(r);
  value[2] = (27 + t * (55 + t * (30 + t * (-10 + t * (-15 + 6 * t))))) / 120;
  value[3] = fourth(t);
  value[4] = fifth(t);
  slope[0] = r * r * r * r / 24;
  slope[1] = (1 + r * (4 + r * (6 + r * (4 - 4 * r)))) / 24;
  slope[2] = (11 + t * (12 + t * (-6 + t * (-12 + 6 * t)))) / 24;
  slope[3] = (1 + t * (4 + t * (6 + t * (4 - 4 * t)))) / 24;
  slope[4] = t * t * t * t / 24;
}

// Coefficients of the quintic spline through samples at consecutive knots, in place: columns [n, width], row by row.
// The band (1, 26, 66, 26, 1)/120 is symmetric and positive definite: LDL^T without pivots. The error from the ends is
// multiplied by less than 0.43 for each knot further in.
inline void spline_coefficients(std::vector<double>& samples, int n, int width) {
  std::vector<double> diagonal(n), below(n), second(n);  // D, and the two diagonals of L
  for (int i = 0; i < n; ++i) {
    second[i] = i >= 2 ? 1.0 / 120 / diagonal[i - 2] : 0;
    const double to_previous = 26.0 / 120 - (i >= 2 ? second[i] * diagonal[i - 2] * below[i - 1] : 0);
    below[i] = i >= 1 ? to_previous / diagonal[i - 1] : 0;
    diagonal[i] = 66.0 / 120 - (i >= 1 ? below[i] * below[i] * diagonal[i - 1] : 0) -
                  (i >= 2 ? second[i] * second[i] * diagonal[i - 2] : 0);
  }
  const auto row = [&](int i) { return samples.data() + size_t(i) * width; };
  for (int i = 1; i < n; ++i)
    for (int c = 0; c < width; ++c) row(i)[c] -= below[i] * row(i - 1)[c] + (i >= 2 ? second[i] * row(i - 2)[c] : 0);
  for (int i = n - 1; i >= 0; --i)
    for (int c = 0; c < width; ++c)
      row(i)[c] = row(i)[c] / diagonal[i] - (i + 1 < n ? below[i + 1] * row(i + 1)[c] : 0) -
                  (i + 2 < n ? second[i + 2] * row(i + 2)[c] : 0);
}

// The table of one layer, [TABLE_ROWS, width]: weight(k, column) gives the student's filter weights, the bias at k =
// RADIAL.
template <class Weight>
void fill_table(const RadialBasis& basis, int width, Weight weight, Real* table) {
  if (!SPLINE) {
    for (int k = 0; k <= RADIAL; ++k)
      for (int column = 0; column < width; ++column) table[size_t(k) * width + column] = weight(k, column);
    return;
  }
  // Additional knots on both sides, so that the error from the ends is negligible inside.
  constexpr int outside = 30;
  const int n = INTERVALS + 2 * outside + 1;
  std::vector<double> samples(size_t(n) * width, 0.0), weights(size_t(RADIAL + 1) * width);
  for (int k = 0; k <= RADIAL; ++k)
    for (int column = 0; column < width; ++column) weights[size_t(k) * width + column] = double(weight(k, column));
  double value[RADIAL + 1], slope[RADIAL + 1];
  for (int knot = 0; knot < n; ++knot) {
    basis((knot - outside) * basis.cutoff / INTERVALS, value, slope);
    for (int k = 0; k <= RADIAL; ++k)
      for (int column = 0; column < width; ++column)
        samples[size_t(knot) * width + column] += value[k] * weights[size_t(k) * width + column];
  }
  spline_coefficients(samples, n, width);
  const auto coefficient = [&](int knot, int column) { return samples[size_t(knot + outside) * width + column]; };
  for (int column = 0; column < width; ++column) {
    for (int i = 0; i < INTERVALS; ++i) table[size_t(i) * width + column] = Real(coefficient(i, column));
    for (int k = 0; k < INTERVALS + 4; ++k)
      table[size_t(FIRST_WINDOW + k) * width + column] = Real(coefficient(k - 1, column) - coefficient(k - 2, column));
  }
}

// Weights of WINDOW rows for W(d) and for dW/dd, d below the cutoff. Returns n: the rows begin at FIRST_WINDOW + n, and
// in spline tables row n is to be added to W.
inline int table_window(const RadialBasis& basis, Real d, Real* value, Real* slope) {
  if constexpr (SPLINE) {
    const Real knots = Real(INTERVALS / basis.cutoff);
    const Real at = d * knots;
    const int interval = std::min(int(at), INTERVALS - 1);
    spline_weights(at - Real(interval), value, slope);
    for (int k = 0; k < WINDOW; ++k) slope[k] *= knots;
    return interval;
  } else {
    basis(d, value, slope);
    return 0;
  }
}

}  // namespace mlff
