// The kernel of molecule.cu as a library for the CPU.
#include "emulation.hpp"

#include "molecule.cu"

static void enter(const void* argument) { molecule(*static_cast<const Arguments*>(argument)); }

extern "C" int molecule_max_clusters(int) { return 16; }

extern "C" int molecule_launch(const Arguments* args, int clusters, void* seed) {
    emulation::launch(enter, args, clusters * RANKS, THREADS, RANKS, Layout(args->atoms, args->stash_shared).total,
                      unsigned(reinterpret_cast<std::uintptr_t>(seed)));
    return 0;
}

extern "C" const char* molecule_error(int) { return "emulated"; }
