// Messages of any number of atoms, and what surrounds the matrix products of a layer: for batches and large systems.
//
// The neighbor matrix has a row of ``capacity`` slots per atom (index, unit vector towards the neighbor, distance). A pair
// is in both rows: sums over receivers and sums over senders are both sums over a row, in a fixed order. The search looks
// up where a pair's wall begins (student/wall.py), and the sign marks distances within it as negative: whoever reads the
// distance looks up the wall of those only.
//
// One warp takes a quarter of the features of one atom, sixteen neighbors at a time. The filters, and in the reverse pass
// their slopes, are a product of the neighbors' Gaussians and the filters' weights on the tensor cores, where both are
// split into two half-precision numbers: hi hi + hi lo + lo hi has the precision of float32. The product leaves two
// neighbors and two features of every eight with each lane, and that is how the rest is computed.
//
// Sizes come from the compiler's command line: FEATURES, GAUSSIANS, NORM_EPSILON.

#include "platform.cuh"
#include "wall.cuh"

constexpr int F = FEATURES;
constexpr int K = GAUSSIANS;
constexpr int QUARTERS = F / 32;
// Of the message kernels: atoms that one block works on at once, four warps each, as many as the registers allow on a
// multiprocessor. One block a multiprocessor: what its atoms read of their common neighbors stays in the first cache.
constexpr int FORWARD_ATOMS = 4, BACKWARD_ATOMS = 3;
constexpr int MOST_IN_TURN = 32;  // atoms that a block takes before it goes on to another part of the system
constexpr int TILE = 16;      // neighbors at a time
constexpr int NARROW = 4;     // products of eight columns that make a quarter of the features
constexpr int DEPTH = 24;     // what a product sums over: K Gaussians, the cutoff alone (for the bias), zeros
// What the message kernels read of a slot, in the order in which four lanes hold it: for each lane its rows of DEPTH / 4
// Gaussians times the cutoff, hi then lo, and the same of their derivatives.
constexpr int HALVES = 4 * DEPTH;
// The weights of eight columns as the lanes hold them: (hi, hi) and (lo, lo) of the first 16 rows, (hi, lo) of the rest.
constexpr int FRAGMENTS = 3 * 32;
static_assert(QUARTERS * 32 == F, "one warp a quarter of the features");
static_assert(K + 1 <= DEPTH, "room for the cutoff behind the Gaussians");

struct Messages {
    const int* numbers;        // [N]
    const int* neighbors;      // [N][capacity]
    const uint4* coefficients;  // [N][capacity][HALVES / 8]
    const float4* geometry;    // [N][capacity]
    const int* counts;         // [N]
    const uint2* filters;      // [QUARTERS][3][NARROW][FRAGMENTS] of this layer of the network
    const float* phi;          // [N][3][F]; in the first layer [elements][3][F]
    const float* v_in;         // [N][3][F]
    float* s;                  // [N][F], the message is added; in the first layer set from:
    const float* embedding;    // [elements][F]
    float* v_out;              // [N][3][F]
    const float* gs;           // [N][F]
    const float* gv;           // [N][3][F]
    float* g_phi;              // [N][3][F]
    float* gv_out;             // [N][3][F]
    float* pull;               // [QUARTERS][N][capacity][4] dE/dd and dE/du of each pair, summed over a quarter
    int n_atoms;
    int capacity;
    int add;                   // add to the pulls instead of setting them
};

// The Gaussians of sixteen neighbors, or their derivatives, as the lanes hold them.
struct Gaussians {
    unsigned hi[6], lo[6];
    // From six words of this lane's first neighbor and six of its second.
    DEVICE void take(const unsigned (&low)[6], const unsigned (&high)[6]) {
#pragma unroll
        for (int i = 0; i < 3; i++) {
            hi[2 * i] = low[i];
            hi[2 * i + 1] = high[i];
            lo[2 * i] = low[3 + i];
            lo[2 * i + 1] = high[3 + i];
        }
    }
    // The filters of eight columns.
    DEVICE void times(const uint2* fragments, float (&w)[4]) const {
        const uint2* mine = fragments + threadIdx.x % 32;
        const uint2 high = mine[0], low = mine[32], rest = mine[64];
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = 0.0f;
        multiply_deep(w, lo, high);
        multiply_deep(w, hi, low);
        multiply_flat(w, lo, rest.x);
        multiply_flat(w, hi, rest.y);
        multiply_flat(w, hi, rest.x);
        multiply_deep(w, hi, high);
    }
};

// The Gaussians of this lane's two slots, and with DERIVATIVES those too; zero where there is no such neighbor.
template <bool DERIVATIVES>
DEVICE void load_gaussians(const Messages& work, const long long (&slot)[2], const bool (&there)[2], Gaussians& values,
                           Gaussians& slopes) {
    unsigned value[2][6], slope[2][6];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint4 none = {0u, 0u, 0u, 0u};
        const uint4* from = work.coefficients + slot[h] * (HALVES / 8) + threadIdx.x % 4 * 3;
        const uint4 a = there[h] ? from[0] : none, b = there[h] ? from[1] : none;
        value[h][0] = a.x;
        value[h][1] = a.y;
        value[h][2] = a.z;
        value[h][3] = a.w;
        value[h][4] = b.x;
        value[h][5] = b.y;
        if (DERIVATIVES) {
            const uint4 c = there[h] ? from[2] : none;
            slope[h][0] = b.z;
            slope[h][1] = b.w;
            slope[h][2] = c.x;
            slope[h][3] = c.y;
            slope[h][4] = c.z;
            slope[h][5] = c.w;
        }
    }
    values.take(value[0], value[1]);
    if (DERIVATIVES) slopes.take(slope[0], slope[1]);
}

