// pair_style mlff_distiller: a distilled student in LAMMPS, through the C interface of mlff.h.
//
// Atoms that another process owns are ghosts of mlff_evaluate_part: a process computes the rows of its own atoms, and forward
// communication brings those of its ghosts, so that no ghosts beyond the cutoff are needed, and no forces are sent back.
// Images of a process's own atoms are those atoms themselves.
#ifndef PAIR_MLFF_DISTILLER_H
#define PAIR_MLFF_DISTILLER_H

#include <set>
#include <string>
#include <vector>

#include "mlff.h"
#include "pair.h"

namespace LAMMPS_NS {

class PairMLFFDistiller : public Pair {
 public:
  explicit PairMLFFDistiller(class LAMMPS *);
  ~PairMLFFDistiller() override;

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  double memory_usage() override;

  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;

 private:
  // Of neighbors within the cutoff and the skin; atoms as LAMMPS counts them, and their rows.
  struct Candidate {
    int i, j, row_i, row_j;
  };

  mlff_model *model = nullptr;
  double factor = 1;              // of LAMMPS's energies over eV
  std::set<std::string> allowed;  // of the calculator's allow
  std::vector<int> element;       // [types + 1] atomic numbers; 0: another pair style's

  // As of the last time that LAMMPS made neighbor lists.
  bigint built = -1;
  int n_own = 0;
  std::vector<int> row;        // [own atoms and ghosts of LAMMPS] row in mlff_part; -1: none
  std::vector<int> atom_of;    // [own rows] the inverse
  std::vector<double> owner;   // [own atoms and ghosts][2] process, and its number for the atom
  std::vector<int32_t> numbers;
  std::vector<int64_t> names;  // [rows] atom IDs
  std::vector<Candidate> candidates;
  // Of this call.
  std::vector<int32_t> pairs;
  std::vector<double> vectors, energies, forces;
  // Of this exchange; none: owners.
  std::vector<char *> exchanged;
  std::vector<size_t> bytes;

  [[noreturn]] void refuse(const std::string &);
  std::vector<char> read_weights(const char *);
  std::string learned() const;
  void check_atoms();
  void check_masses();
  void check_neighbors();
  void assign_rows();
  void find_candidates();
  static void exchange(void *, int, char *const *, const size_t *);
};

}    // namespace LAMMPS_NS

#endif
