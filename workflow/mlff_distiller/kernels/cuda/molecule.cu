// Energies and forces of a molecule, or of a few, in one launch; molecule.py (most_atoms) says of how many atoms.
//
// A group of RANKS blocks owns a few atoms; each of its blocks owns F / RANKS features of them and keeps the matching
// slices of all weights in shared memory, where the reverse pass reads them too. Blocks of a group exchange vectors and
// hidden layers as its form has it (peers.cuh); groups exchange messages through global memory, six times in all,
// and only with the blocks that own the same features. Every sum is taken in a fixed order: the same input gives the
// same bits. NOTES.md has the phases and what each costs.
//
// Sizes come from the compiler's command line: FEATURES, HIDDEN, READOUT, GAUSSIANS, LAYERS, NORM_EPSILON, and of the form
// (build.py) RANKS, CLUSTERED, SHARED_LIMIT.

#include "peers.cuh"
#include "platform.cuh"
#include "wall.cuh"

constexpr int F = FEATURES;
constexpr int OWN = F / RANKS;  // features of one block of the group
constexpr int H = HIDDEN;       // padded to a multiple of 4
constexpr int R = READOUT;      // likewise
constexpr int HM = H > R ? H : R;
constexpr int K = GAUSSIANS;
constexpr int KP = (K + 3) / 4 * 4;
constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;
constexpr int AT_ONCE = 32 / OWN;  // neighbors of one warp, a feature a lane
constexpr int MAX_ATOMS = CLUSTERED ? 8 : 16;  // of one group, if shared memory has room for so many
constexpr int CAPACITY = 64;     // neighbors of one atom
static_assert(OWN == 4 || OWN == 8 || OWN == 16, "the sums over the lanes of a neighbor are written for these");

// Slices of the weights of one layer of the network in shared memory.
constexpr int MIX = 2 * OWN * F;  // [V own, U own][F]
constexpr int MLP_IN = 2 * OWN * H;  // [s own, norm own][H]
constexpr int MLP_OUT = 3 * OWN * H;  // [ss own, vv own, sv own][H]
constexpr int HEAD_IN = OWN * H;      // [s own][H]; readout: [s own][R]
constexpr int HEAD_OUT = 3 * OWN * H;  // [phi own][H]; readout: [R]
constexpr int LAYER_WEIGHTS = MIX + MLP_IN + MLP_OUT + HEAD_IN + HEAD_OUT;
constexpr int LAST_WEIGHTS = MIX + MLP_IN + MLP_OUT + OWN * R + R;
constexpr int WEIGHTS = (LAYERS - 1) * LAYER_WEIGHTS + LAST_WEIGHTS;
// Biases of one layer: mlp_in [H], mlp_out [3 OWN], head_in [HM], head_out [3 OWN].
constexpr int BIASES = H + 3 * OWN + HM + 3 * OWN;
// Filters of one layer of the network: [K + 1][3 OWN], the bias last.
constexpr int FILTERS = (K + 1) * 3 * OWN;

// What the reverse pass needs of one atom and one layer of the network.
constexpr int STASH_UV = 0;                     // V v [3][OWN], U v [3][OWN]
constexpr int STASH_MIX = STASH_UV + 6 * OWN;   // a_vv, a_sv [OWN]
constexpr int STASH_H1 = STASH_MIX + 2 * OWN;   // [H] before the silu
constexpr int STASH_H2 = STASH_H1 + H;          // [HM] before the silu
constexpr int STASH = STASH_H2 + HM;

struct Arguments {
    const float* weights;     // [RANKS][WEIGHTS]
    const float* biases;      // [RANKS][LAYERS][BIASES]
    const float* filters;     // [RANKS][LAYERS][FILTERS]
    const float* embedding;   // [elements][F]
    const float* first_phi;   // [elements][3 F]
    const float* radial;      // cutoff, exponent, pi / cutoff, centers [K]
    const float2* wall;       // [elements * elements] where each pair's wall begins and its strength
    const double* references;  // [elements]
    const float* positions;   // [N][3]
    const int* numbers;       // [N]
    const int* first;         // [N] first atom of the system of each atom
    const int* last;          // [N] one past its last
    const int* starts;        // [B + 1]
    float* messages;          // [RANKS][LAYERS - 1][N][6][OWN] phi and v, exchanged between groups
    float* gradients;         // [RANKS][LAYERS][N][4][OWN] dE/ds and dE/dv, likewise
    float* outside;           // [groups][RANKS][Layout.outside] what is not in shared memory
    float* pulls;             // [N][N][4] dE/dr of each pair
    float* atomic;            // [N] eV
    float* forces;            // [N][3]
    double* energies;         // [B]
    int* most;                // [1] on the host: the largest number of neighbors, where it exceeds CAPACITY
    unsigned long long* counters;  // [Counters::total(groups)]
    int n_atoms;
    int n_systems;
    int atoms;                // of one group
    int with_forces;
    int stash_shared;
};

// Where the blocks wait for one another, from counter to counter: those that own the same features, all, those of a group.
struct Counters {
    static constexpr int ALL = RANKS, GROUPS = RANKS + 1;
    DEVICE_HOST static int total(int groups) { return GROUPS + (CLUSTERED ? 0 : groups * Peers<false>::APART); }
};

// Where things lie, in floats, for ``atoms`` atoms: in shared memory; those named open in memory that the peers can read,
// which in a cluster is shared memory too, and otherwise outside, with more room.
struct Layout {
    int x, act, s, v, gs, gv, g_phi, uv, scratch, partial, count, stash;
    int open_x, open_h1, open_h2, open_pull, open_geometry, open_cut, open_index;
    int total, outside;
    DEVICE_HOST explicit Layout(int atoms, int stash_shared) : total(WEIGHTS + LAYERS * BIASES), outside(0) {
        auto take = [](int& end, int floats) {
            int here = end;
            end += (floats + 3) / 4 * 4;
            return here;
        };
        x = take(total, atoms * 3 * F);
        act = take(total, atoms * HM);
        s = take(total, atoms * 2 * OWN);  // s and the norms beside it
        v = take(total, atoms * 3 * OWN);
        gs = take(total, atoms * OWN);
        gv = take(total, atoms * 3 * OWN);
        g_phi = take(total, atoms * 3 * OWN);
        uv = take(total, atoms * 6 * OWN);
        scratch = take(total, WARPS * AT_ONCE * 2 * KP);
        partial = take(total, 2 * WARPS * 6 * OWN);
        count = take(total, MAX_ATOMS);
        int& open = CLUSTERED ? total : outside;
        open_x = CLUSTERED ? x : take(open, atoms * 3 * F);
        open_h1 = take(open, atoms * HM);
        open_h2 = take(open, atoms * HM);
        open_geometry = take(open, atoms * CAPACITY * 4);
        open_cut = take(open, atoms * CAPACITY * 2);
        open_pull = take(open, atoms * CAPACITY * 4);
        open_index = take(open, atoms * CAPACITY);
        stash = take(stash_shared ? total : outside, atoms * LAYERS * STASH);
    }
};

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