// The weights of all features in shared memory.
template <int CHANNELS, int THREADS>
DEVICE void load_filters(const Messages& work, uint2* filters) {
    for (int i = threadIdx.x; i < QUARTERS * CHANNELS * NARROW * FRAGMENTS; i += THREADS) {
        const int quarter = i / (CHANNELS * NARROW * FRAGMENTS), rest = i % (CHANNELS * NARROW * FRAGMENTS);
        filters[i] = work.filters[quarter * 3 * NARROW * FRAGMENTS + rest];
    }
    __syncthreads();
}

// Halves ``values`` [2 COUNT]: lanes with the bit ``mask`` keep the second half, and get their partner's share of it.
template <int COUNT>
DEVICE void halve(float* values, int mask) {
    const bool upper = threadIdx.x & mask;
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        const float send = upper ? values[i] : values[i + COUNT], keep = upper ? values[i + COUNT] : values[i];
        values[i] = keep + __shfl_xor_sync(0xffffffffu, send, mask);
    }
}

// Sums over the eight lanes that hold other neighbors of the same features. ``values`` [NARROW][2][N]; afterwards the
// first N are those of feature ``own_feature``.
template <int N>
DEVICE void sum_over_neighbors(float* values) {
    halve<4 * N>(values, 16);
    halve<2 * N>(values, 8);
    halve<N>(values, 4);
}
DEVICE int own_feature() {
    const int lane = threadIdx.x % 32, n = lane / 8, o = lane / 4 % 2;
    return threadIdx.x / 32 % QUARTERS * 32 + n / 2 * 16 + lane % 4 * 4 + n % 2 * 2 + o;
}

// Runs ``one(i)`` for every atom of this warp. Blocks work side by side on neighboring parts of the system, so that what
// they read stays in the second cache.
template <int ATOMS, typename One>
DEVICE void for_each_atom(int n_atoms, One one) {
    const int blocks = gridDim.x;
    const int even = (n_atoms + 4 * blocks - 1) / (4 * blocks);
    const int in_turn = min(MOST_IN_TURN, (even + ATOMS - 1) / ATOMS * ATOMS);
    for (int begin = int(blockIdx.x) * in_turn; begin < n_atoms; begin += blocks * in_turn) {
        const int end = min(begin + in_turn, n_atoms);
        for (int i = begin + int(threadIdx.x) / F; i < end; i += ATOMS) one(i);
    }
}

// Runs ``one(eights, e0)`` for the tiles of ``count`` neighbors; ``eights`` holds 1 where a tile's neighbors are all in its
// first half: the products take sixteen, but nothing else needs to be computed for the other eight.
template <int N>
struct Eights {
    static constexpr int count = N;
};
template <typename One>
DEVICE void for_each_tile(int count, One one) {
    for (int e0 = 0; e0 < count; e0 += TILE) {
        if (count - e0 > TILE / 2) {
            one(Eights<2>(), e0);
        } else {
            one(Eights<1>(), e0);
        }
    }
}

// Four features in a row: two of an even product of eight columns, two of the next. With the columns of products dealt
// out to features like this, a lane reads 16 bytes at a time.
struct Four {
    float of[4];
    DEVICE explicit Four(const float* at) {
        const float4 all = *reinterpret_cast<const float4*>(at);
        of[0] = all.x;
        of[1] = all.y;
        of[2] = all.z;
        of[3] = all.w;
    }
};

// The filters of one channel for sixteen neighbors and the eight times two columns of products n and n + 1.
DEVICE void filters_of(const Gaussians& gaussians, const uint2* fragments, int channel, int n, float (&w)[2][4]) {
    gaussians.times(fragments + (channel * NARROW + n) * FRAGMENTS, w[0]);
    gaussians.times(fragments + (channel * NARROW + n + 1) * FRAGMENTS, w[1]);
}

template <bool FIRST>
DEVICE void forward(const Messages& work) {
    constexpr int CHANNELS = FIRST ? 2 : 3;
    SHARED_ARRAY(uint2, filters, QUARTERS * CHANNELS * NARROW * FRAGMENTS);
    load_filters<CHANNELS, FORWARD_ATOMS * F>(work, filters);
    const int quarter = threadIdx.x / 32 % QUARTERS, lane = threadIdx.x % 32, g = lane / 4;
    const int column = quarter * 32 + lane % 4 * 4;  // the first of this lane's features
    const uint2* mine = filters + quarter * CHANNELS * NARROW * FRAGMENTS;
    for_each_atom<FORWARD_ATOMS>(work.n_atoms, [&](int i) {
        const int count = min(work.counts[i], work.capacity);
        const long long row = static_cast<long long>(i) * work.capacity;
        float sum[NARROW * 2 * 4];
#pragma unroll
        for (int q = 0; q < NARROW * 2 * 4; q++) sum[q] = 0.0f;
        for_each_tile(count, [&](auto eights, int e0) {
            constexpr int EIGHTS = decltype(eights)::count;
            const bool there[2] = {e0 + g < count, EIGHTS == 2 && e0 + g + 8 < count};
            const long long slot[2] = {row + e0 + g, row + e0 + g + 8};
            Gaussians gaussians;
            load_gaussians<false>(work, slot, there, gaussians, gaussians);
            float4 u[2];
            const float *p[2], *v[2];
#pragma unroll
            for (int h = 0; h < EIGHTS; h++) {
                const int j = there[h] ? work.neighbors[slot[h]] : i;
                u[h] = there[h] ? work.geometry[slot[h]] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                p[h] = work.phi + static_cast<long long>(FIRST ? work.numbers[j] : j) * 3 * F + column;
                v[h] = work.v_in + static_cast<long long>(j) * 3 * F + column;
            }
#pragma unroll
            for (int n = 0; n < NARROW; n += 2) {
                float w[2][4];
                float* to = sum + n * 8;
                filters_of(gaussians, mine, 0, n, w);
#pragma unroll
                for (int h = 0; h < EIGHTS; h++) {
                    const Four p_s(p[h] + 8 * n);
#pragma unroll
                    for (int q = 0; q < 4; q++) to[4 * q] += w[q / 2][2 * h + q % 2] * p_s.of[q];
                }
                filters_of(gaussians, mine, 1, n, w);
#pragma unroll
                for (int h = 0; h < EIGHTS; h++) {
                    const Four p_a(p[h] + F + 8 * n);
#pragma unroll
                    for (int q = 0; q < 4; q++) {
                        const float a = w[q / 2][2 * h + q % 2] * p_a.of[q];
                        to[4 * q + 1] += a * u[h].x;
                        to[4 * q + 2] += a * u[h].y;
                        to[4 * q + 3] += a * u[h].z;
                    }
                }
                if (!FIRST) {
                    filters_of(gaussians, mine, 2, n, w);
#pragma unroll
                    for (int h = 0; h < EIGHTS; h++) {
                        const Four p_c(p[h] + 2 * F + 8 * n);
                        const Four v0(v[h] + 8 * n), v1(v[h] + F + 8 * n), v2(v[h] + 2 * F + 8 * n);
#pragma unroll
                        for (int q = 0; q < 4; q++) {
                            const float c = w[q / 2][2 * h + q % 2] * p_c.of[q];
                            to[4 * q + 1] += c * v0.of[q];
                            to[4 * q + 2] += c * v1.of[q];
                            to[4 * q + 3] += c * v2.of[q];
                        }
                    }
                }
            }
        });
        sum_over_neighbors<4>(sum);
        const int f = own_feature();
        float* s = work.s + static_cast<long long>(i) * F + f;
        *s = (FIRST ? __ldg(work.embedding + work.numbers[i] * F + f) : *s) + sum[0];
#pragma unroll
        for (int axis = 0; axis < 3; axis++) {
            const long long at = (static_cast<long long>(i) * 3 + axis) * F + f;
            work.v_out[at] = (FIRST ? 0.0f : work.v_in[at]) + sum[1 + axis];
        }
    });
}

