// Vectors of Real as wide as the target's registers, with the vector extensions of GCC and Clang: compiler flags decide
// whether this source becomes AVX-512, AVX2, NEON or SSE code.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#ifndef MLFF_REAL
#error "compile with -DMLFF_REAL=float or -DMLFF_REAL=double"
#endif

namespace mlff {

using Real = MLFF_REAL;

#if defined(MLFF_SCALAR)
// One number per vector, for tests of processors without vector units.
constexpr int VECTOR_BYTES = sizeof(Real), VECTOR_REGISTERS = 16;
#elif defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, VECTOR_REGISTERS = 32;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, VECTOR_REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16, VECTOR_REGISTERS = 32;
#else
constexpr int VECTOR_BYTES = 16, VECTOR_REGISTERS = 16;
#endif

constexpr int LANES = VECTOR_BYTES / sizeof(Real);
constexpr int ALIGNMENT = 64;

typedef Real Vec __attribute__((vector_size(VECTOR_BYTES), may_alias));
// An integer as wide as Real, for the exponent bits.
using Int = std::conditional_t<sizeof(Real) == 4, uint32_t, uint64_t>;
typedef Int IntVec __attribute__((vector_size(VECTOR_BYTES)));

constexpr int round_up(int n, int step) { return (n + step - 1) / step * step; }

inline Vec splat(Real x) { return x - Vec{}; }
// Addresses must be aligned to whole vectors; all rows are padded to whole vectors.
inline Vec load(const Real* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(Real* p, Vec x) { *reinterpret_cast<Vec*>(p) = x; }

inline Real sum(Vec x) {
  Real total = 0;
  for (int lane = 0; lane < LANES; ++lane) total += x[lane];
  return total;
}

// exp(x): x = n ln 2 + r with |r| <= ln 2 / 2, then the Taylor series of exp(r), accurate to about the last bit.
// Arguments are clamped so that the result is a normal number; NaN stays NaN.
inline Vec exp(Vec x) {
  constexpr bool single = sizeof(Real) == 4;
  constexpr Real low = single ? Real(-87) : Real(-708), high = single ? Real(88) : Real(709);
  constexpr Real log2e = Real(1.4426950408889634);
  // ln 2 in two parts: n times the first is exact.
  constexpr Real ln2_head = single ? Real(0.693359375) : Real(0.693147180369123816490);
  constexpr Real ln2_tail = single ? Real(-2.12194440e-4) : Real(1.90821492927058770002e-10);
  // Adding 1.5 * 2^(mantissa bits) rounds to a whole number and leaves it in the low bits.
  constexpr Real magic = single ? Real(12582912) : Real(6755399441055744);
  constexpr int mantissa = single ? 23 : 52;
  x = x < low ? splat(low) : x;
  x = x > high ? splat(high) : x;
  const Vec shifted = x * log2e + magic;
  const Vec n = shifted - magic;
  const Vec r = (x - n * ln2_head) - n * ln2_tail;
  constexpr int degree = single ? 7 : 13;
  constexpr Real inverse_factorial[14] = {Real(1),
                                          Real(1),
                                          Real(1) / 2,
                                          Real(1) / 6,
                                          Real(1) / 24,
                                          Real(1) / 120,
                                          Real(1) / 720,
                                          Real(1) / 5040,
                                          Real(1) / 40320,
                                          Real(1) / 362880,
                                          Real(1) / 3628800,
                                          Real(1) / 39916800,
                                          Real(1) / 479001600,
                                          Real(1) / 6227020800};
  Vec series = splat(inverse_factorial[degree]);
#pragma GCC unroll 16
  for (int power = degree - 1; power >= 0; --power) series = series * r + inverse_factorial[power];
  const IntVec bits = reinterpret_cast<IntVec>(series) + (reinterpret_cast<IntVec>(shifted) << mantissa);
  return reinterpret_cast<Vec>(bits);
}

// silu(x) = x / (1 + exp(-x)) and its derivative.
inline void silu(Vec x, Vec& value, Vec& slope) {
  const Vec gate = Real(1) / (Real(1) + exp(-x));
  value = x * gate;
  slope = gate + value * (Real(1) - gate);
}

inline Vec square_root(Vec x) {
  Vec root;
  for (int lane = 0; lane < LANES; ++lane) root[lane] = std::sqrt(x[lane]);
  return root;
}

}  // namespace mlff
