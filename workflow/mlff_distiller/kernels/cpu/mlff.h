/* Energies and forces of a distilled student, for programs in C and in whatever calls C.
 *
 * Lengths in A (Angstrom), energies in eV, atoms counted from 0. Vectors are rows, row after row: positions [n_atoms][3], cell
 * [3][3] with a lattice vector in each row. All calls may be made from several threads at once; settings of a model may not be
 * changed while another thread computes with it. A process that was forked after its parent computed with more than one
 * thread must use one.
 *
 *     char words[MLFF_MESSAGE];
 *     mlff_model *model = mlff_open("weights.mlff", words, sizeof words);
 *     if (!model) { fprintf(stderr, "%s\n", words); exit(1); }
 *     if (mlff_evaluate(model, n, numbers, positions, NULL, NULL, &energy, forces, NULL, words, sizeof words)) ...
 *     mlff_free(model);
 */
#ifndef MLFF_H
#define MLFF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(MLFF_API)
#define MLFF_API __attribute__((visibility("default")))
#elif !defined(MLFF_API)
#define MLFF_API
#endif

/* Increased whenever a program that was compiled with another header might not run rightly. Codes may be added without. */
#define MLFF_INTERFACE_VERSION 5

/* Bytes in which every message finds room, with the 0 at its end. */
#define MLFF_MESSAGE 1024

/* What mlff_evaluate returns. A program should take any other value than MLFF_OK for a refusal: more may come. */
enum {
  MLFF_OK = 0,
  MLFF_BAD_POSITION = 1,    /* not finite, or beyond 1e9 A */
  MLFF_COINCIDING = 2,      /* two atoms at one place, or an atom on its own image */
  MLFF_UNKNOWN_ELEMENT = 3, /* the student did not learn it, or it is no element */
  MLFF_BAD_CELL = 4,        /* missing, not finite, without volume, too thin or too long */
  MLFF_BAD_BATCH = 5,       /* of the package's own calls alone */
  MLFF_OUT_OF_MEMORY = 6,
  MLFF_TOO_CLOSE = 7,       /* two atoms closer than any that the student learned */
  MLFF_TOO_FAR = 8,         /* an atom further than 1e4 A from the center of its system */
  MLFF_BAD_ARGUMENT = 9,    /* a pointer is missing, or there are no atoms */
  MLFF_NOT_FINITE = 10,     /* the energy is not finite */
  MLFF_NO_UNCERTAINTY = 11  /* the student's file says nothing of its errors */
};

/* What mlff_allow may be told to compute although the student did not learn it; to be added. */
enum {
  MLFF_ALLOW_ELEMENTS = 1, /* elements that it has numbers for, without meaning */
  MLFF_ALLOW_DISTANCES = 2 /* any distance above 1e-6 A */
};

typedef struct mlff_model mlff_model;

/* MLFF_INTERFACE_VERSION of the library. */
MLFF_API int mlff_interface_version(void);

/* The student of a weights file (weights.mlff of a bundle), which must be of the sizes that the library was compiled for.
 * Returns NULL where it cannot be read, is damaged, or is of another version or of other sizes; `message` (`size` bytes, or
 * NULL) then says so in words. */
MLFF_API mlff_model *mlff_open(const char *path, char *message, size_t size);

/* The same from the bytes of such a file in memory; they are copied. */
MLFF_API mlff_model *mlff_open_memory(const void *bytes, size_t n_bytes, char *message, size_t size);

/* Gives back a model's memory; NULL is allowed. */
MLFF_API void mlff_free(mlff_model *model);

/* Neighbors further apart than this do not interact, A. */
MLFF_API double mlff_cutoff(const mlff_model *model);

/* 1 where the student learned the element of this atomic number, else 0. */
MLFF_API int mlff_learned(const mlff_model *model, int atomic_number);

/* Threads of a call, at most; 0, as at the start: as many as OpenMP says (OMP_NUM_THREADS). Each has at least four atoms.
 * Results are the same bits for the same number of threads. */
MLFF_API void mlff_set_threads(mlff_model *model, int threads);

/* Of MLFF_ALLOW_...; 0 at the start. */
MLFF_API void mlff_allow(mlff_model *model, unsigned what);

