// CUDA kernels on a CPU: every thread of a launch is a fiber, run in random order between barriers, some blocks slower.
//
// Slow and exact: what a kernel computes, and whether a barrier is missing (another order of threads then gives other
// results; shared memory starts as NaN), not how fast it is. Include before all else, compiled with CUDA_EMULATION.
#pragma once

// The checked longjmp takes a jump to another stack for an error. Which one it is, is settled by the first header of the system.
#ifdef _FEATURES_H
#error "emulation.hpp is to be included first"
#endif
#undef _FORTIFY_SOURCE

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define DEVICE inline
#define DEVICE_HOST inline

using std::max;
using std::min;

struct dim3 {
    int x = 0, y = 0, z = 0;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

void __syncwarp();

namespace emulation {

constexpr int STACK = 96 * 1024;
constexpr unsigned PASSES = 16;

struct Barrier {
    int size = 0, waiting = 0;
    long generation = 0;
};

struct Fiber {
    ucontext_t context;  // to start with; switching back and forth by jumps needs no system calls
    jmp_buf jump;
    bool started = false;
    std::unique_ptr<char[]> stack;
    int block = 0, thread = 0;
    bool done = false;
    const Barrier* blocked = nullptr;
    long generation = 0;
};

struct Machine {
    int blocks, threads, cluster;
    std::vector<std::vector<float>> shared;
    std::vector<Barrier> block_barriers, cluster_barriers, warp_barriers;
    std::vector<double> lanes;
    unsigned (*registers)[6] = nullptr;  // of every thread, for products of a warp
    std::map<std::pair<int, int>, std::vector<float4>> arrays;
    std::vector<Fiber> fibers;
    jmp_buf scheduler;
    Fiber* running = nullptr;
    void (*entry)(const void*) = nullptr;
    const void* argument = nullptr;
};

inline Machine* machine = nullptr;

inline void yield() {
    if (!_setjmp(machine->running->jump)) _longjmp(machine->scheduler, 1);
}

inline void wait(Barrier& barrier) {
    Fiber& fiber = *machine->running;
    if (++barrier.waiting == barrier.size) {
        barrier.waiting = 0;
        barrier.generation++;
        return;
    }
    fiber.blocked = &barrier;
    fiber.generation = barrier.generation;
    yield();
    fiber.blocked = nullptr;
}

inline int warp_index() {
    return machine->running->block * (machine->threads / 32) + machine->running->thread / 32;
}

inline void start() {
    machine->entry(machine->argument);
    machine->running->done = true;
    _longjmp(machine->scheduler, 1);
}

// Goes on with the running fiber until it waits or is done.
inline void resume() {
    Fiber& fiber = *machine->running;
    if (_setjmp(machine->scheduler)) return;
    if (fiber.started) _longjmp(fiber.jump, 1);
    fiber.started = true;
    setcontext(&fiber.context);
}

// Run ``entry(argument)`` in every thread of ``blocks`` blocks; ``seed`` chooses the order.
inline void launch(void (*entry)(const void*), const void* argument, int blocks, int threads, int cluster,
                   int shared_floats, unsigned seed) {
    Machine all;
    machine = &all;
    all.blocks = blocks;
    all.threads = threads;
    all.cluster = cluster;
    all.entry = entry;
    all.argument = argument;
    all.shared.assign(blocks, std::vector<float>(shared_floats + 4, std::numeric_limits<float>::quiet_NaN()));
    all.block_barriers.assign(blocks, Barrier{threads});
    all.cluster_barriers.assign(blocks / cluster, Barrier{threads * cluster});
    all.warp_barriers.assign(blocks * threads / 32, Barrier{32});
    all.lanes.assign(blocks * threads, 0.0);
    std::unique_ptr<unsigned[][6]> registers(new unsigned[blocks * threads][6]);
    all.registers = registers.get();
    all.fibers.resize(blocks * threads);
    for (size_t i = 0; i < all.fibers.size(); i++) {
        Fiber& fiber = all.fibers[i];
        fiber.block = int(i) / threads;
        fiber.thread = int(i) % threads;
        fiber.stack.reset(new char[STACK]);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, start, 0);
    }
    std::mt19937 random(seed);
    std::vector<int> order(blocks), within(threads);
    std::iota(order.begin(), order.end(), 0);
    std::iota(within.begin(), within.end(), 0);
    // Some blocks run at a fraction of the speed of others, so that whoever does not wait for them is found out.
    std::vector<char> slow(blocks);
    for (char& block : slow) block = random() % 3 == 0;
    bool alive = true;
    for (long rounds = 0; alive; rounds++) {
        alive = false;
        bool moved = false;
        std::shuffle(order.begin(), order.end(), random);
        for (int block : order) {
            // Its threads run up to a few barriers further before the next block's turn: their stacks stay in the cache.
            bool turn = !slow[block] || rounds % 4 == 0, runs = true;
            for (unsigned pass = 1 + random() % PASSES; pass && runs; pass--) {
                runs = false;
                std::shuffle(within.begin(), within.end(), random);
                for (int thread : within) {
                    Fiber& fiber = all.fibers[block * threads + thread];
                    if (fiber.done) continue;
                    alive = true;
                    if (fiber.blocked && fiber.blocked->generation == fiber.generation) continue;
                    moved = true;
                    if (!turn) break;
                    runs = true;
                    all.running = &fiber;
                    resume();
                }
            }
        }
        if (alive && (!moved || rounds > 1000000)) {
            std::fprintf(stderr, "the threads wait for each other\n");
            std::abort();
        }
    }
    machine = nullptr;
}

struct ThreadIndex {
    struct X {
        operator unsigned() const { return unsigned(machine->running->thread); }
    } x;
};
struct BlockIndex {
    struct X {
        operator unsigned() const { return unsigned(machine->running->block); }
    } x;
};
struct GridSize {
    struct X {
        operator unsigned() const { return unsigned(machine->blocks); }
    } x;
};

// The static shared array of the running block that is declared on this line.
inline void* array(size_t bytes, int line) {
    auto& memory = machine->arrays[{machine->running->block, line}];
    if (memory.empty()) memory.assign(bytes / sizeof(float4) + 1, make_float4(NAN, NAN, NAN, NAN));
    return memory.data();
}

inline float4* shared_of(int block) {
    auto address = reinterpret_cast<std::uintptr_t>(machine->shared[block].data());
    return reinterpret_cast<float4*>((address + 15) / 16 * 16);
}

}  // namespace emulation

