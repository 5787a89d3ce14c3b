// Messages of any number of atoms, and what surrounds the matrix products of a block: for batches and large systems.
//
// Every atom has a row of ``capacity`` slots for its neighbors (index, unit vector towards it, distance). A pair stands
// in both rows: sums over receivers and sums over senders are both sums over a row, without atomics, in a fixed order.
// One warp takes a quarter of the features of one atom, a feature a lane. The filters' weights of its features stay in
// its registers; the Gaussians, computed once for all passes, stream through shared memory that belongs to the warp
// alone, eight neighbors at a time.
//
// Sizes come from the compiler's command line: FEATURES, GAUSSIANS.

#include "platform.cuh"

constexpr int F = FEATURES;
constexpr int K = GAUSSIANS;
constexpr int QUARTERS = F / 32;
constexpr int THREADS = 128;  // of the message kernels: all features of one atom
constexpr int CHUNK = 8;      // atoms that one block takes one after the other
constexpr int STAGED = 8;     // neighbors at a time
// What a pass reads of a slot, in floats: K Gaussians times the cutoff, the cutoff, the unit vector; for the reverse
// pass the derivatives of the first K + 1 as well.
constexpr int KP = (K + 4 + 3) / 4 * 4;
constexpr int UNIT = KP - 3;
static_assert(F % 32 == 0 && QUARTERS * 32 == THREADS, "one lane a feature");
static_assert(K < 32, "one lane a Gaussian, and one for the cutoff");

