// How the blocks of a group read what the others of it leave for them.
//
// On cards with clusters of blocks (compute capability 9.0 and newer, 227 KB of shared memory a block) a group is a cluster
// and its blocks read each other's shared memory. On others they leave it in global memory, which for so little is the
// second-level cache, and meet at counters there. Both forms have the same barriers in the same places.
//
// Sizes come from the compiler's command line: RANKS, the blocks of a group.
#pragma once

#include "platform.cuh"

template <bool IN_CLUSTER>
struct Peers;

template <>
struct Peers<true> {
    int rank, group, groups;

    DEVICE explicit Peers(unsigned long long*)
        : rank(cluster_rank()), group(blockIdx.x / RANKS), groups(gridDim.x / RANKS) {}
    // Orders what the threads of all blocks of the group wrote before what they read after.
    DEVICE void barrier() const { cluster_barrier(); }
    // Shared memory of a peer can be read once the peer runs, and as long as it does.
    DEVICE void all_run() const { cluster_barrier(); }
    template <typename T>
    DEVICE T read(T* mine, int peer, int) const {
        return *of_peer(mine, peer);
    }
    DEVICE void add(float* mine, float value) const { *mine += value; }
};

template <>
struct Peers<false> {
    // Counters that are waited for at the same time lie in cache lines of their own.
    static constexpr int APART = 16;
    unsigned long long* met;
    int rank, group, groups;

    // ``counters``: APART for each group.
    DEVICE explicit Peers(unsigned long long* counters)
        : rank(blockIdx.x % RANKS), group(blockIdx.x / RANKS), groups(gridDim.x / RANKS) {
        met = counters + group * APART;
    }
    DEVICE void barrier() const { wait_for_blocks(met, RANKS); }
    DEVICE void all_run() const {}
    // Past the first-level cache, which does not see what other multiprocessors write.
    template <typename T>
    DEVICE T read(T* mine, int peer, int stride) const {
        return __ldcg(mine + (peer - rank) * (static_cast<long long>(stride) * int(sizeof(float)) / int(sizeof(T))));
    }
    // One addition per address and pass: the order is fixed, and no thread waits for memory.
    DEVICE void add(float* mine, float value) const { atomicAdd(mine, value); }
};
