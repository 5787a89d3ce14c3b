// What the kernels use of the hardware: clusters, barriers, asynchronous copies.
// tests/cuda/emulation.hpp provides the same names on a CPU.
#pragma once

#ifndef CUDA_EMULATION

#include <cuda_runtime.h>

#define DEVICE __device__ __forceinline__
#define DEVICE_HOST __host__ __device__ inline
// An array in shared memory, aligned for reads of 16 bytes.
#define SHARED_ARRAY(type, name, length) __shared__ __align__(16) type name[length]

// All threads of the cluster; orders shared and global memory among them.
DEVICE void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n" ::: "memory");
}

DEVICE int cluster_rank() {
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return int(rank);
}

// The address of the same shared variable in another block of the cluster.
template <typename T>
DEVICE T* of_peer(T* mine, int rank) {
    unsigned long long address;
    asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(mine), "r"(rank));
    return reinterpret_cast<T*>(address);
}

// 16 bytes from global to shared memory, without waiting.
DEVICE void copy_async(float* to, const float* from) {
    unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
}

// The copies of this thread have arrived.
DEVICE void copies_arrived() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// The copies since the last call form a group; all groups but the newest have arrived.
DEVICE void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
DEVICE void older_copies_arrived() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }

// Bits of the nearest half-precision number, and back.
DEVICE unsigned short to_half(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
DEVICE float from_half(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

// c += a b by a whole warp on the tensor cores: a [16][16] or [16][8], b [16][8] or [8][8] of halves, c [16][8] of floats,
// each spread over the lanes as the PTX manual says for mma.m16n8k16 and mma.m16n8k8.
DEVICE void multiply_deep(float (&c)[4], const unsigned (&a)[6], uint2 b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}
DEVICE void multiply_flat(float (&c)[4], const unsigned (&a)[6], unsigned b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[4]), "r"(a[5]), "r"(b));
}

DEVICE unsigned long long arrive(unsigned long long* counter) {
    unsigned long long ticket;
    asm volatile("atom.add.acq_rel.gpu.u64 %0, [%1], 1;" : "=l"(ticket) : "l"(counter) : "memory");
    return ticket;
}

DEVICE unsigned long long read_counter(const unsigned long long* counter) {
    unsigned long long value;
    asm volatile("ld.acquire.gpu.u64 %0, [%1];" : "=l"(value) : "l"(counter) : "memory");
    return value;
}

#endif

// Until ``expected`` blocks have arrived at this counter; only ever grows, so it needs no reset between launches.
// Every block that waits here must be resident, which the launch ensures.
DEVICE void wait_for_blocks(unsigned long long* counter, int expected) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        unsigned long long ticket = arrive(counter);
        unsigned long long target = (ticket / expected + 1) * expected;
        while (read_counter(counter) < target) {
        }
        __threadfence();
    }
    __syncthreads();
}

// What a macro stands for, as text.
#define TEXT_OF(macro) #macro
#define TEXT(macro) TEXT_OF(macro)