struct Rows {
    const int* numbers;        // [N]
    const int* neighbors;      // [N][capacity]
    const float* coefficients;  // [N][capacity][2][KP]
    const int* counts;         // [N]
    const float* filters;      // [K + 1][3][F] of this block of the network, the bias last
    const float* phi;          // [N][3][F]; in the first block [elements][3][F]
    const float* v_in;         // [N][3][F]
    float* s;                  // [N][F], the message is added; in the first block set from:
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

// Starts to copy the coefficients of slots e0, e0 + 1, ... of a row to this warp's shared memory.
template <bool SLOPES>
DEVICE void stage(const Rows& rows, long long row, int e0, int count, float* to) {
    constexpr int FLOATS = SLOPES ? 2 * KP : KP;
    for (int item = threadIdx.x % 32; item < STAGED * FLOATS / 4; item += 32) {
        const int e = item / (FLOATS / 4), part = item % (FLOATS / 4);
        if (e0 + e < count) {
            copy_async(to + e * FLOATS + 4 * part, rows.coefficients + (row + e0 + e) * 2 * KP + 4 * part);
        }
    }
    close_copies();
}

template <int CHANNELS>
DEVICE void load_filters(const Rows& rows, int f, float (&filter)[3][K + 1]) {
#pragma unroll
    for (int c = 0; c < CHANNELS; c++) {
#pragma unroll
        for (int k = 0; k <= K; k++) filter[c][k] = __ldg(rows.filters + (k * 3 + c) * F + f);
    }
}

template <int CHANNELS>
DEVICE void product(const float* coefficients, const float (&filter)[3][K + 1], float (&w)[CHANNELS]) {
#pragma unroll
    for (int c = 0; c < CHANNELS; c++) w[c] = 0.0f;
#pragma unroll
    for (int k = 0; k <= K; k += 4) {
        const float4 g4 = *reinterpret_cast<const float4*>(coefficients + k);
        const float g[4] = {g4.x, g4.y, g4.z, g4.w};
#pragma unroll
        for (int q = 0; q < 4 && k + q <= K; q++) {
#pragma unroll
            for (int c = 0; c < CHANNELS; c++) w[c] += g[q] * filter[c][k + q];
        }
    }
}

template <bool FIRST>
DEVICE void forward(const Rows& rows) {
    constexpr int CHANNELS = FIRST ? 2 : 3;
    SHARED_ARRAY(float, scratch, 2 * QUARTERS * STAGED * KP);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, f = threadIdx.x;
    float* staged = scratch + 2 * warp * STAGED * KP;
    float filter[3][K + 1];
    load_filters<CHANNELS>(rows, f, filter);
    const int begin = blockIdx.x * CHUNK, end = min(begin + CHUNK, rows.n_atoms);
    for (int i = begin; i < end; i++) {
        const int count = min(rows.counts[i], rows.capacity);
        const long long row = static_cast<long long>(i) * rows.capacity;
        float s, vx = 0.0f, vy = 0.0f, vz = 0.0f;
        if (FIRST) {
            s = __ldg(rows.embedding + rows.numbers[i] * F + f);
        } else {
            s = rows.s[static_cast<long long>(i) * F + f];
            const float* v = rows.v_in + static_cast<long long>(i) * 3 * F + f;
            vx = v[0];
            vy = v[F];
            vz = v[2 * F];
        }
        stage<false>(rows, row, 0, count, staged);
        for (int e0 = 0, buffer = 0; e0 < count; e0 += STAGED, buffer ^= 1) {
            const int mine = e0 + lane < count ? rows.neighbors[row + e0 + lane] : 0;
            stage<false>(rows, row, e0 + STAGED, count, staged + (buffer ^ 1) * STAGED * KP);
            older_copies_arrived();
            __syncwarp();
            const int here = min(STAGED, count - e0);
#pragma unroll 2
            for (int e = 0; e < here; e++) {
                const int j = __shfl_sync(0xffffffffu, mine, e);
                const float* coefficients = staged + (buffer * STAGED + e) * KP;
                const float* p = rows.phi + static_cast<long long>(FIRST ? rows.numbers[j] : j) * 3 * F + f;
                const float p_s = p[0], p_a = p[F];
                float p_c = 0.0f, v0 = 0.0f, v1 = 0.0f, v2 = 0.0f;
                if (!FIRST) {
                    const float* v = rows.v_in + static_cast<long long>(j) * 3 * F + f;
                    p_c = p[2 * F];
                    v0 = v[0];
                    v1 = v[F];
                    v2 = v[2 * F];
                }
                float w[CHANNELS];
                product<CHANNELS>(coefficients, filter, w);
                s += w[0] * p_s;
                const float a = w[1] * p_a;
                vx += a * coefficients[UNIT];
                vy += a * coefficients[UNIT + 1];
                vz += a * coefficients[UNIT + 2];
                if (!FIRST) {
                    const float c = w[CHANNELS - 1] * p_c;
                    vx += c * v0;
                    vy += c * v1;
                    vz += c * v2;
                }
            }
            __syncwarp();  // before the next copies overwrite these
        }
        rows.s[static_cast<long long>(i) * F + f] = s;
        float* v = rows.v_out + static_cast<long long>(i) * 3 * F + f;
        v[0] = vx;
        v[F] = vy;
        v[2 * F] = vz;
    }
}

// The reverse, for the messages that atom j sends: their receivers are its neighbors, seen from -u.
template <bool FIRST>
DEVICE void backward(const Rows& rows) {
    constexpr int CHANNELS = FIRST ? 2 : 3;
    SHARED_ARRAY(float, scratch, 4 * QUARTERS * STAGED * KP);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, f = threadIdx.x;
    float* staged = scratch + 4 * warp * STAGED * KP;
    float filter[3][K + 1];
    load_filters<CHANNELS>(rows, f, filter);
    const int begin = blockIdx.x * CHUNK, end = min(begin + CHUNK, rows.n_atoms);
    for (int j = begin; j < end; j++) {
        const int count = min(rows.counts[j], rows.capacity);
        const long long row = static_cast<long long>(j) * rows.capacity;
        const long long at = static_cast<long long>(j) * 3 * F + f;
        const float* p = rows.phi + (FIRST ? static_cast<long long>(rows.numbers[j]) * 3 * F + f : at);
        const float p_s = p[0], p_a = p[F];
        float p_c = 0.0f, v0 = 0.0f, v1 = 0.0f, v2 = 0.0f;
        float gp_s = 0.0f, gp_a = 0.0f, gp_c = 0.0f, gv0 = 0.0f, gv1 = 0.0f, gv2 = 0.0f;
        if (!FIRST) {
            p_c = p[2 * F];
            v0 = rows.v_in[at];
            v1 = rows.v_in[at + F];
            v2 = rows.v_in[at + 2 * F];
            gv0 = rows.gv[at];
            gv1 = rows.gv[at + F];
            gv2 = rows.gv[at + 2 * F];
        }
        stage<true>(rows, row, 0, count, staged);
        for (int e0 = 0, buffer = 0; e0 < count; e0 += STAGED, buffer ^= 1) {
            const int mine = e0 + lane < count ? rows.neighbors[row + e0 + lane] : 0;
            stage<true>(rows, row, e0 + STAGED, count, staged + (buffer ^ 1) * STAGED * 2 * KP);
            older_copies_arrived();
            __syncwarp();
            const int here = min(STAGED, count - e0);
            for (int e = 0; e < here; e++) {
                const long long i = __shfl_sync(0xffffffffu, mine, e);
                const float* values = staged + (buffer * STAGED + e) * 2 * KP;
                const float* slopes = values + KP;
                const float gs = rows.gs[i * F + f];
                const float gx = rows.gv[i * 3 * F + f], gy = rows.gv[i * 3 * F + F + f];
                const float gz = rows.gv[i * 3 * F + 2 * F + f];
                float w[CHANNELS], slope[CHANNELS];
                product<CHANNELS>(values, filter, w);
                product<CHANNELS>(slopes, filter, slope);
                const float along = -(gx * values[UNIT] + gy * values[UNIT + 1] + gz * values[UNIT + 2]);
                const float wp = w[1] * p_a;
                float sum[4] = {gs * slope[0] * p_s + along * slope[1] * p_a, wp * gx, wp * gy, wp * gz};
                if (!FIRST) {
                    const float carried = gx * v0 + gy * v1 + gz * v2;
                    sum[0] += carried * slope[CHANNELS - 1] * p_c;
                    gp_s += gs * w[0];
                    gp_a += along * w[1];
                    gp_c += carried * w[CHANNELS - 1];
                    const float c = w[CHANNELS - 1] * p_c;
                    gv0 += c * gx;
                    gv1 += c * gy;
                    gv2 += c * gz;
                }
                // Thirty-two lanes, four sums: halve what is carried, then the lanes.
                const bool high = lane & 16, middle = lane & 8;
                float keep0 = high ? sum[2] : sum[0], keep1 = high ? sum[3] : sum[1];
                keep0 += __shfl_xor_sync(0xffffffffu, high ? sum[0] : sum[2], 16);
                keep1 += __shfl_xor_sync(0xffffffffu, high ? sum[1] : sum[3], 16);
                float total = (middle ? keep1 : keep0) + __shfl_xor_sync(0xffffffffu, middle ? keep0 : keep1, 8);
                total += __shfl_xor_sync(0xffffffffu, total, 4);
                total += __shfl_xor_sync(0xffffffffu, total, 2);
                total += __shfl_xor_sync(0xffffffffu, total, 1);
                if (lane % 8 == 0) {
                    const long long slots = static_cast<long long>(rows.n_atoms) * rows.capacity;
                    float* to = rows.pull + (warp * slots + row + e0 + e) * 4 + lane / 8;
                    // One addition an address and pass: the order is fixed all the same, and nothing waits for memory.
                    if (rows.add) {
                        atomicAdd(to, total);
                    } else {
                        *to = total;
                    }
                }
            }
            __syncwarp();  // before the next copies overwrite these
        }
        if (!FIRST) {
            rows.g_phi[at] = gp_s;
            rows.g_phi[at + F] = gp_a;
            rows.g_phi[at + 2 * F] = gp_c;
            rows.gv_out[at] = gv0;
            rows.gv_out[at + F] = gv1;
            rows.gv_out[at + 2 * F] = gv2;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) first_forward(const __grid_constant__ Rows rows) {
    forward<true>(rows);
}
extern "C" __global__ void __launch_bounds__(THREADS, 4) next_forward(const __grid_constant__ Rows rows) {
    forward<false>(rows);
}
extern "C" __global__ void __launch_bounds__(THREADS, 4) first_backward(const __grid_constant__ Rows rows) {
    backward<true>(rows);
}
extern "C" __global__ void __launch_bounds__(THREADS, 4) next_backward(const __grid_constant__ Rows rows) {
    backward<false>(rows);
}

// Element-wise work between the matrix products of a block; one thread an atom and feature.
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
    const float4* geometry;  // [N][capacity]
    const int* counts;       // [N]
    const float* radial;     // cutoff, exponent, pi / cutoff, centers [K]
    float* coefficients;     // [N][capacity][2][KP], out
    int n_atoms;
    int capacity;
};

// One warp an atom, one lane a Gaussian: what all passes over the neighbors need of a distance.
extern "C" __global__ void fill_coefficients(const __grid_constant__ Radial work) {
    const int i = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (i >= work.n_atoms) return;
    const int count = min(work.counts[i], work.capacity);
    const float cutoff = __ldg(work.radial), exponent = __ldg(work.radial + 1), rate = __ldg(work.radial + 2);
    const float center = lane < K ? __ldg(work.radial + 3 + lane) : 0.0f;
    for (int e = 0; e < count; e++) {
        const long long slot = static_cast<long long>(i) * work.capacity + e;
        const float4 u = work.geometry[slot];
        const bool beyond = u.w >= cutoff;
        const float cut = beyond ? 0.0f : 0.5f * (cosf(u.w * rate) + 1.0f);
        const float cut_slope = beyond ? 0.0f : -0.5f * rate * sinf(u.w * rate);
        float* to = work.coefficients + slot * 2 * KP;
        if (lane < K) {
            const float offset = u.w - center;
            const float value = __expf(exponent * offset * offset);
            to[lane] = value * cut;
            to[KP + lane] = 2.0f * exponent * offset * value * cut + value * cut_slope;
        } else if (lane == K) {
            to[K] = cut;
            to[KP + K] = cut_slope;
            to[UNIT] = u.x;
            to[UNIT + 1] = u.y;
            to[UNIT + 2] = u.z;
        }
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
    if (slot >= slots || slot % totals.capacity >= totals.counts[slot / totals.capacity]) return;
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
    const float along = sum.x + (sum.y * u.x + sum.z * u.y + sum.w * u.z) / u.w;
    pull[slot] = make_float4(sum.y / u.w - along * u.x, sum.z / u.w - along * u.y, sum.w / u.w - along * u.z, 0.0f);
}

// One warp an atom: F_j = sum_i pull(i, j) - pull(j, i). Slot (i, j) is found in row i: neighbor j, opposite unit vector.
extern "C" __global__ void sum_forces(const __grid_constant__ Totals totals) {
    const long long j = static_cast<long long>(blockIdx.x) * 8 + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (j >= totals.n_atoms) return;
    const int count = min(totals.counts[j], totals.capacity);
    // x - x is zero, or NaN for a position that is not finite and has no neighbor to say so.
    float sum = 0.0f;
    if (lane < 3) sum = totals.positions[3 * j + lane] - totals.positions[3 * j + lane];
    for (int e = 0; e < count; e++) {
        const long long mine = j * totals.capacity + e;
        const long long i = totals.neighbors[mine];
        const float4 u = totals.geometry[mine];
        const int filled = min(totals.counts[i], totals.capacity);
        for (int t0 = 0; t0 < filled; t0 += 32) {
            const long long theirs = i * totals.capacity + t0 + lane;
            bool same = t0 + lane < filled && totals.neighbors[theirs] == int(j);
            if (same) {
                const float4 w = totals.geometry[theirs];
                // NaN fits NaN: it has to reach the forces.
                same = !(w.x + u.x != 0.0f && w.x == w.x) && !(w.y + u.y != 0.0f && w.y == w.y) &&
                       !(w.z + u.z != 0.0f && w.z == w.z);
            }
            const unsigned found = __ballot_sync(0xffffffffu, same);
            if (found) {
                const long long slot = i * totals.capacity + t0 + __ffs(int(found)) - 1;
                if (lane < 3) sum += totals.pull[slot * 4 + lane] - totals.pull[mine * 4 + lane];
                break;
            }
        }
    }
    if (lane < 3) totals.forces[3 * j + lane] = sum;
}

// One warp a system.
extern "C" __global__ void sum_energies(const __grid_constant__ Totals totals) {
    const int system = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (system >= totals.n_systems) return;
    double sum = 0.0;
    for (int n = totals.starts[system] + lane; n < totals.starts[system + 1]; n += 32) {
        sum += static_cast<double>(totals.atomic[n]) + totals.references[totals.numbers[n]];
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (lane == 0) totals.energies[system] = sum;
}

struct Search {
    const float* positions;  // [N][3]; for cells wrapped into the periodic box, in the order of the cells
    const int* first;        // [N] first atom of the system of each atom (without cells)
    const int* last;         // [N] one past its last
    const int* system;       // [N] (with cells)
    const float* box;        // [B][3][3] lattice vectors in rows
    const int* grid;         // [B][3] cells along each axis
    const int* reach;        // [B][3] cells to look at on either side
    const int* periodic;     // [B][3]
    const int* offset;       // [B] the first cell of each system
    const int* place;        // [N][3] cell of each atom
    const int* cell_start;   // [cells + 1] first atom of each cell
    const float* radial;
    int* neighbors;          // [N][capacity], out
    float4* geometry;        // [N][capacity], out
    int* counts;             // [N], out: neighbors found, also when more than capacity
    int n_atoms;
    int capacity;
};

// Adds those of the atoms start <= j < end that are near i, seen ``shift`` away, to the row of i; by a whole warp.
DEVICE int add_near(const Search& work, int i, int start, int end, float sx, float sy, float sz, bool home, int count) {
    const int lane = threadIdx.x % 32;
    const float cutoff = __ldg(work.radial);
    const float x = work.positions[3 * i], y = work.positions[3 * i + 1], z = work.positions[3 * i + 2];
    for (int j0 = start; j0 < end; j0 += 32) {
        const int j = j0 + lane;
        const bool other = j < end && !(home && j == i);
        const int q = other ? j : i;
        // Both atoms of a pair must find the same bits: the differences first, then the shift.
        const float dx = work.positions[3 * q] - x + sx, dy = work.positions[3 * q + 1] - y + sy;
        const float dz = work.positions[3 * q + 2] - z + sz;
        const float squared = dx * dx + dy * dy + dz * dz;
        // A NaN counts as near: it has to reach energy and forces, not to vanish.
        const bool near = other && !(squared >= cutoff * cutoff);
        const unsigned found = __ballot_sync(0xffffffffu, near);
        const int slot = count + __popc(found & ((1u << lane) - 1u));
        if (near && slot < work.capacity) {
            const long long at = static_cast<long long>(i) * work.capacity + slot;
            const float d = sqrtf(squared);
            work.geometry[at] = make_float4(dx / d, dy / d, dz / d, d);
            work.neighbors[at] = j;
        }
        count += __popc(found);
    }
    return count;
}

// One warp an atom looks at all atoms of its system.
extern "C" __global__ void dense_rows(const __grid_constant__ Search work) {
    const int i = blockIdx.x * 8 + threadIdx.x / 32;
    if (i >= work.n_atoms) return;
    const int count = add_near(work, i, work.first[i], work.last[i], 0.0f, 0.0f, 0.0f, true, 0);
    if (threadIdx.x % 32 == 0) work.counts[i] = count;
}

// One warp an atom looks at the cells around it, and at their periodic images.
extern "C" __global__ void cell_rows(const __grid_constant__ Search work) {
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
                count = add_near(work, i, work.cell_start[cell], work.cell_start[cell + 1],
                                 image[0] * box[0] + image[1] * box[3] + image[2] * box[6],
                                 image[0] * box[1] + image[1] * box[4] + image[2] * box[7],
                                 image[0] * box[2] + image[1] * box[5] + image[2] * box[8], home, count);
            }
        }
    }
    if (threadIdx.x % 32 == 0) work.counts[i] = count;
}

#ifdef CUDA_EMULATION
#define LAUNCH(kernel, blocks, threads, argument) emulate(kernel, argument, int(blocks), threads, stream)
#else
#define LAUNCH(kernel, blocks, threads, argument) \
    kernel<<<unsigned(blocks), threads, 0, static_cast<cudaStream_t>(stream)>>>(argument), int(cudaPeekAtLastError())
#endif

// Each returns 0, or a CUDA error.
extern "C" int rows_forward(const Rows* rows, int first, void* stream) {
    const int blocks = (rows->n_atoms + CHUNK - 1) / CHUNK;
    if (first) return LAUNCH(first_forward, blocks, THREADS, *rows);
    return LAUNCH(next_forward, blocks, THREADS, *rows);
}

extern "C" int rows_backward(const Rows* rows, int first, void* stream) {
    const int blocks = (rows->n_atoms + CHUNK - 1) / CHUNK;
    if (first) return LAUNCH(first_backward, blocks, THREADS, *rows);
    return LAUNCH(next_backward, blocks, THREADS, *rows);
}

extern "C" int rows_update(const Update* work, int step, void* stream) {
    const long long blocks = (static_cast<long long>(work->n_atoms) * F + 255) / 256;
    switch (step) {
        case 0: return LAUNCH(norms_and_dots, blocks, 256, *work);
        case 1: return LAUNCH(apply_update, blocks, 256, *work);
        case 2: return LAUNCH(mixing_gradient, blocks, 256, *work);
        default: return LAUNCH(vector_gradient, blocks, 256, *work);
    }
}

extern "C" int rows_radial(const Radial* work, int, void* stream) {
    return LAUNCH(fill_coefficients, (work->n_atoms + 7) / 8, 256, *work);
}

// Floats of one slot's coefficients.
extern "C" int rows_coefficients() { return 2 * KP; }

extern "C" int rows_totals(const Totals* totals, int step, void* stream) {
    const long long slots = static_cast<long long>(totals->n_atoms) * totals->capacity;
    switch (step) {
        case 0: return LAUNCH(finish_pulls, (slots + 255) / 256, 256, *totals);
        case 1: return LAUNCH(sum_forces, (totals->n_atoms + 7) / 8, 256, *totals);
        default: return LAUNCH(sum_energies, (totals->n_systems + 7) / 8, 256, *totals);
    }
}

extern "C" int rows_search(const Search* work, int cells, void* stream) {
    if (cells) return LAUNCH(cell_rows, (work->n_atoms + 7) / 8, 256, *work);
    return LAUNCH(dense_rows, (work->n_atoms + 7) / 8, 256, *work);
}

#ifndef CUDA_EMULATION
extern "C" const char* rows_error(int error) { return cudaGetErrorString(cudaError_t(error)); }
#endif