// The reverse, for the messages that atom j sends: their receivers are its neighbors, seen from -u.
template <bool FIRST>
DEVICE void backward(const Messages& work) {
    constexpr int CHANNELS = FIRST ? 2 : 3;
    SHARED_ARRAY(uint2, filters, QUARTERS * CHANNELS * NARROW * FRAGMENTS);
    SHARED_ARRAY(float, senders, BACKWARD_ATOMS * 6 * F);
    load_filters<CHANNELS, BACKWARD_ATOMS * F>(work, filters);
    const int quarter = threadIdx.x / 32 % QUARTERS, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int column = quarter * 32 + t * 4;
    const uint2* mine = filters + quarter * CHANNELS * NARROW * FRAGMENTS;
    float* sender = senders + threadIdx.x / 32 * 6 * 32;  // phi and v of atom j
    for_each_atom<BACKWARD_ATOMS>(work.n_atoms, [&](int j) {
        const int count = min(work.counts[j], work.capacity);
        const long long row = static_cast<long long>(j) * work.capacity;
        const long long phi_row = static_cast<long long>(FIRST ? work.numbers[j] : j) * 3 * F + quarter * 32 + lane;
        const long long v_row = static_cast<long long>(j) * 3 * F + quarter * 32 + lane;
        __syncwarp();
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) sender[c * 32 + lane] = work.phi[phi_row + c * F];
        if (!FIRST) {
#pragma unroll
            for (int axis = 0; axis < 3; axis++) sender[(3 + axis) * 32 + lane] = work.v_in[v_row + axis * F];
        }
        __syncwarp();
        float sum[NARROW * 2 * 6];  // dE/dphi [3], dE/dv [3]
#pragma unroll
        for (int q = 0; q < NARROW * 2 * 6; q++) sum[q] = 0.0f;
        for (int e0 = 0; e0 < count; e0 += TILE) {
            const bool there[2] = {e0 + g < count, e0 + g + 8 < count};
            const long long slot[2] = {row + e0 + g, row + e0 + g + 8};
            Gaussians gaussians, derivatives;
            load_gaussians<true>(work, slot, there, gaussians, derivatives);
            float4 u[2];
            const float *gs[2], *gv[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int i = there[h] ? work.neighbors[slot[h]] : j;
                u[h] = there[h] ? work.geometry[slot[h]] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                gs[h] = work.gs + static_cast<long long>(i) * F + column;
                gv[h] = work.gv + static_cast<long long>(i) * 3 * F + column;
            }
            float pull[8];  // dE/dd and dE/du of the one neighbor, then of the other
#pragma unroll
            for (int q = 0; q < 8; q++) pull[q] = 0.0f;
#pragma unroll
            for (int n = 0; n < NARROW; n += 2) {
                float w[2][4], slope[2][4];
                const float* own = sender + 8 * n + 4 * t;
                const Four s[2] = {Four(gs[0] + 8 * n), Four(gs[1] + 8 * n)};
                const Four x[2] = {Four(gv[0] + 8 * n), Four(gv[1] + 8 * n)};
                const Four y[2] = {Four(gv[0] + F + 8 * n), Four(gv[1] + F + 8 * n)};
                const Four z[2] = {Four(gv[0] + 2 * F + 8 * n), Four(gv[1] + 2 * F + 8 * n)};
                float* to = sum + n * 12;
                filters_of(gaussians, mine, 0, n, w);
                filters_of(derivatives, mine, 0, n, slope);
                const Four p_s(own);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const int h = i / 4, q = i % 4, at = 2 * h + q % 2;
                    pull[4 * h] += s[h].of[q] * slope[q / 2][at] * p_s.of[q];
                    to[6 * q] += s[h].of[q] * w[q / 2][at];
                }
                filters_of(gaussians, mine, 1, n, w);
                filters_of(derivatives, mine, 1, n, slope);
                const Four p_a(own + 32);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const int h = i / 4, q = i % 4, at = 2 * h + q % 2;
                    const float along = -(x[h].of[q] * u[h].x + y[h].of[q] * u[h].y + z[h].of[q] * u[h].z);
                    const float wp = w[q / 2][at] * p_a.of[q];
                    pull[4 * h] += along * slope[q / 2][at] * p_a.of[q];
                    pull[4 * h + 1] += wp * x[h].of[q];
                    pull[4 * h + 2] += wp * y[h].of[q];
                    pull[4 * h + 3] += wp * z[h].of[q];
                    to[6 * q + 1] += along * w[q / 2][at];
                }
                if (!FIRST) {
                    filters_of(gaussians, mine, 2, n, w);
                    filters_of(derivatives, mine, 2, n, slope);
                    const Four p_c(own + 64), v0(own + 96), v1(own + 128), v2(own + 160);
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        const int h = i / 4, q = i % 4, at = 2 * h + q % 2;
                        const float carried = x[h].of[q] * v0.of[q] + y[h].of[q] * v1.of[q] + z[h].of[q] * v2.of[q];
                        const float wc = w[q / 2][at] * p_c.of[q];
                        pull[4 * h] += carried * slope[q / 2][at] * p_c.of[q];
                        to[6 * q + 2] += carried * w[q / 2][at];
                        to[6 * q + 3] += wc * x[h].of[q];
                        to[6 * q + 4] += wc * y[h].of[q];
                        to[6 * q + 5] += wc * z[h].of[q];
                    }
                }
            }
            // Over the four lanes with the same neighbors: the upper two keep the second, the odd ones its last two sums.
            halve<4>(pull, 2);
            halve<2>(pull, 1);
            if (t & 2 ? there[1] : there[0]) {
                const long long slots = static_cast<long long>(work.n_atoms) * work.capacity;
                float* to = work.pull + (quarter * slots + (t & 2 ? slot[1] : slot[0])) * 4 + (t & 1) * 2;
                // One atomic addition per address and pass: the order is fixed, and no thread waits for memory.
                if (work.add) {
                    atomicAdd(to, pull[0]);
                    atomicAdd(to + 1, pull[1]);
                } else {
                    to[0] = pull[0];
                    to[1] = pull[1];
                }
            }
        }
        if (!FIRST) {
            sum_over_neighbors<6>(sum);
            const long long at = static_cast<long long>(j) * 3 * F + own_feature();
#pragma unroll
            for (int c = 0; c < 3; c++) {
                work.g_phi[at + c * F] = sum[c];
                work.gv_out[at + c * F] = work.gv[at + c * F] + sum[3 + c];
            }
        }
    });
}

