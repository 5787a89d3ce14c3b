// The kernel of molecule.cu as a library for the CPU.
#include "emulation.hpp"

#include "molecule.cu"

static void enter(const void* argument) { molecule(*static_cast<const Arguments*>(argument)); }

// Of a card with this many multiprocessors, one block each.
extern "C" int molecule_max_groups(int) { return 128 / RANKS; }

extern "C" int molecule_launch(const Arguments* args, int groups, void* seed) {
    emulation::launch(enter, args, groups * RANKS, THREADS, CLUSTERED ? RANKS : 1,
                      Layout(args->atoms, args->stash_shared).total, unsigned(reinterpret_cast<std::uintptr_t>(seed)));
    return 0;
}

extern "C" int molecule_read(const Reading* reading, void*) {
    std::copy_n(reading->numbers, reading->n_atoms, reading->host);
    std::copy_n(reading->batch, reading->n_atoms, reading->host + reading->room);
    if (!one_molecule(*reading)) return 0;
    std::copy_n(reading->host_indices, 3 * reading->n_atoms + 2, reading->indices);
    return 1;
}

struct Ready {
    const float* sent;
    float* positions;
    int length;
};
extern "C" int molecule_prepare(const Arguments* args, int, const void* sent, Ready** made) {
    *made = new Ready{static_cast<const float*>(sent), const_cast<float*>(args->positions), 3 * args->n_atoms};
    return 0;
}
extern "C" int molecule_start(Ready* ready, const Arguments* args, int groups, void* seed) {
    if (ready->sent) std::copy_n(ready->sent, ready->length, ready->positions);
    return molecule_launch(args, groups, seed);
}
extern "C" void molecule_forget(Ready* ready) { delete ready; }

extern "C" const char* molecule_error(int) { return "emulated"; }