DEVICE float silu_slope(float x) {
    float y = sigmoid(x);
    return y * (1.0f + x * (1.0f - y));
}

// Sums over the eight lanes of a group of eight values each; lane ``part`` gets value ``part``. Every step halves the number
// of values: seven shuffles instead of twenty-four.
DEVICE float sum_of_eight(const float* v, int part) {
    float four[4], two[2];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        four[i] = (part & 4 ? v[i + 4] : v[i]) + __shfl_xor_sync(0xffffffffu, part & 4 ? v[i] : v[i + 4], 4);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        two[i] = (part & 2 ? four[i + 2] : four[i]) + __shfl_xor_sync(0xffffffffu, part & 2 ? four[i] : four[i + 2], 2);
    }
    return (part & 1 ? two[1] : two[0]) + __shfl_xor_sync(0xffffffffu, part & 1 ? two[0] : two[1], 1);
}

// The largest number of outputs of a lane, at most ``most``, that leaves whole warps.
DEVICE_HOST constexpr int outputs_of_lane(int outputs, int most) {
    return outputs / 4 % most ? outputs_of_lane(outputs, most - 1) : most;
}

// out(o, r, sum_k x[r][k] w[o][k]) for o < OUTPUTS, r < rows. Eight lanes share a sum, a float4 each; a lane works on
// some MOST_OUTS outputs times FEWEST_ROWS rows at once, so that what it reads serves several products.
template <int INNER, int OUTPUTS, int MOST_OUTS, int FEWEST_ROWS, typename Out>
DEVICE void rows_by_rows(const float* x, int stride, const float* w, int rows, Out out) {
    constexpr int OUTS = outputs_of_lane(OUTPUTS, MOST_OUTS);
    constexpr int WHOLE = OUTS % 4 == 0 ? 2 : OUTS % 2 == 0 ? 4 : 8;  // rows of a whole number of groups of eight sums
    constexpr int ROWS = (FEWEST_ROWS + WHOLE - 1) / WHOLE * WHOLE;
    constexpr int SETS = OUTPUTS / (4 * OUTS);  // warps side by side along the outputs
    constexpr int GROUPS = WARPS / SETS;        // and along the rows
    static_assert(OUTPUTS % (4 * OUTS) == 0 && OUTS * ROWS % 8 == 0, "whole warps, whole groups of eight sums");
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, part = lane % 8;
    const int group = warp / SETS;
    if (group >= GROUPS) return;
    const int o0 = (warp % SETS * 4 + lane / 8) * OUTS;
    for (int first = group; first < rows; first += GROUPS * ROWS) {
        float sum[ROWS * OUTS];
#pragma unroll
        for (int i = 0; i < ROWS * OUTS; i++) sum[i] = 0.0f;
#pragma unroll
        for (int k0 = 0; k0 < INNER; k0 += 32) {
            const int k = k0 + 4 * part;
            if (k < INNER) {
                float4 b[OUTS];
#pragma unroll
                for (int o = 0; o < OUTS; o++) b[o] = *reinterpret_cast<const float4*>(w + (o0 + o) * INNER + k);
#pragma unroll
                for (int i = 0; i < ROWS; i++) {
                    const int r = first + i * GROUPS;
                    if (r < rows) {
                        const float4 c = *reinterpret_cast<const float4*>(x + r * stride + k);
#pragma unroll
                        for (int o = 0; o < OUTS; o++) {
                            sum[i * OUTS + o] += c.x * b[o].x + c.y * b[o].y + c.z * b[o].z + c.w * b[o].w;
                        }
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < ROWS * OUTS; i += 8) {
            if (first + i / OUTS * GROUPS < rows) {
                const float total = sum_of_eight(sum + i, part);
                const int r = first + (i + part) / OUTS * GROUPS;
                if (r < rows) out(o0 + (i + part) % OUTS, r, total);
            }
        }
    }
}

// y[a][m][h] = sum_k x[a][m][k] w[k][h] for k < INNER, h < OUTPUTS, m < M.
template <int INNER, int OUTPUTS, int M>
DEVICE void rows_by_columns(const float* x, const float* w, float* y, int y_stride, int atoms) {
    for (int item = threadIdx.x; item < atoms * OUTPUTS; item += THREADS) {
        const int a = item / OUTPUTS, h = item % OUTPUTS;
        float sum[M];
#pragma unroll
        for (int m = 0; m < M; m++) sum[m] = 0.0f;
#pragma unroll
        for (int k = 0; k < INNER; k += 4) {
            float b[4];
#pragma unroll
            for (int q = 0; q < 4; q++) b[q] = w[(k + q) * OUTPUTS + h];
#pragma unroll
            for (int m = 0; m < M; m++) {
                const float4 c = *reinterpret_cast<const float4*>(x + (a * M + m) * INNER + k);
                sum[m] += c.x * b[0] + c.y * b[1] + c.z * b[2] + c.w * b[3];
            }
        }
#pragma unroll
        for (int m = 0; m < M; m++) y[(a * M + m) * y_stride + h] = sum[m];
    }
}

// The filters of one layer of the network for one feature: three channels of K weights and a bias.
struct Filter {
    float w[3][K];
    float bias[3];
    template <int CHANNELS>
    DEVICE void load(const float* filters, int f) {
#pragma unroll
        for (int c = 0; c < CHANNELS; c++) {
#pragma unroll
            for (int k = 0; k < K; k++) w[c][k] = __ldg(filters + (k * 3 + c) * OWN + f);
            bias[c] = __ldg(filters + (K * 3 + c) * OWN + f);
        }
    }
};

#ifndef CUDA_EMULATION
extern __shared__ float4 shared_memory[];
#endif

// With TIMELINE defined, the first block notes when it passes each MARK, in nanoseconds.
#ifdef TIMELINE
__device__ long long timeline[64];
#define MARK(n)                                                              \
    if (blockIdx.x == 0 && threadIdx.x == 0) {                               \
        long long now;                                                       \
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");    \
        timeline[n] = now;                                                   \
    }
#else
#define MARK(n)
#endif

struct Molecule {
    const Arguments& args;
    float* base;
    Layout at;
    Peers<CLUSTERED> peers;
    float *outside, *open;
    int rank, atoms, begin, thread, warp, lane, sub, f, f_global;

    DEVICE Molecule(const Arguments& arguments)
        : args(arguments),
          base(reinterpret_cast<float*>(shared_memory)),
          at(arguments.atoms, arguments.stash_shared),
          peers(arguments.counters + Counters::GROUPS) {
        outside = args.outside + static_cast<long long>(blockIdx.x) * at.outside;
        open = CLUSTERED ? base : outside;
        rank = peers.rank;
        begin = peers.group * args.atoms;
        atoms = min(args.atoms, args.n_atoms - begin);
        thread = threadIdx.x;
        warp = thread / 32;
        lane = thread % 32;
        sub = lane / OWN;
        f = lane % OWN;
        f_global = rank * OWN + f;
    }

    // The sum of what all blocks of the group have at ``mine``, in the order of the ranks.
    DEVICE float sum_of_peers(float* mine, float start) const {
        float part[RANKS];
#pragma unroll
        for (int peer = 0; peer < RANKS; peer++) part[peer] = peers.read(mine, peer, at.outside);
        float sum = start;
#pragma unroll
        for (int peer = 0; peer < RANKS; peer++) sum += part[peer];
        return sum;
    }

    DEVICE const float* weights(int layer) const { return base + layer * LAYER_WEIGHTS; }
    DEVICE const float* biases(int layer) const { return base + WEIGHTS + layer * BIASES; }
    DEVICE float* stash(int a, int layer) const {
        return (args.stash_shared ? base : outside) + at.stash + (a * LAYERS + layer) * STASH;
    }
    DEVICE float* messages(int layer, int n) const {
        return args.messages + ((static_cast<long long>(rank) * (LAYERS - 1) + layer - 1) * args.n_atoms + n) * 6 * OWN;
    }
    DEVICE float* gradients(int layer, int n) const {
        return args.gradients + ((static_cast<long long>(rank) * LAYERS + layer) * args.n_atoms + n) * 4 * OWN;
    }
    DEVICE const float* filters(int layer) const { return args.filters + (rank * LAYERS + layer) * FILTERS; }
    // For each neighbor the unit vector towards it and the distance that the network sees. Within the pair's wall
    // (student/wall.py) that is not the distance, and negative, to mark it: what else such a pair needs is computed anew.
    DEVICE float4* geometry(int a) const { return reinterpret_cast<float4*>(open + at.open_geometry) + a * CAPACITY; }
    DEVICE float2* cut(int a) const { return reinterpret_cast<float2*>(open + at.open_cut) + a * CAPACITY; }
    DEVICE int* index(int a) const { return reinterpret_cast<int*>(open + at.open_index) + a * CAPACITY; }
    DEVICE int* counts() const { return reinterpret_cast<int*>(base + at.count); }
    DEVICE Wall wall_between(int i, int j) const { return Wall(args.wall, args.numbers[i], args.numbers[j]); }
    DEVICE float distance_between(int i, int j) const {
        float squared = 0.0f;
#pragma unroll
        for (int axis = 0; axis < 3; axis++) {
            const float along = args.positions[3 * j + axis] - args.positions[3 * i + axis];
            squared += along * along;
        }
        return sqrtf(squared);
    }

    DEVICE void start_copies() {
        const float* from = args.weights + static_cast<long long>(rank) * WEIGHTS;
        for (int i = 4 * thread; i < WEIGHTS; i += 4 * THREADS) copy_async(base + i, from + i);
        from = args.biases + static_cast<long long>(rank) * LAYERS * BIASES;
        for (int i = 4 * thread; i < LAYERS * BIASES; i += 4 * THREADS) copy_async(base + WEIGHTS + i, from + i);
    }

    // Neighbors of the group's atoms, one warp an atom, in ascending order.
    DEVICE void find_neighbors() {
        const float cutoff = args.radial[0], rate = args.radial[2];
        for (int a = warp; a < atoms; a += WARPS) {
            const int i = begin + a;
            const int start = args.first[i], end = args.last[i];
            const float x = args.positions[3 * i], y = args.positions[3 * i + 1], z = args.positions[3 * i + 2];
            int count = 0;
            for (int j0 = start; j0 < end; j0 += 32) {
                const int j = j0 + lane;
                const bool other = j < end && j != i;
                const int q = other ? j : i;
                const Wall wall = wall_between(i, q);  // read here, to arrive while the distance is computed
                const float dx = args.positions[3 * q] - x, dy = args.positions[3 * q + 1] - y;
                const float dz = args.positions[3 * q + 2] - z;
                const float squared = dx * dx + dy * dy + dz * dz;
                // A NaN counts as near, so that it reaches energy and forces.
                const bool near = other && !(squared >= cutoff * cutoff);
                const unsigned found = __ballot_sync(0xffffffffu, near);
                const int slot = count + __popc(found & ((1u << lane) - 1u));
                if (near && slot < CAPACITY) {
                    const float d = sqrtf(squared);
                    const bool within = d < wall.end;
                    const float seen = within ? wall.seen(d) : d;
                    geometry(a)[slot] = make_float4(dx / d, dy / d, dz / d, within ? -seen : seen);
                    const bool beyond = seen >= cutoff;
                    cut(a)[slot] = make_float2(beyond ? 0.0f : 0.5f * (cosf(seen * rate) + 1.0f),
                                               beyond ? 0.0f : -0.5f * rate * sinf(seen * rate));
                    index(a)[slot] = j;
                }
                count += __popc(found);
            }
            if (lane == 0) {
                counts()[a] = min(count, CAPACITY);
                if (count > CAPACITY) atomicMax(args.most, count);
            }
        }
        for (int i = thread; i < atoms * CAPACITY * 4; i += THREADS) open[at.open_pull + i] = 0.0f;
        __syncthreads();
    }

    // Gaussians at distance d, and with SLOPES their derivatives, in this warp's scratch; one row for each of its neighbors.
    template <bool SLOPES>
    DEVICE const float* gaussians(float d) {
        float* scratch = base + at.scratch + (warp * AT_ONCE + sub) * 2 * KP;
        __syncwarp();
        const float exponent = __ldg(args.radial + 1);
#pragma unroll
        for (int k0 = 0; k0 < K; k0 += OWN) {
            const int k = k0 + f;
            if (k < K) {
                const float offset = d - __ldg(args.radial + 3 + k);
                const float value = __expf(exponent * offset * offset);
                scratch[k] = value;
                if (SLOPES) scratch[KP + k] = 2.0f * exponent * offset * value;
            }
        }
        __syncwarp();
        return scratch;
    }

    // One atom a group: all warps; two: half of them each. More: as many as take sixteen neighbors at once, on one atom after
    // the other, since the numbers of neighbors differ.
    DEVICE int warps_of_atom() const {
        return args.atoms == 1 ? WARPS : args.atoms == 2 ? WARPS / 2 : min(WARPS, 16 / AT_ONCE);
    }

    // The sum over the neighbors of a warp.
    DEVICE static float over_neighbors(float value) {
#pragma unroll
        for (int mask = OWN; mask < 32; mask *= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
        return value;
    }

    // The update mixes all features: every block of the group gets every vector, in two steps around a barrier.
    DEVICE void send_vector(int row, int q, float value) {
        const int i = row * F + rank * OWN + q;
        if constexpr (CLUSTERED) {
#pragma unroll
            for (int peer = 0; peer < RANKS; peer++) *of_peer(base + at.x + i, peer) = value;
        } else {
            open[at.open_x + i] = value;
        }
    }
    DEVICE void receive_vectors() {
        if constexpr (!CLUSTERED) {
            float4* to = reinterpret_cast<float4*>(base + at.x);
            float4* from = reinterpret_cast<float4*>(open + at.open_x);
            for (int i = thread; i < atoms * 3 * F / 4; i += THREADS) {
                to[i] = peers.read(from + i, i % (F / 4) / (OWN / 4), at.outside);
            }
            __syncthreads();
        }
    }

    // s and v after the message, in shared memory.
    template <bool FIRST>
    DEVICE void message_forward(int layer, const Filter& filter) {
        constexpr int CHANNELS = FIRST ? 2 : 3;
        const int warps_each = warps_of_atom(), part = warp % warps_each, at_once = WARPS / warps_each;
        for (int a0 = 0, buffer = 0; a0 < atoms; a0 += at_once, buffer ^= 1) {
            const int a = a0 + warp / warps_each;
            float s = 0.0f, vx = 0.0f, vy = 0.0f, vz = 0.0f;
            if (a < atoms) {
                const int count = counts()[a];
                for (int e0 = AT_ONCE * part; e0 < count; e0 += AT_ONCE * warps_each) {
                    const bool there = e0 + sub < count;
                    const int e = there ? e0 + sub : e0;
                    const int j = index(a)[e];
                    const float4 u = geometry(a)[e];
                    const float cut_value = there ? cut(a)[e].x : 0.0f;
                    float p[3], v[3];
                    if (FIRST) {
                        const float* from = args.first_phi + args.numbers[j] * 3 * F + f_global;
                        p[0] = __ldg(from);
                        p[1] = __ldg(from + F);
                    } else {
                        const float* from = messages(layer, j) + f;
#pragma unroll
                        for (int c = 0; c < 3; c++) p[c] = __ldcg(from + c * OWN);
#pragma unroll
                        for (int c = 0; c < 3; c++) v[c] = __ldcg(from + (3 + c) * OWN);
                    }
                    const float* g = gaussians<false>(fabsf(u.w));
                    float w[CHANNELS];
#pragma unroll
                    for (int c = 0; c < CHANNELS; c++) w[c] = filter.bias[c];
#pragma unroll
                    for (int k = 0; k < K; k += 4) {
                        const float4 g4 = *reinterpret_cast<const float4*>(g + k);
                        const float gk[4] = {g4.x, g4.y, g4.z, g4.w};
#pragma unroll
                        for (int q = 0; q < 4 && k + q < K; q++) {
#pragma unroll
                            for (int c = 0; c < CHANNELS; c++) w[c] += gk[q] * filter.w[c][k + q];
                        }
                    }
#pragma unroll
                    for (int c = 0; c < CHANNELS; c++) w[c] *= cut_value * p[c];
                    s += w[0];
                    vx += w[1] * u.x;
                    vy += w[1] * u.y;
                    vz += w[1] * u.z;
                    if (!FIRST) {
                        vx += w[CHANNELS - 1] * v[0];
                        vy += w[CHANNELS - 1] * v[1];
                        vz += w[CHANNELS - 1] * v[2];
                    }
                }
            }
            float* partials = base + at.partial + buffer * WARPS * 6 * OWN;
            s = over_neighbors(s);
            vx = over_neighbors(vx);
            vy = over_neighbors(vy);
            vz = over_neighbors(vz);
            if (sub == 0) {
                float* partial = partials + warp * 6 * OWN;
                partial[f] = s;
                partial[OWN + f] = vx;
                partial[2 * OWN + f] = vy;
                partial[3 * OWN + f] = vz;
            }
            __syncthreads();
            for (int item = thread; item < at_once * 4 * OWN; item += THREADS) {
                const int at_round = item / (4 * OWN), b = a0 + at_round, c = item / OWN % 4, q = item % OWN;
                if (b >= atoms) break;
                float sum = 0.0f;
                for (int w = 0; w < warps_each; w++) sum += partials[(at_round * warps_each + w) * 6 * OWN + c * OWN + q];
                if (c == 0) {
                    float* to = base + at.s + b * 2 * OWN + q;
                    *to = (FIRST ? __ldg(args.embedding + args.numbers[begin + b] * F + rank * OWN + q) : *to) + sum;
                } else {
                    float* to = base + at.v + (b * 3 + c - 1) * OWN + q;
                    sum += FIRST ? 0.0f : *to;
                    *to = sum;
                    send_vector(b * 3 + c - 1, q, sum);
                }
            }
        }
        peers.barrier();
        receive_vectors();
    }

    // The update, and the head on its result. Leaves s and v, hands phi and v to the other groups.
    template <bool LAST>
    DEVICE void node_forward(int layer) {
        constexpr int HEAD = LAST ? R : H;
        const float* w = weights(layer);
        const float* b = biases(layer);
        float* x = base + at.x;
        float* uv = base + at.uv;
        float* act = base + at.act;
        auto keep = [&](int o, int r, float value) {
            uv[(r / 3 * 6 + o / OWN * 3 + r % 3) * OWN + o % OWN] = value;
        };
        // Few rows: all warps side by side; many: each warp on several outputs and rows.
        if (args.atoms <= 2) {
            rows_by_rows<F, 2 * OWN, 1, 8>(x, F, w, 3 * atoms, keep);
        } else {
            rows_by_rows<F, 2 * OWN, 4, 6>(x, F, w, 3 * atoms, keep);
        }
        __syncthreads();
        for (int item = thread; item < atoms * OWN; item += THREADS) {
            const int a = item / OWN, q = item % OWN;
            const float* vv = uv + a * 6 * OWN + q;
            base[at.s + a * 2 * OWN + OWN + q] =
                sqrtf(vv[0] * vv[0] + vv[OWN] * vv[OWN] + vv[2 * OWN] * vv[2 * OWN] + NORM_EPSILON);
        }
        __syncthreads();
        w += MIX;
        rows_by_columns<2 * OWN, H, 1>(base + at.s, w, open + at.open_h1, HM, atoms);
        for (int item = thread; item < atoms * 6 * OWN; item += THREADS) {
            stash(item / (6 * OWN), layer)[STASH_UV + item % (6 * OWN)] = uv[item];
        }
        peers.barrier();
        for (int item = thread; item < atoms * H; item += THREADS) {
            const int a = item / H, h = item % H;
            const float value = sum_of_peers(open + at.open_h1 + a * HM + h, b[h]);
            stash(a, layer)[STASH_H1 + h] = value;
            act[a * HM + h] = value * sigmoid(value);
        }
        __syncthreads();
        w += MLP_IN;
        b += H;
        float* mixed = base + at.g_phi;  // free until the reverse pass
        rows_by_rows<H, 3 * OWN, 4, 4>(act, HM, w, atoms,
                                    [&](int o, int r, float value) { mixed[r * 3 * OWN + o] = value + b[o]; });
        __syncthreads();
        for (int item = thread; item < atoms * OWN; item += THREADS) {
            const int a = item / OWN, q = item % OWN;
            const float* vv = uv + a * 6 * OWN + q;
            const float* uu = vv + 3 * OWN;
            const float* m = mixed + a * 3 * OWN + q;
            float dot = 0.0f;
#pragma unroll
            for (int c = 0; c < 3; c++) {
                dot += uu[c * OWN] * vv[c * OWN];
                base[at.v + (a * 3 + c) * OWN + q] += m[OWN] * uu[c * OWN];
            }
            const float s = base[at.s + a * 2 * OWN + q] + m[0] + m[2 * OWN] * dot;
            base[at.s + a * 2 * OWN + q] = s;
            base[at.gs + a * OWN + q] = s;  // packed, for the product below
            stash(a, layer)[STASH_MIX + q] = m[OWN];
            stash(a, layer)[STASH_MIX + OWN + q] = m[2 * OWN];
        }
        __syncthreads();
        w += MLP_OUT;
        b += 3 * OWN;
        rows_by_columns<OWN, HEAD, 1>(base + at.gs, w, open + at.open_h2, HM, atoms);
        peers.barrier();
        for (int item = thread; item < atoms * HEAD; item += THREADS) {
            const int a = item / HEAD, h = item % HEAD;
            const float value = sum_of_peers(open + at.open_h2 + a * HM + h, b[h]);
            stash(a, layer)[STASH_H2 + h] = value;
            // After the last layer the reverse pass begins with dE/dh; the energy itself is for later.
            act[a * HM + h] = LAST ? w[OWN * HEAD + h] * silu_slope(value) : value * sigmoid(value);
        }
        __syncthreads();
        w += OWN * HEAD;
        b += HM;
        if (!LAST) {
            rows_by_rows<H, 3 * OWN, 4, 4>(act, HM, w, atoms, [&](int o, int r, float value) {
                messages(layer + 1, begin + r)[o] = value + b[o];
            });
            for (int item = thread; item < atoms * 3 * OWN; item += THREADS) {
                messages(layer + 1, begin + item / (3 * OWN))[3 * OWN + item % (3 * OWN)] = base[at.v + item];
            }
        }
    }

    // Energies of the group's atoms, one warp an atom; all blocks of the group would find the same.
    DEVICE void atomic_energies() {
        if (rank != 0) return;
        const float* w = weights(LAYERS - 1) + MIX + MLP_IN + MLP_OUT + OWN * R;
        const float bias = biases(LAYERS - 1)[H + 3 * OWN + HM];
        for (int a = warp; a < atoms; a += WARPS) {
            const float* hidden = stash(a, LAYERS - 1) + STASH_H2;
            float sum = 0.0f;
            for (int h = lane; h < R; h += 32) sum += hidden[h] * sigmoid(hidden[h]) * w[h];
            // Each atom of a pair has half of its wall's energy.
            for (int e = lane; e < counts()[a]; e += 32) {
                if (geometry(a)[e].w >= 0.0f) continue;
                const int i = begin + a, j = index(a)[e];
                sum += 0.5f * wall_between(i, j).repulsion(distance_between(i, j));
            }
#pragma unroll
            for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
            if (lane == 0) args.atomic[begin + a] = sum + bias;
        }
    }

    // The reverse of node_forward: from dE/ds', dE/dv' and dE/dphi to dE/ds and dE/dv, handed to the other groups.
    template <bool LAST>
    DEVICE void node_backward(int layer) {
        constexpr int HEAD = LAST ? R : H;
        const float* w_mix = weights(layer);
        const float* w_in = w_mix + MIX;
        const float* w_out = w_in + MLP_IN;
        const float* w_head_in = w_out + MLP_OUT;
        const float* w_head_out = w_head_in + OWN * HEAD;
        float* act = base + at.act;
        float* gs = base + at.gs;
        float* gv = base + at.gv;
        float* g_mixed = base + at.g_phi;
        if (!LAST) {
            rows_by_columns<3 * OWN, H, 1>(base + at.g_phi, w_head_out, open + at.open_h2, HM, atoms);
            peers.barrier();
            for (int item = thread; item < atoms * H; item += THREADS) {
                const int a = item / H, h = item % H;
                act[a * HM + h] =
                    sum_of_peers(open + at.open_h2 + a * HM + h, 0.0f) * silu_slope(stash(a, layer)[STASH_H2 + h]);
            }
        }
        __syncthreads();
        rows_by_rows<HEAD, OWN, 1, 8>(act, HM, w_head_in, atoms, [&](int o, int r, float value) {
            gs[r * OWN + o] = value + (LAST ? 0.0f : gs[r * OWN + o]);
        });
        __syncthreads();
        for (int item = thread; item < atoms * OWN; item += THREADS) {
            const int a = item / OWN, q = item % OWN;
            const float* vv = stash(a, layer) + STASH_UV + q;
            const float* uu = vv + 3 * OWN;
            float dot = 0.0f, along = 0.0f;
#pragma unroll
            for (int c = 0; c < 3; c++) {
                dot += uu[c * OWN] * vv[c * OWN];
                if (!LAST) along += uu[c * OWN] * gv[(a * 3 + c) * OWN + q];
            }
            g_mixed[a * 3 * OWN + q] = gs[a * OWN + q];
            g_mixed[a * 3 * OWN + OWN + q] = along;
            g_mixed[a * 3 * OWN + 2 * OWN + q] = gs[a * OWN + q] * dot;
        }
        __syncthreads();
        // h1, not h2: a slower block may still be reading h2 of the step before.
        rows_by_columns<3 * OWN, H, 1>(g_mixed, w_out, open + at.open_h1, HM, atoms);
        peers.barrier();
        for (int item = thread; item < atoms * H; item += THREADS) {
            const int a = item / H, h = item % H;
            act[a * HM + h] = sum_of_peers(open + at.open_h1 + a * HM + h, 0.0f) * silu_slope(stash(a, layer)[STASH_H1 + h]);
        }
        __syncthreads();
        float* g_uv = base + at.uv;  // [atom][3][dE/d(V v) own, dE/d(U v) own]
        rows_by_rows<H, 2 * OWN, 4, 2>(act, HM, w_in, atoms, [&](int o, int r, float value) {
            if (o < OWN) {
                base[at.s + r * 2 * OWN + o] = gs[r * OWN + o] + value;  // dE/ds; gs is still needed
            } else {
                base[at.s + r * 2 * OWN + o] = value;  // dE/dnorm
            }
        });
        __syncthreads();
        for (int item = thread; item < atoms * OWN; item += THREADS) {
            const int a = item / OWN, q = item % OWN;
            const float* vv = stash(a, layer) + STASH_UV + q;
            const float* uu = vv + 3 * OWN;
            const float a_vv = stash(a, layer)[STASH_MIX + q];
            const float g_dot = gs[a * OWN + q] * stash(a, layer)[STASH_MIX + OWN + q];
            const float norm = sqrtf(vv[0] * vv[0] + vv[OWN] * vv[OWN] + vv[2 * OWN] * vv[2 * OWN] + NORM_EPSILON);
            const float g_norm = base[at.s + a * 2 * OWN + OWN + q] / norm;
#pragma unroll
            for (int c = 0; c < 3; c++) {
                float* to = g_uv + (a * 3 + c) * 2 * OWN + q;
                to[0] = g_dot * uu[c * OWN] + g_norm * vv[c * OWN];
                to[OWN] = g_dot * vv[c * OWN] + (LAST ? 0.0f : a_vv * gv[(a * 3 + c) * OWN + q]);
            }
            const float g = base[at.s + a * 2 * OWN + q];
            gs[a * OWN + q] = g;
            gradients(layer, begin + a)[q] = g;
        }
        __syncthreads();
        rows_by_columns<2 * OWN, F, 3>(g_uv, w_mix, open + at.open_x, F, atoms);
        peers.barrier();
        for (int item = thread; item < atoms * 3 * OWN; item += THREADS) {
            const int row = item / OWN, q = item % OWN;
            const float g = sum_of_peers(open + at.open_x + row * F + rank * OWN + q, LAST ? 0.0f : gv[item]);
            gv[item] = g;
            gradients(layer, begin + row / 3)[OWN + row % 3 * OWN + q] = g;
        }
    }

    // The reverse of message_forward, for the messages that the group's atoms send: their receivers are their
    // neighbors, seen from -u. Adds to the pulls; leaves dE/dphi and dE/dv.
    template <bool FIRST>
    DEVICE void message_backward(int layer, const Filter& filter) {
        constexpr int CHANNELS = FIRST ? 2 : 3;
        const int warps_each = warps_of_atom(), part = warp % warps_each, at_once = WARPS / warps_each;
        for (int a0 = 0, buffer = 0; a0 < atoms; a0 += at_once, buffer ^= 1) {
            const int a = a0 + warp / warps_each;
            float gp[3] = {0.0f, 0.0f, 0.0f}, gvj[3] = {0.0f, 0.0f, 0.0f};
            if (a < atoms) {
                const int count = counts()[a];
                float p[3], v[3];
                if (FIRST) {
                    const float* from = args.first_phi + args.numbers[begin + a] * 3 * F + f_global;
                    p[0] = __ldg(from);
                    p[1] = __ldg(from + F);
                } else {
                    const float* from = messages(layer, begin + a) + f;
#pragma unroll
                    for (int c = 0; c < 3; c++) p[c] = __ldcg(from + c * OWN);
#pragma unroll
                    for (int c = 0; c < 3; c++) v[c] = __ldcg(from + (3 + c) * OWN);
                }
                for (int e0 = AT_ONCE * part; e0 < count; e0 += AT_ONCE * warps_each) {
                    const bool there = e0 + sub < count;
                    const int e = there ? e0 + sub : e0;
                    const int i = index(a)[e];
                    const float4 u = geometry(a)[e];
                    const float2 cuts = cut(a)[e];
                    const float cut_value = there ? cuts.x : 0.0f, cut_slope = there ? cuts.y : 0.0f;
                    const float* from = gradients(layer, i) + f;
                    const float gs = __ldcg(from), gx = __ldcg(from + OWN), gy = __ldcg(from + 2 * OWN);
                    const float gz = __ldcg(from + 3 * OWN);
                    const float* g = gaussians<true>(fabsf(u.w));
                    float w[CHANNELS], slope[CHANNELS];
#pragma unroll
                    for (int c = 0; c < CHANNELS; c++) {
                        w[c] = filter.bias[c];
                        slope[c] = 0.0f;
                    }
#pragma unroll
                    for (int k = 0; k < K; k += 4) {
                        const float4 g4 = *reinterpret_cast<const float4*>(g + k);
                        const float4 d4 = *reinterpret_cast<const float4*>(g + KP + k);
                        const float gk[4] = {g4.x, g4.y, g4.z, g4.w}, dk[4] = {d4.x, d4.y, d4.z, d4.w};
#pragma unroll
                        for (int q = 0; q < 4 && k + q < K; q++) {
#pragma unroll
                            for (int c = 0; c < CHANNELS; c++) {
                                w[c] += gk[q] * filter.w[c][k + q];
                                slope[c] += dk[q] * filter.w[c][k + q];
                            }
                        }
                    }
#pragma unroll
                    for (int c = 0; c < CHANNELS; c++) {
                        slope[c] = slope[c] * cut_value + w[c] * cut_slope;
                        w[c] *= cut_value;
                    }
                    const float along = -(gx * u.x + gy * u.y + gz * u.z);
                    float sum[4];
                    sum[0] = gs * slope[0] * p[0] + along * slope[1] * p[1];
                    const float wp = w[1] * p[1];
                    sum[1] = wp * gx;
                    sum[2] = wp * gy;
                    sum[3] = wp * gz;
                    if (!FIRST) {
                        const float carried = gx * v[0] + gy * v[1] + gz * v[2];
                        sum[0] += carried * slope[CHANNELS - 1] * p[2];
                        gp[0] += gs * w[0];
                        gp[1] += along * w[1];
                        gp[2] += carried * w[CHANNELS - 1];
                        const float wc = w[CHANNELS - 1] * p[2];
                        gvj[0] += wc * gx;
                        gvj[1] += wc * gy;
                        gvj[2] += wc * gz;
                    }
                    // OWN lanes, four sums: halve the number of values, then that of the lanes.
                    const bool high = f & OWN / 2;
                    const float send0 = high ? sum[0] : sum[2], send1 = high ? sum[1] : sum[3];
                    float keep0 = high ? sum[2] : sum[0], keep1 = high ? sum[3] : sum[1];
                    keep0 += __shfl_xor_sync(0xffffffffu, send0, OWN / 2);
                    keep1 += __shfl_xor_sync(0xffffffffu, send1, OWN / 2);
                    const bool middle = f & OWN / 4;
                    float total =
                        (middle ? keep1 : keep0) + __shfl_xor_sync(0xffffffffu, middle ? keep0 : keep1, OWN / 4);
#pragma unroll
                    for (int mask = OWN / 8; mask > 0; mask /= 2) total += __shfl_xor_sync(0xffffffffu, total, mask);
                    if (there && f % (OWN / 4) == 0) {
                        const int part_of_pull = (high ? 2 : 0) + (middle ? 1 : 0);
                        peers.add(open + at.open_pull + (a * CAPACITY + e) * 4 + part_of_pull, total);
                    }
                }
            }
            if (FIRST) continue;
            float* partials = base + at.partial + buffer * WARPS * 6 * OWN;
#pragma unroll
            for (int c = 0; c < 3; c++) {
                gp[c] = over_neighbors(gp[c]);
                gvj[c] = over_neighbors(gvj[c]);
                if (sub == 0) {
                    partials[(warp * 6 + c) * OWN + f] = gp[c];
                    partials[(warp * 6 + 3 + c) * OWN + f] = gvj[c];
                }
            }
            __syncthreads();
            for (int item = thread; item < at_once * 6 * OWN; item += THREADS) {
                const int at_round = item / (6 * OWN), b = a0 + at_round, c = item % (6 * OWN);
                if (b >= atoms) break;
                float sum = 0.0f;
                for (int w = 0; w < warps_each; w++) sum += partials[(at_round * warps_each + w) * 6 * OWN + c];
                if (c < 3 * OWN) {
                    base[at.g_phi + b * 3 * OWN + c] = sum;
                } else {
                    base[at.gv + b * 3 * OWN + c - 3 * OWN] += sum;
                }
            }
        }
        __syncthreads();
    }

    // dE/dr of the pairs (sender j of this group, receiver i), summed over the features of all blocks.
    DEVICE void hand_over_pulls() {
        peers.barrier();
        for (int item = thread * RANKS + rank; item < atoms * CAPACITY; item += THREADS * RANKS) {
            const int a = item / CAPACITY, e = item % CAPACITY;
            if (e >= counts()[a]) continue;
            float sum[4];
#pragma unroll
            for (int c = 0; c < 4; c++) sum[c] = sum_of_peers(open + at.open_pull + item * 4 + c, 0.0f);
            // The unit vector of the message points from receiver to sender.
            const float4 u = geometry(a)[e];
            const float ux = -u.x, uy = -u.y, uz = -u.z;
            float d = u.w, radial = sum[0];
            if (u.w < 0.0f) {
                const int i = index(a)[e], j = begin + a;
                const Wall wall = wall_between(i, j);
                d = distance_between(i, j);
                radial = radial * wall.seen_slope(d) + 0.5f * wall.repulsion_slope(d);
            }
            const float along = radial - (sum[1] * ux + sum[2] * uy + sum[3] * uz) / d;
            float* to = args.pulls + (static_cast<long long>(begin + a) * args.n_atoms + index(a)[e]) * 4;
            to[0] = along * ux + sum[1] / d;
            to[1] = along * uy + sum[2] / d;
            to[2] = along * uz + sum[3] / d;
        }
    }

    // F_j = sum_i pull(i, j) - pull(j, i), one warp an atom.
    DEVICE void sum_forces() {
        for (int a = rank * WARPS + warp; a < atoms; a += RANKS * WARPS) {
            const int j = begin + a;
            const int count = counts()[a];
            float sum[3] = {0.0f, 0.0f, 0.0f};
            for (int e = lane; e < count; e += 32) {
                const int i = index(a)[e];
                const float* mine = args.pulls + (static_cast<long long>(j) * args.n_atoms + i) * 4;
                const float* theirs = args.pulls + (static_cast<long long>(i) * args.n_atoms + j) * 4;
#pragma unroll
                for (int c = 0; c < 3; c++) sum[c] += __ldcg(theirs + c) - __ldcg(mine + c);
            }
#pragma unroll
            for (int c = 0; c < 3; c++) {
#pragma unroll
                for (int offset = 16; offset > 0; offset /= 2) sum[c] += __shfl_xor_sync(0xffffffffu, sum[c], offset);
                // x - x is zero, or NaN for a position that is not finite, also without neighbors.
                const float x = args.positions[3 * j + c];
                if (lane == c) args.forces[3 * j + c] = sum[c] + (x - x);
            }
        }
    }

    // One warp a system.
    DEVICE void sum_energies() {
        for (int system = blockIdx.x * WARPS + warp; system < args.n_systems; system += gridDim.x * WARPS) {
            double sum = 0.0;
            for (int n = args.starts[system] + lane; n < args.starts[system + 1]; n += 32) {
                sum += static_cast<double>(__ldcg(args.atomic + n)) + args.references[args.numbers[n]];
            }
#pragma unroll
            for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
            if (lane == 0) args.energies[system] = sum;
        }
    }

    // Messages go between blocks that own the same features.
    DEVICE void wait_for_messages() { wait_for_blocks(args.counters + rank, peers.groups); }

    DEVICE void evaluate() {
        MARK(0)
        Filter filter;
        filter.load<2>(filters(0), f);
        find_neighbors();
        peers.all_run();
        MARK(1)
        message_forward<true>(0, filter);
        MARK(2)
        copies_arrived();
        __syncthreads();
        MARK(3)
#pragma unroll 1
        for (int layer = 0; layer < LAYERS - 1; layer++) {
            node_forward<false>(layer);
            MARK(4 + 3 * layer)
            filter.load<3>(filters(layer + 1), f);
            wait_for_messages();
            MARK(5 + 3 * layer)
            message_forward<false>(layer + 1, filter);
            MARK(6 + 3 * layer)
        }
        node_forward<true>(LAYERS - 1);
        MARK(20)
        if (args.with_forces) {
            node_backward<true>(LAYERS - 1);
            MARK(21)
            wait_for_messages();
            MARK(22)
#pragma unroll 1
            for (int layer = LAYERS - 1; layer > 0; layer--) {
                message_backward<false>(layer, filter);
                MARK(20 + 3 * layer)
                node_backward<false>(layer - 1);
                MARK(21 + 3 * layer)
                filter.load<3>(filters(layer - 1), f);
                wait_for_messages();
                MARK(22 + 3 * layer)
            }
            message_backward<true>(0, filter);
            MARK(40)
            hand_over_pulls();
        }
        atomic_energies();
        peers.all_run();
        MARK(41)
        wait_for_blocks(args.counters + Counters::ALL, gridDim.x);
        MARK(42)
        if (args.with_forces) sum_forces();
        sum_energies();
        MARK(43)
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) molecule(const __grid_constant__ Arguments args) {
    Molecule work(args);
    work.start_copies();
    work.evaluate();
}

// Sizes by which the host packs weights and makes buffers.
extern "C" void molecule_sizes(int* sizes) {
    const int values[] = {RANKS, LAYERS, MAX_ATOMS, CAPACITY, SHARED_LIMIT};
    for (int i = 0; i < 5; i++) sizes[i] = values[i];
}

// The sizes and constants that this was compiled with.
extern "C" const char* molecule_built_for() { return TEXT(BUILT_FOR); }

extern "C" int molecule_sizeof_arguments() { return int(sizeof(Arguments)); }

// Of one block for ``atoms`` atoms a group: bytes of shared memory, and floats outside of it.
extern "C" int molecule_shared_bytes(int atoms, int stash_shared) {
    return Layout(atoms, stash_shared).total * int(sizeof(float));
}
extern "C" int molecule_outside_floats(int atoms, int stash_shared) { return Layout(atoms, stash_shared).outside; }

extern "C" int molecule_counters(int groups) { return Counters::total(groups); }

// What is read of new atoms, and where to.
struct Reading {
    const long long* numbers;  // [N] on the device
    const long long* batch;    // [N] on the device
    long long* host;           // [2][room] on the host: both
    const unsigned char* known;  // [elements] whether an atomic number is answered
    int* host_indices;         // [3 N + 2] on the host: numbers, first, last, starts of Arguments
    int* indices;              // [3 N + 2] on the device
    int n_atoms;
    int room;
};

extern "C" int molecule_sizeof_reading() { return int(sizeof(Reading)); }

// Whether what is on the host now is one molecule of known elements; if so, its indices are there, too.
static bool one_molecule(const Reading& reading) {
    const int n = reading.n_atoms;
    int* numbers = reading.host_indices;
    for (int i = 0; i < n; i++) {
        const long long number = reading.host[i];
        if (reading.host[reading.room + i] != 0 || number < 0 || number >= ELEMENTS || !reading.known[number]) return false;
        numbers[i] = int(number);
        numbers[n + i] = 0;
        numbers[2 * n + i] = n;
    }
    numbers[3 * n] = 0;
    numbers[3 * n + 1] = n;
    return true;
}

#ifndef CUDA_EMULATION

// 1 where the atoms are one molecule of known elements, whose indices are on their way to the device then; 0 where they are
// not; a negative CUDA error otherwise. Waits for the stream.
extern "C" int molecule_read(const Reading* reading, void* to) {
    const cudaStream_t stream = static_cast<cudaStream_t>(to);
    const size_t bytes = sizeof(long long) * reading->n_atoms;
    cudaError_t error = cudaMemcpyAsync(reading->host, reading->numbers, bytes, cudaMemcpyDeviceToHost, stream);
    if (error == cudaSuccess) {
        error = cudaMemcpyAsync(reading->host + reading->room, reading->batch, bytes, cudaMemcpyDeviceToHost, stream);
    }
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
    if (error != cudaSuccess) return -int(error);
    if (!one_molecule(*reading)) return 0;
    error = cudaMemcpyAsync(reading->indices, reading->host_indices, sizeof(int) * (3 * reading->n_atoms + 2),
                            cudaMemcpyHostToDevice, stream);
    return error == cudaSuccess ? 1 : -int(error);
}

// The attributes of a launch of ``groups`` groups: its blocks all run at once, as they wait for one another, or it fails.
struct Launch {
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attributes[2];
    Launch(int groups, int bytes) {
        config.gridDim = dim3(groups * RANKS);
        config.blockDim = dim3(THREADS);
        config.dynamicSmemBytes = bytes;
        attributes[0].id = cudaLaunchAttributeCooperative;
        attributes[0].val.cooperative = 1;
        attributes[1].id = cudaLaunchAttributeClusterDimension;
        attributes[1].val.clusterDim.x = RANKS;
        attributes[1].val.clusterDim.y = 1;
        attributes[1].val.clusterDim.z = 1;
        config.attrs = attributes;
        config.numAttrs = CLUSTERED ? 2 : 1;
    }
};

// How many groups with ``bytes`` of shared memory each block the device holds at once; none where the driver does not
// guarantee that all blocks of a launch run at once. A negative CUDA error otherwise.
extern "C" int molecule_max_groups(int bytes) {
    int device = 0, cooperative = 0, processors = 0, found = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess) error = cudaFuncSetAttribute(molecule, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return -int(error);
    if (!cooperative) return 0;
    Launch launch(1, bytes);
    if (CLUSTERED) {
        launch.config.attrs = launch.attributes + 1;
        launch.config.numAttrs = 1;
        error = cudaOccupancyMaxActiveClusters(&found, molecule, &launch.config);
        return error == cudaSuccess ? found : -int(error);
    }
    error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&found, molecule, THREADS, bytes);
    return error == cudaSuccess ? found * processors / RANKS : -int(error);
}

// 0, or a CUDA error.
extern "C" int molecule_launch(const Arguments* args, int groups, void* stream) {
    Launch launch(groups, molecule_shared_bytes(args->atoms, args->stash_shared));
    launch.config.stream = static_cast<cudaStream_t>(stream);
    return int(cudaLaunchKernelEx(&launch.config, molecule, *args));
}

// A graph of one launch, and of a transfer before it: to start it takes a third of the host's time of a launch, with other
// arguments each time, too.
struct Ready {
    cudaGraph_t graph = nullptr;
    cudaGraphNode_t node = nullptr;
    cudaGraphExec_t executable = nullptr;
};

// ``argument`` is filled with the address of ``args``, and must live as long as what is returned.
static cudaKernelNodeParams node_of(const Arguments* args, int groups, void** argument) {
    *argument = const_cast<Arguments*>(args);
    cudaKernelNodeParams node = {};
    node.func = reinterpret_cast<void*>(molecule);
    node.gridDim = dim3(groups * RANKS);
    node.blockDim = dim3(THREADS);
    node.sharedMemBytes = molecule_shared_bytes(args->atoms, args->stash_shared);
    node.kernelParams = argument;
    return node;
}

extern "C" void molecule_forget(Ready* ready) {
    if (ready->executable) cudaGraphExecDestroy(ready->executable);
    if (ready->graph) cudaGraphDestroy(ready->graph);
    delete ready;
}

// 0, or a CUDA error; then there is nothing to forget. With positions in pinned memory of the host, ``sent``, each start
// brings them to where these arguments have theirs.
extern "C" int molecule_prepare(const Arguments* args, int groups, const void* sent, Ready** made) {
    Ready* ready = new Ready;
    void* argument;
    const cudaKernelNodeParams node = node_of(args, groups, &argument);
    Launch launch(groups, int(node.sharedMemBytes));
    cudaGraphNode_t transfer;
    cudaError_t error = cudaGraphCreate(&ready->graph, 0);
    if (error == cudaSuccess && sent) {
        error = cudaGraphAddMemcpyNode1D(&transfer, ready->graph, nullptr, 0, const_cast<float*>(args->positions), sent,
                                         3 * sizeof(float) * args->n_atoms, cudaMemcpyHostToDevice);
    }
    if (error == cudaSuccess) {
        error = cudaGraphAddKernelNode(&ready->node, ready->graph, sent ? &transfer : nullptr, sent ? 1 : 0, &node);
    }
    for (unsigned k = 0; error == cudaSuccess && k < launch.config.numAttrs; k++) {
        error = cudaGraphKernelNodeSetAttribute(ready->node, launch.attributes[k].id, &launch.attributes[k].val);
    }
    if (error == cudaSuccess) error = cudaGraphInstantiate(&ready->executable, ready->graph, 0);
    if (error == cudaSuccess) {
        *made = ready;
    } else {
        molecule_forget(ready);
    }
    return int(error);
}

// The launch that was made ready, with these arguments and so many groups. 0, or a CUDA error.
extern "C" int molecule_start(Ready* ready, const Arguments* args, int groups, void* stream) {
    void* argument;
    const cudaKernelNodeParams node = node_of(args, groups, &argument);
    cudaError_t error = cudaGraphExecKernelNodeSetParams(ready->executable, ready->node, &node);
    if (error == cudaSuccess) error = cudaGraphLaunch(ready->executable, static_cast<cudaStream_t>(stream));
    return int(error);
}

#ifdef TIMELINE
extern "C" int molecule_timeline(long long* nanoseconds) {
    return int(cudaMemcpyFromSymbol(nanoseconds, timeline, sizeof(timeline)));
}
#endif

extern "C" const char* molecule_error(int error) { return cudaGetErrorString(cudaError_t(error)); }

#endif