extern "C" __global__ void __launch_bounds__(FORWARD_ATOMS * F, 1) first_forward(const __grid_constant__ Messages work) {
    forward<true>(work);
}
extern "C" __global__ void __launch_bounds__(FORWARD_ATOMS * F, 1) next_forward(const __grid_constant__ Messages work) {
    forward<false>(work);
}
extern "C" __global__ void __launch_bounds__(BACKWARD_ATOMS * F, 1) first_backward(const __grid_constant__ Messages work) {
    backward<true>(work);
}
extern "C" __global__ void __launch_bounds__(BACKWARD_ATOMS * F, 1) next_backward(const __grid_constant__ Messages work) {
    backward<false>(work);
}

// Element-wise work between the matrix products of a layer; one thread an atom and feature.
struct Update {
    float* s;            // [N][F]
    float* v;            // [N][3][F]
    const float* u_v;    // [N][3][2 F] V v, then U v
    float* input;        // [N][2 F] s, then |V v|: what the update's mlp sees
    float* dot;          // [N][F] <U v, V v>
    const float* mixing;  // [N][3 F] a_ss, a_vv, a_sv
    float* gs;           // [N][F]
    const float* gv;     // [N][3][F]; not read when last
    const float* g_input;  // [N][2 F]
    float* g_mixing;     // [N][3 F]
    float* g_u_v;        // [N][3][2 F]
    int n_atoms;
    int last;            // dE/dv' is zero
};

struct Place {
    long long n;
    int f;
    bool there;
    DEVICE explicit Place(int n_atoms) {
        const long long item = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
        n = item / F;
        f = int(item % F);
        there = n < n_atoms;
    }
};

// V v and U v to the mlp's input and their dot product.
extern "C" __global__ void norms_and_dots(const __grid_constant__ Update work) {
    const Place at(work.n_atoms);
    if (!at.there) return;
    const float* v = work.u_v + at.n * 6 * F + at.f;
    float norm = NORM_EPSILON, dot = 0.0f;
#pragma unroll
    for (int c = 0; c < 3; c++) {
        norm += v[2 * c * F] * v[2 * c * F];
        dot += v[2 * c * F] * v[(2 * c + 1) * F];
    }
    work.input[at.n * 2 * F + at.f] = work.s[at.n * F + at.f];
    work.input[at.n * 2 * F + F + at.f] = sqrtf(norm);
    work.dot[at.n * F + at.f] = dot;
}

// s and v of the update, in place.
extern "C" __global__ void apply_update(const __grid_constant__ Update work) {
    const Place at(work.n_atoms);
    if (!at.there) return;
    const float* mixing = work.mixing + at.n * 3 * F + at.f;
    work.s[at.n * F + at.f] += mixing[0] + mixing[2 * F] * work.dot[at.n * F + at.f];
    if (work.last) return;
#pragma unroll
    for (int c = 0; c < 3; c++) {
        work.v[(at.n * 3 + c) * F + at.f] += mixing[F] * work.u_v[(at.n * 6 + 2 * c + 1) * F + at.f];
    }
}

