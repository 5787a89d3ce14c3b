// C = A B for few rows and a constant B: B is packed once into panels that stream through the cache in order, and a
// tile of C stays in registers while k runs (Goto and van de Geijn 2008, without the packing of A that large products
// need).
#pragma once
#include <vector>

#include "simd.hpp"

namespace mlff {

// Vectors per panel for n columns, the widest that divides n and leaves registers for enough rows.
constexpr int panel_vectors(int n) {
  constexpr int widest = VECTOR_REGISTERS == 32 ? 6 : 3;
  const int vectors = n / LANES;
  // 4 (2) first: tiles of 6 x 4 (6 x 2) need the fewest loads for each multiplication.
  constexpr int best = VECTOR_REGISTERS == 32 ? 4 : 2;
  if (vectors % best == 0) return best;
  for (int width = widest; width > 1; --width)
    if (vectors % width == 0) return width;
  return 1;
}

// Rows of a register tile that fit beside `vectors` vectors of B and one of A.
constexpr int tile_rows(int vectors) {
  const int rows = (VECTOR_REGISTERS - 2 - vectors) / vectors;
  return rows > 8 ? 8 : rows;
}

// A matrix [K, N] packed in panels of panel_vectors(UNIT) vectors. N is a multiple of UNIT, so that a product can use
// only the first columns or the first rows.
template <int K, int N, int UNIT = N>
struct Packed {
  static constexpr int VECTORS = panel_vectors(UNIT), WIDTH = VECTORS * LANES, DEPTH = K;
  static_assert(N % WIDTH == 0, "columns must fill whole panels");
  const Real* data = nullptr;
  static constexpr size_t SIZE = size_t(K) * N;

  // element(k, n) gives the entries.
  template <class Element>
  void pack(Real* to, Element element) {
    data = to;
    for (int first = 0; first < N; first += WIDTH)
      for (int k = 0; k < K; ++k)
        for (int column = 0; column < WIDTH; ++column) *to++ = element(k, first + column);
  }
};

enum class Start { zero, bias, accumulate };

template <int VECTORS, int ROWS, Start START>
inline void multiply_tile(const Real* a, int lda, int depth, const Real* panel, const Real* bias, Real* c, int ldc) {
  Vec tile[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) {
      if constexpr (START == Start::zero) tile[row][v] = Vec{};
      if constexpr (START == Start::bias) tile[row][v] = load(bias + v * LANES);
      if constexpr (START == Start::accumulate) tile[row][v] = load(c + row * ldc + v * LANES);
    }
  for (int k = 0; k < depth; ++k) {
    Vec b[VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) b[v] = load(panel + (k * VECTORS + v) * LANES);
#pragma GCC unroll 8
    for (int row = 0; row < ROWS; ++row) {
      const Vec entry = splat(a[row * lda + k]);
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) tile[row][v] += entry * b[v];
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < ROWS; ++row)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) store(c + row * ldc + v * LANES, tile[row][v]);
}

// A tile of `rows` <= ROWS rows.
template <int VECTORS, int ROWS, Start START>
inline void multiply_rows(int rows, const Real* a, int lda, int depth, const Real* panel, const Real* bias, Real* c,
                          int ldc) {
  if (rows == ROWS) {
    multiply_tile<VECTORS, ROWS, START>(a, lda, depth, panel, bias, c, ldc);
  } else if constexpr (ROWS > 1) {
    multiply_rows<VECTORS, ROWS - 1, START>(rows, a, lda, depth, panel, bias, c, ldc);
  }
}

// C [rows, columns] = A [rows, depth] B, plus nothing, a bias per column, or C, as START says.
template <Start START, int K, int N, int UNIT>
inline void multiply(const Packed<K, N, UNIT>& b, const Real* a, int lda, int rows, const Real* bias, Real* c, int ldc,
                     int columns = N, int depth = K) {
  constexpr int VECTORS = Packed<K, N, UNIT>::VECTORS, WIDTH = Packed<K, N, UNIT>::WIDTH;
  constexpr int ROWS = tile_rows(VECTORS);
  const int tiles = (rows + ROWS - 1) / ROWS;
  for (int first = 0; first < columns; first += WIDTH) {
    const Real* panel = b.data + size_t(first) * K;
    int row = 0;
    for (int tile = 0; tile < tiles; ++tile) {
      // Tiles of nearly equal height: a last tile of one row would wait for the latency of its additions.
      const int height = (rows - row + tiles - tile - 1) / (tiles - tile);
      multiply_rows<VECTORS, ROWS, START>(height, a + size_t(row) * lda, lda, depth, panel,
                                          START == Start::bias ? bias + first : nullptr, c + size_t(row) * ldc + first,
                                          ldc);
      row += height;
    }
  }
}

}  // namespace mlff