/* Energy, forces and virial of one system.
 *
 * numbers    [n_atoms] atomic numbers
 * positions  [n_atoms][3] A, anywhere: atoms are moved into the cell and to the origin before digits are cut off
 * cell       [3][3] A, lattice vectors in rows; only those of periodic axes are read. NULL: nothing repeats
 * periodic   [3] not 0 along lattice vectors that repeat. NULL: all three do where there is a cell
 * energy     eV
 * forces     [n_atoms][3] eV/A, or NULL, which takes less time
 * virial     [3][3] eV, symmetric, or NULL: minus the derivative of the energy by the strain, that is, the sum over pairs of
 *            the vector between them times the force; -virial / volume is the stress
 * message    `size` bytes (MLFF_MESSAGE are enough), or NULL: what is wrong, in words; empty where nothing is
 *
 * The student knows neutral molecules without unpaired electrons, and cannot see that a system is anything else: that is for
 * the caller to know. Returns MLFF_OK, or a code and writes no results. */
MLFF_API int mlff_evaluate(mlff_model *model, int64_t n_atoms, const int32_t *numbers, const double *positions,
                           const double *cell, const int *periodic, double *energy, double *forces, double *virial,
                           char *message, size_t size);

/* The errors to expect of mlff_evaluate for the same system, as the calculator's `energy_uncertainty` and `force_uncertainties`;
 * takes as long as an energy.
 *
 * energy_error  eV, of the energy
 * force_errors  [n_atoms] eV/A, of a component of the force on each atom, or NULL; infinite for elements that were not trained on
 * unlike        [n_atoms], or NULL: above 1 the surroundings of the atom are unlike any that the student was trained on, and its
 *               energies and forces should not be used
 *
 * The other arguments, and what is refused, are those of mlff_evaluate; MLFF_NO_UNCERTAINTY where the weights have no errors. */
MLFF_API int mlff_uncertainty(mlff_model *model, int64_t n_atoms, const int32_t *numbers, const double *positions,
                              const double *cell, const int *periodic, double *energy_error, double *force_errors,
                              double *unlike, char *message, size_t size);

/* A part of a system, for programs that find neighbors themselves, or that divide a system among processes. Own atoms are
 * those whose energies and forces are computed here; they come first. Ghosts, behind them, are atoms that other parts own. An
 * image of an own atom is no ghost: its pairs name the atom itself. */
typedef struct {
  int64_t n_own, n_ghosts;
  const int32_t *numbers; /* [n_own + n_ghosts] atomic numbers */
  const int64_t *names;   /* [n_own + n_ghosts] what messages call the atoms, or NULL: their places in these arrays */
  int64_t n_pairs;
  const int32_t *pairs;  /* [n_pairs][2] an own atom, and an own atom or ghost. Each pair of own atoms once, in either order;
                          * each own atom with every ghost within the cutoff. Pairs beyond the cutoff are passed over. */
  const double *vectors; /* [n_pairs][3] A, from the first atom to the second */
  /* Called 2 L - 1 times for a student of L blocks, L - 1 times without forces, by the thread that calls mlff_evaluate_part;
   * not where that fails, but for MLFF_NOT_FINITE. It copies rows of atoms: that of every ghost, in each of the n_arrays arrays (1
   * or 2) `rows` [n_own + n_ghosts][bytes of the array], is to become that of the part that owns the atom. NULL where there are
   * no other parts. */
  void (*exchange)(void *context, int n_arrays, char *const *rows, const size_t *bytes);
  void *context; /* handed to exchange */
} mlff_part;

/* The most bytes that an exchange moves for an atom, over its arrays. */
MLFF_API size_t mlff_exchange_bytes(const mlff_model *model);

/* Energies of the own atoms of a part, forces on them and their share of the virial; sums over all parts are those of the system.
 *
 * energies   [n_own] eV, or NULL
 * forces     [n_own][3] eV/A, or NULL
 * virial     [3][3] eV, or NULL; as of mlff_evaluate
 *
 * Whether forces, and the virial, are asked for must be the same for all parts. There may be parts without own atoms. Returns as
 * mlff_evaluate. */
MLFF_API int mlff_evaluate_part(mlff_model *model, const mlff_part *part, double *energies, double *forces, double *virial,
                                char *message, size_t size);

#ifdef __cplusplus
}
#endif

#endif