// dE/d(a_ss, a_vv, a_sv) from dE/ds' and dE/dv'.
extern "C" __global__ void mixing_gradient(const __grid_constant__ Update work) {
    const Place at(work.n_atoms);
    if (!at.there) return;
    const float gs = work.gs[at.n * F + at.f];
    float along = 0.0f;
    if (!work.last) {
#pragma unroll
        for (int c = 0; c < 3; c++) {
            along += work.gv[(at.n * 3 + c) * F + at.f] * work.u_v[(at.n * 6 + 2 * c + 1) * F + at.f];
        }
    }
    float* to = work.g_mixing + at.n * 3 * F + at.f;
    to[0] = gs;
    to[F] = along;
    to[2 * F] = gs * work.dot[at.n * F + at.f];
}

// dE/ds, in place, and dE/d(V v), dE/d(U v).
extern "C" __global__ void vector_gradient(const __grid_constant__ Update work) {
    const Place at(work.n_atoms);
    if (!at.there) return;
    const float gs = work.gs[at.n * F + at.f];
    const float* mixing = work.mixing + at.n * 3 * F + at.f;
    const float g_dot = gs * mixing[2 * F];
    const float g_norm = work.g_input[at.n * 2 * F + F + at.f] / work.input[at.n * 2 * F + F + at.f];
#pragma unroll
    for (int c = 0; c < 3; c++) {
        const long long row = (at.n * 6 + 2 * c) * F + at.f;
        const float v = work.u_v[row], u = work.u_v[row + F];
        work.g_u_v[row] = g_dot * u + g_norm * v;
        work.g_u_v[row + F] = g_dot * v + (work.last ? 0.0f : mixing[F] * work.gv[(at.n * 3 + c) * F + at.f]);
    }
    work.gs[at.n * F + at.f] = gs + work.g_input[at.n * 2 * F + at.f];
}

struct Radial {
    const int* numbers;            // [N]
    const int* neighbors;          // [N][capacity]
    const float4* geometry;        // [N][capacity]
    const int* counts;             // [N]
    const float* radial;           // cutoff, exponent, pi / cutoff, centers [K]
    const float2* wall;            // [elements * elements] where each pair's wall begins and its strength
    unsigned short* coefficients;  // [N][capacity][HALVES], out
    int n_atoms;
    int capacity;
};

// Four warps an atom, every fourth neighbor each, one lane a Gaussian: what all passes over the neighbors need of a
// distance.
extern "C" __global__ void fill_coefficients(const __grid_constant__ Radial work) {
    const int i = blockIdx.x * 2 + threadIdx.x / 128, part = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    if (i >= work.n_atoms || lane >= DEPTH) return;
    const int count = min(work.counts[i], work.capacity);
    const float cutoff = __ldg(work.radial), exponent = __ldg(work.radial + 1), rate = __ldg(work.radial + 2);
    const float center = lane < K ? __ldg(work.radial + 3 + lane) : 0.0f;
    for (int e = part; e < count; e += 4) {
        const long long slot = static_cast<long long>(i) * work.capacity + e;
        float d = work.geometry[slot].w;
        if (d < 0.0f) d = Wall(work.wall, work.numbers[i], work.numbers[work.neighbors[slot]]).seen(-d);
        const bool beyond = d >= cutoff;
        const float cut = beyond ? 0.0f : 0.5f * (cosf(d * rate) + 1.0f);
        const float cut_slope = beyond ? 0.0f : -0.5f * rate * sinf(d * rate);
        const float offset = d - center;
        const float gaussian = lane < K ? __expf(exponent * offset * offset) : 1.0f;
        const float gaussian_slope = lane < K ? 2.0f * exponent * offset * gaussian : 0.0f;
        const float value = lane <= K ? gaussian * cut : 0.0f;
        const float slope = lane <= K ? gaussian_slope * cut + gaussian * cut_slope : 0.0f;
        // Row k of a product is with lane k % 8 / 2 of four, in its word k / 8.
        unsigned short* to = work.coefficients + slot * HALVES + lane % 8 / 2 * DEPTH + lane / 8 * 2 + lane % 2;
        const unsigned short value_hi = to_half(value), slope_hi = to_half(slope);
        to[0] = value_hi;
        to[DEPTH / 4] = to_half(value - from_half(value_hi));
        to[2 * DEPTH / 4] = slope_hi;
        to[3 * DEPTH / 4] = to_half(slope - from_half(slope_hi));
    }
}

struct Totals {
    const float* positions;   // [N][3]
    const int* numbers;       // [N]
    const int* starts;        // [B + 1]
    const int* neighbors;     // [N][capacity]
    const float4* geometry;   // [N][capacity]
    const int* counts;        // [N]
    float* pull;              // [QUARTERS][N][capacity][4]; the first quarter becomes dE/dr, r from receiver to sender
    const float* atomic;      // [N]
    const float* repulsion;   // [N] of the atom's walls
    const float2* wall;       // [elements * elements]
    const double* references;  // [elements]
    float* forces;            // [N][3]
    double* energies;         // [B]
    int n_atoms;
    int n_systems;
    int capacity;
};

// One thread a slot: the sum over the quarters, then dE/dd and dE/du to dE/dr.
extern "C" __global__ void finish_pulls(const __grid_constant__ Totals totals) {
    const long long slots = static_cast<long long>(totals.n_atoms) * totals.capacity;
    const long long slot = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    const long long i = slot / totals.capacity;
    if (slot >= slots || slot % totals.capacity >= totals.counts[i]) return;
    float4* pull = reinterpret_cast<float4*>(totals.pull);
    float4 sum = pull[slot];
#pragma unroll
    for (int quarter = 1; quarter < QUARTERS; quarter++) {
        const float4 part = pull[quarter * slots + slot];
        sum.x += part.x;
        sum.y += part.y;
        sum.z += part.z;
        sum.w += part.w;
    }
    const float4 u = totals.geometry[slot];
    float d = u.w, radial = sum.x;
    if (d < 0.0f) {
        const Wall wall(totals.wall, totals.numbers[i], totals.numbers[totals.neighbors[slot]]);
        d = -d;
        radial = radial * wall.seen_slope(d) + 0.5f * wall.repulsion_slope(d);
    }
    const float along = radial + (sum.y * u.x + sum.z * u.y + sum.w * u.z) / d;
    pull[slot] = make_float4(sum.y / d - along * u.x, sum.z / d - along * u.y, sum.w / d - along * u.z, 0.0f);
}