inline emulation::ThreadIndex threadIdx;
inline emulation::BlockIndex blockIdx;
inline emulation::GridSize gridDim;
#define shared_memory (emulation::shared_of(emulation::machine->running->block))

inline void __syncthreads() { emulation::wait(emulation::machine->block_barriers[emulation::machine->running->block]); }
inline void __syncwarp() { emulation::wait(emulation::machine->warp_barriers[emulation::warp_index()]); }
inline void __threadfence() {}
inline void cluster_barrier() {
    emulation::wait(
        emulation::machine->cluster_barriers[emulation::machine->running->block / emulation::machine->cluster]);
}
inline int cluster_rank() { return emulation::machine->running->block % emulation::machine->cluster; }

#define SHARED_ARRAY(type, name, length) \
    type* name = static_cast<type*>(emulation::array(sizeof(type) * (length), __LINE__))

template <typename T>
T* of_peer(T* mine, int rank) {
    const int block = emulation::machine->running->block;
    const int peer = block / emulation::machine->cluster * emulation::machine->cluster + rank;
    const auto offset = reinterpret_cast<char*>(mine) - reinterpret_cast<char*>(emulation::shared_of(block));
    return reinterpret_cast<T*>(reinterpret_cast<char*>(emulation::shared_of(peer)) + offset);
}

inline void copy_async(float* to, const float* from) { std::memcpy(to, from, 16); }
inline void copies_arrived() {}
inline void close_copies() {}
inline void older_copies_arrived() {}
inline unsigned long long arrive(unsigned long long* counter) { return (*counter)++; }
inline unsigned long long read_counter(const unsigned long long* counter) {
    emulation::yield();
    return *counter;
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    double* lanes = &emulation::machine->lanes[emulation::warp_index() * 32];
    const int lane = emulation::machine->running->thread % 32;
    lanes[lane] = double(value);
    __syncwarp();
    const T other = T(lanes[lane ^ mask]);
    __syncwarp();
    return other;
}

template <typename T>
T __shfl_sync(unsigned, T value, int from) {
    double* lanes = &emulation::machine->lanes[emulation::warp_index() * 32];
    lanes[emulation::machine->running->thread % 32] = double(value);
    __syncwarp();
    const T other = T(lanes[from]);
    __syncwarp();
    return other;
}

inline unsigned __ballot_sync(unsigned, bool predicate) {
    double* lanes = &emulation::machine->lanes[emulation::warp_index() * 32];
    const int lane = emulation::machine->running->thread % 32;
    lanes[lane] = predicate;
    __syncwarp();
    unsigned bits = 0;
    for (int i = 0; i < 32; i++) bits |= unsigned(lanes[i] != 0.0) << i;
    __syncwarp();
    return bits;
}

inline unsigned short to_half(float x) {
    const _Float16 half = _Float16(x);
    unsigned short bits;
    std::memcpy(&bits, &half, 2);
    return bits;
}
inline float from_half(unsigned short bits) {
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return float(half);
}

namespace emulation {

// The product of a warp from every lane's registers; DEEP has 16 inner indices, otherwise 8.
template <bool DEEP>
void multiply(float (&c)[4], const unsigned (&a)[6], unsigned b0, unsigned b1) {
    unsigned(*all)[6] = &machine->registers[warp_index() * 32];
    const int lane = machine->running->thread % 32, g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) all[lane][i] = DEEP ? a[i] : i < 2 ? a[4 + i] : 0u;
    all[lane][4] = b0;
    all[lane][5] = b1;
    __syncwarp();
    auto half = [](unsigned pair, int odd) { return from_half((unsigned short)(odd ? pair >> 16 : pair & 0xffffu)); };
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (int k = 0; k < (DEEP ? 16 : 8); k++) {
            const int part = k / 8, from = k % 8 / 2;
            const float left = half(all[row % 8 * 4 + from][part * 2 + row / 8], k % 2);
            c[i] += left * half(all[column * 4 + from][4 + part], k % 2);
        }
    }
    __syncwarp();
}

}  // namespace emulation

inline void multiply_deep(float (&c)[4], const unsigned (&a)[6], uint2 b) { emulation::multiply<true>(c, a, b.x, b.y); }
inline void multiply_flat(float (&c)[4], const unsigned (&a)[6], unsigned b) { emulation::multiply<false>(c, a, b, 0); }

template <typename T>
T __ldg(const T* p) {
    return *p;
}
template <typename T>
T __ldcg(const T* p) {
    return *p;
}
inline float __expf(float x) { return std::exp(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline void atomicAdd(float* at, float value) { *at += value; }
inline void atomicMax(int* at, int value) { *at = std::max(*at, value); }
