// Names that pair_mlff_distiller.cpp reads from the input: elements, their masses, and what is nearest to a name that is none.
#ifndef MLFF_LAMMPS_WORDS_H
#define MLFF_LAMMPS_WORDS_H

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

namespace mlff_lammps {

inline const std::vector<std::string> &symbols() {
  // [atomic number]
  static const std::vector<std::string> all = {
      "",   "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al", "Si", "P",  "S",
      "Cl", "Ar", "K",  "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As",
      "Se", "Br", "Kr", "Rb", "Sr", "Y",  "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn",
      "Sb", "Te", "I",  "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho",
      "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po",
      "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",  "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm"};
  return all;
}

// 0 where it is none.
inline int atomic_number(const std::string &symbol) {
  const auto &all = symbols();
  const auto found = std::find(all.begin() + 1, all.end(), symbol);
  return found == all.end() ? 0 : int(found - all.begin());
}

// In g/mol; those of radioactive elements are of an isotope.
inline const std::vector<double> &masses() {
  // [atomic number]
  static const std::vector<double> all = {
      0, 1.008, 4.003, 6.94, 9.012, 10.81, 12.011, 14.007, 15.999, 18.998, 20.18, 22.99, 24.305, 26.982, 28.085,
      30.974, 32.06, 35.45, 39.948, 39.098, 40.078, 44.956, 47.867, 50.941, 51.996, 54.938, 55.845, 58.933,
      58.693, 63.546, 65.38, 69.723, 72.63, 74.922, 78.971, 79.904, 83.798, 85.468, 87.62, 88.906, 91.224,
      92.906, 95.95, 97.907, 101.07, 102.91, 106.42, 107.87, 112.41, 114.82, 118.71, 121.76, 127.6, 126.9,
      131.29, 132.91, 137.33, 138.91, 140.12, 140.91, 144.24, 144.91, 150.36, 151.96, 157.25, 158.93, 162.5,
      164.93, 167.26, 168.93, 173.05, 174.97, 178.49, 180.95, 183.84, 186.21, 190.23, 192.22, 195.08, 196.97,
      200.59, 204.38, 207.2, 208.98, 208.98, 209.99, 222.02, 223.02, 226.03, 227.03, 232.04, 231.04, 238.03,
      237.05, 244.06, 243.06, 247.07, 247.07, 251.08, 252.08, 257.1};
  return all;
}

// Edits of one letter between two words, whose case counts for nothing.
inline int edits(const std::string &a, const std::string &b) {
  std::vector<int> before(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) before[j] = int(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = int(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = std::tolower((unsigned char)a[i - 1]) == std::tolower((unsigned char)b[j - 1]);
      now[j] = std::min({before[j] + 1, now[j - 1] + 1, before[j - 1] + !same});
    }
    std::swap(before, now);
  }
  return before[b.size()];
}

// "; did you mean Cl?" of the choice nearest to `word`, of its length where there are several; or nothing.
inline std::string nearest(const std::string &word, const std::vector<std::string> &choices) {
  const auto distance = [&](const std::string &choice) {
    return 2 * edits(word, choice) + (choice.size() != word.size());
  };
  const auto best = std::min_element(choices.begin(), choices.end(), [&](const auto &a, const auto &b) {
    return distance(a) < distance(b);
  });
  if (best == choices.end() || 2 * edits(word, *best) > int(std::max(word.size(), best->size())) + 1) return "";
  return "; did you mean " + *best + "?";
}

}    // namespace mlff_lammps

#endif