// One warp an atom, eight lanes a neighbor: F_j = sum_i pull(i, j) - pull(j, i). Slot (i, j) is found in row i: neighbor j,
// opposite unit vector, same distance. In small cells j can have images in one direction at several distances.
extern "C" __global__ void sum_forces(const __grid_constant__ Totals totals) {
    const long long j = static_cast<long long>(blockIdx.x) * 8 + threadIdx.x / 32;
    const int lane = threadIdx.x % 32, group = lane / 8, sub = lane % 8;
    if (j >= totals.n_atoms) return;
    const int count = min(totals.counts[j], totals.capacity);
    float sum = 0.0f;
    for (int e0 = 0; e0 < count; e0 += 4) {
        const bool there = e0 + group < count;
        const long long mine = j * totals.capacity + (there ? e0 + group : e0);
        const long long i = totals.neighbors[mine];
        const float4 u = totals.geometry[mine];
        const int filled = there ? min(totals.counts[i], totals.capacity) : 0;
        int most = max(filled, __shfl_xor_sync(0xffffffffu, filled, 8));
        most = max(most, __shfl_xor_sync(0xffffffffu, most, 16));
        int slot = -1;
        for (int t0 = 0; t0 < most; t0 += 8) {
            const long long theirs = i * totals.capacity + t0 + sub;
            bool same = t0 + sub < filled && totals.neighbors[theirs] == int(j);
            if (same) {
                const float4 w = totals.geometry[theirs];
                // NaN equals NaN here, so that it reaches the forces.
                same = !(w.x + u.x != 0.0f && w.x == w.x) && !(w.y + u.y != 0.0f && w.y == w.y) &&
                       !(w.z + u.z != 0.0f && w.z == w.z) && !(fabsf(w.w) != fabsf(u.w) && w.w == w.w);
            }
            const unsigned found = __ballot_sync(0xffffffffu, same) >> (8 * group) & 0xffu;
            if (slot < 0 && found) slot = t0 + __ffs(int(found)) - 1;
        }
        if (slot >= 0 && sub < 3) sum += totals.pull[(i * totals.capacity + slot) * 4 + sub] - totals.pull[mine * 4 + sub];
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    sum += __shfl_xor_sync(0xffffffffu, sum, 16);
    if (lane < 3) {
        // x - x is zero, or NaN for a position that is not finite, also without neighbors.
        const float x = totals.positions[3 * j + lane];
        totals.forces[3 * j + lane] = sum + (x - x);
    }
}

// One block a system.
extern "C" __global__ void sum_energies(const __grid_constant__ Totals totals) {
    SHARED_ARRAY(double, parts, 8);
    const int system = blockIdx.x, lane = threadIdx.x % 32;
    double sum = 0.0;
    for (int n = totals.starts[system] + int(threadIdx.x); n < totals.starts[system + 1]; n += 256) {
        sum += static_cast<double>(totals.atomic[n]) + totals.repulsion[n] + totals.references[totals.numbers[n]];
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (lane == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < 8; warp++) sum += parts[warp];
        totals.energies[system] = sum;
    }
}

// What the pulls of a launch do to the cell: the virial dE/dstrain of each system, symmetric: xx, yy, zz, yz, xz, xy.
struct Virials {
    const int* starts;        // [B + 1]
    const float4* geometry;   // [N][capacity]
    const int* counts;        // [N]
    const float* pull;        // [N][capacity][4] dE/dr of each pair, after finish_pulls
    double* atomic;           // [N][6] eV
    double* virials;          // [B][6] eV
    int n_atoms;
    int n_systems;
    int capacity;
};

// One warp an atom: sum r (x) dE/dr over the messages that it sends, where r = -d u. In float64, since pairs on opposite
// sides nearly cancel; in a fixed order.
extern "C" __global__ void sum_atomic_virials(const __grid_constant__ Virials work) {
    const long long i = static_cast<long long>(blockIdx.x) * 8 + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (i >= work.n_atoms) return;
    const int count = min(work.counts[i], work.capacity);
    double sum[6] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    for (int e = lane; e < count; e += 32) {
        const long long slot = i * work.capacity + e;
        const float4 u = work.geometry[slot];
        const double d = fabsf(u.w), r[3] = {-d * u.x, -d * u.y, -d * u.z};
        const float* pull = work.pull + slot * 4;
#pragma unroll
        for (int a = 0; a < 3; a++) {
            const int b = (a + 1) % 3, c = (a + 2) % 3;
            sum[a] += r[a] * pull[a];
            sum[3 + a] += 0.5 * (r[b] * pull[c] + r[c] * pull[b]);
        }
    }
#pragma unroll
    for (int k = 0; k < 6; k++) {
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2) sum[k] += __shfl_xor_sync(0xffffffffu, sum[k], offset);
        if (lane == 0) work.atomic[i * 6 + k] = sum[k];
    }
}

// One block a system and number of the virial.
extern "C" __global__ void sum_virials(const __grid_constant__ Virials work) {
    SHARED_ARRAY(double, parts, 8);
    const int system = blockIdx.x / 6, k = blockIdx.x % 6, thread = threadIdx.x;
    double sum = 0.0;
    for (long long n = work.starts[system] + thread; n < work.starts[system + 1]; n += 256) sum += work.atomic[n * 6 + k];
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (thread % 32 == 0) parts[thread / 32] = sum;
    __syncthreads();
    if (thread == 0) {
        for (int warp = 1; warp < 8; warp++) sum += parts[warp];
        work.virials[system * 6 + k] = sum;
    }
}

struct Search {
    const float* positions;  // [N][3]; with cells in their order; not wrapped, which would lose digits
    const int* numbers;      // [N]
    const int* first;        // [N] first atom of the system of each atom (without cells)
    const int* last;         // [N] one past its last
    const int* system;       // [N] (with cells)
    const float* box;        // [B][3][3] lattice vectors in rows
    const int* grid;         // [B][3] cells along each axis
    const int* reach;        // [B][3] cells to look at on either side
    const int* periodic;     // [B][3]
    const int* offset;       // [B] the first cell of each system
    const int* place;        // [N][3] cell of each atom
    const float* whole;      // [N][3] lattice vectors that wrapping each atom into the box subtracts
    const int* cell_start;   // [cells + 1] first atom of each cell
    const float* radial;
    const float2* wall;      // [elements * elements] where each pair's wall begins and its strength
    int* neighbors;          // [N][capacity], out
    float4* geometry;        // [N][capacity], out
    int* counts;             // [N], out: neighbors found, also when more than capacity
    float* repulsion;        // [N], out: half of the energy of each of the atom's walls, eV
    int n_atoms;
    int capacity;
};

// Blocks of the searches on a multiprocessor at once. Left alone the compiler takes registers that leave room for one less.
constexpr int DENSE_BLOCKS = 6, CELLS_BLOCKS = 4;

// Adds those of the atoms start <= j < end that are near i to the row of i, and what this lane found of their walls to
// ``repulsion``; by a whole warp. With PERIODIC they are seen in the image ``image`` (counted in lattice vectors ``box``)
// of the wrapped system.
template <bool PERIODIC>
DEVICE int add_near(const Search& work, int i, int start, int end, const float* image, const float* box, bool home,
                    int count, float& repulsion) {
    const int lane = threadIdx.x % 32;
    const float cutoff = __ldg(work.radial);
    const float x = work.positions[3 * i], y = work.positions[3 * i + 1], z = work.positions[3 * i + 2];
    float from[3];
    if (PERIODIC) {
#pragma unroll
        for (int axis = 0; axis < 3; axis++) from[axis] = image[axis] + work.whole[3 * i + axis];
    }
    for (int j0 = start; j0 < end; j0 += 32) {
        const int j = j0 + lane;
        const bool other = j < end && !(home && j == i);
        const int q = other ? j : i;
        float dx = work.positions[3 * q] - x, dy = work.positions[3 * q + 1] - y, dz = work.positions[3 * q + 2] - z;
        if (PERIODIC) {
            // Both atoms of a pair must get the same bits: the terms differ in sign only.
            const float a = from[0] - work.whole[3 * q], b = from[1] - work.whole[3 * q + 1];
            const float c = from[2] - work.whole[3 * q + 2];
            dx += a * box[0] + b * box[3] + c * box[6];
            dy += a * box[1] + b * box[4] + c * box[7];
            dz += a * box[2] + b * box[5] + c * box[8];
        }
        const float squared = dx * dx + dy * dy + dz * dz;
        // A NaN counts as near, so that it reaches energy and forces.
        const bool near = other && !(squared >= cutoff * cutoff);
        const unsigned found = __ballot_sync(0xffffffffu, near);
        const int slot = count + __popc(found & ((1u << lane) - 1u));
        if (near && slot < work.capacity) {
            const long long at = static_cast<long long>(i) * work.capacity + slot;
            const float d = sqrtf(squared);
            const Wall wall(work.wall, work.numbers[i], work.numbers[j]);
            const bool within = d < wall.end;
            work.geometry[at] = make_float4(dx / d, dy / d, dz / d, within ? -d : d);
            work.neighbors[at] = j;
            if (within) repulsion += wall.repulsion(d);
        }
        count += __popc(found);
    }
    return count;
}

// Keeps what the lanes of a warp found of atom i.
DEVICE void keep_row(const Search& work, int i, int count, float repulsion) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) repulsion += __shfl_xor_sync(0xffffffffu, repulsion, offset);
    if (threadIdx.x % 32 == 0) {
        work.counts[i] = count;
        work.repulsion[i] = 0.5f * repulsion;  // each atom of a pair has half
    }
}

// One warp an atom looks at all atoms of its system.
extern "C" __global__ void __launch_bounds__(256, DENSE_BLOCKS)
    fill_neighbor_matrix_dense(const __grid_constant__ Search work) {
    const int i = blockIdx.x * 8 + threadIdx.x / 32;
    if (i >= work.n_atoms) return;
    float repulsion = 0.0f;
    const int count = add_near<false>(work, i, work.first[i], work.last[i], nullptr, nullptr, true, 0, repulsion);
    keep_row(work, i, count, repulsion);
}

// One warp an atom looks at the cells around it, and at their periodic images.
extern "C" __global__ void __launch_bounds__(256, CELLS_BLOCKS)
    fill_neighbor_matrix_cells(const __grid_constant__ Search work) {
    const int i = blockIdx.x * 8 + threadIdx.x / 32;
    if (i >= work.n_atoms) return;
    const int b = work.system[i];
    const float* box = work.box + 9 * b;
    int grid[3], reach[3], place[3];
    bool periodic[3];
#pragma unroll
    for (int axis = 0; axis < 3; axis++) {
        grid[axis] = work.grid[3 * b + axis];
        reach[axis] = work.reach[3 * b + axis];
        periodic[axis] = work.periodic[3 * b + axis];
        place[axis] = work.place[3 * i + axis];
    }
    int count = 0;
    float repulsion = 0.0f;
    for (int dx = -reach[0]; dx <= reach[0]; dx++) {
        for (int dy = -reach[1]; dy <= reach[1]; dy++) {
            for (int dz = -reach[2]; dz <= reach[2]; dz++) {
                int c[3] = {place[0] + dx, place[1] + dy, place[2] + dz};
                float image[3];
                bool inside = true;
#pragma unroll
                for (int axis = 0; axis < 3; axis++) {
                    const int n = grid[axis];
                    const int whole = c[axis] >= 0 ? c[axis] / n : -((n - 1 - c[axis]) / n);
                    inside = inside && (whole == 0 || periodic[axis]);
                    c[axis] -= whole * n;
                    image[axis] = float(whole);
                }
                if (!inside) continue;
                const int cell = work.offset[b] + (c[0] * grid[1] + c[1]) * grid[2] + c[2];
                const bool home = image[0] == 0.0f && image[1] == 0.0f && image[2] == 0.0f;
                const int start = work.cell_start[cell], end = work.cell_start[cell + 1];
                count = add_near<true>(work, i, start, end, image, box, home, count, repulsion);
            }
        }
    }
    keep_row(work, i, count, repulsion);
}

#ifdef CUDA_EMULATION
#define LAUNCH(kernel, blocks, threads, argument) emulate(kernel, argument, int(blocks), threads, stream)
#else
#define LAUNCH(kernel, blocks, threads, argument) \
    kernel<<<unsigned(blocks), threads, 0, static_cast<cudaStream_t>(stream)>>>(argument), int(cudaPeekAtLastError())
#endif

// Blocks of the message kernels: one a multiprocessor, so that the filters are loaded once.
static int message_blocks(int n_atoms, int at_once) {
#ifdef CUDA_EMULATION
    const int processors = 2;
#else
    static const int processors = [] {
        int device = 0, count = 0;
        cudaGetDevice(&device);
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
        return count;
    }();
#endif
    return min((n_atoms + at_once - 1) / at_once, processors);
}

// Each returns 0, or a CUDA error.
extern "C" int neighbor_matrix_forward(const Messages* work, int first, void* stream) {
    const int blocks = message_blocks(work->n_atoms, FORWARD_ATOMS);
    if (first) return LAUNCH(first_forward, blocks, FORWARD_ATOMS * F, *work);
    return LAUNCH(next_forward, blocks, FORWARD_ATOMS * F, *work);
}

extern "C" int neighbor_matrix_backward(const Messages* work, int first, void* stream) {
    const int blocks = message_blocks(work->n_atoms, BACKWARD_ATOMS);
    if (first) return LAUNCH(first_backward, blocks, BACKWARD_ATOMS * F, *work);
    return LAUNCH(next_backward, blocks, BACKWARD_ATOMS * F, *work);
}

extern "C" int neighbor_matrix_update(const Update* work, int step, void* stream) {
    const long long blocks = (static_cast<long long>(work->n_atoms) * F + 255) / 256;
    switch (step) {
        case 0: return LAUNCH(norms_and_dots, blocks, 256, *work);
        case 1: return LAUNCH(apply_update, blocks, 256, *work);
        case 2: return LAUNCH(mixing_gradient, blocks, 256, *work);
        default: return LAUNCH(vector_gradient, blocks, 256, *work);
    }
}

extern "C" int neighbor_matrix_radial(const Radial* work, int, void* stream) {
    return LAUNCH(fill_coefficients, (work->n_atoms + 1) / 2, 256, *work);
}

// Halves of one slot's coefficients, and the rows of a filter.
extern "C" int neighbor_matrix_coefficients() { return HALVES; }
extern "C" int neighbor_matrix_depth() { return DEPTH; }

extern "C" int neighbor_matrix_totals(const Totals* totals, int step, void* stream) {
    const long long slots = static_cast<long long>(totals->n_atoms) * totals->capacity;
    switch (step) {
        case 0: return LAUNCH(finish_pulls, (slots + 255) / 256, 256, *totals);
        case 1: return LAUNCH(sum_forces, (totals->n_atoms + 7) / 8, 256, *totals);
        default: return LAUNCH(sum_energies, totals->n_systems, 256, *totals);
    }
}

extern "C" int neighbor_matrix_virials(const Virials* work, int step, void* stream) {
    if (step == 0) return LAUNCH(sum_atomic_virials, (work->n_atoms + 7) / 8, 256, *work);
    return LAUNCH(sum_virials, 6 * work->n_systems, 256, *work);
}

extern "C" int neighbor_matrix_search(const Search* work, int cells, void* stream) {
    if (cells) return LAUNCH(fill_neighbor_matrix_cells, (work->n_atoms + 7) / 8, 256, *work);
    return LAUNCH(fill_neighbor_matrix_dense, (work->n_atoms + 7) / 8, 256, *work);
}

// Sizes of the structs, which must be the same in Python.
// The sizes and constants that this was compiled with.
extern "C" const char* neighbor_matrix_built_for() { return TEXT(BUILT_FOR); }

extern "C" int neighbor_matrix_sizeof_messages() { return int(sizeof(Messages)); }
extern "C" int neighbor_matrix_sizeof_update() { return int(sizeof(Update)); }
extern "C" int neighbor_matrix_sizeof_radial() { return int(sizeof(Radial)); }
extern "C" int neighbor_matrix_sizeof_totals() { return int(sizeof(Totals)); }
extern "C" int neighbor_matrix_sizeof_virials() { return int(sizeof(Virials)); }
extern "C" int neighbor_matrix_sizeof_search() { return int(sizeof(Search)); }

#ifndef CUDA_EMULATION
extern "C" const char* neighbor_matrix_error(int error) { return cudaGetErrorString(cudaError_t(error)); }
#endif
