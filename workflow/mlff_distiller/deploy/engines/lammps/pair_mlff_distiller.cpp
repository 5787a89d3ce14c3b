#include "pair_mlff_distiller.h"

#include <mpi.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"
#include "words.h"

using namespace LAMMPS_NS;

// What may be computed although the student has not learned it; as in the calculator.
static const std::vector<std::string> ALLOWABLE = {"charge", "distances", "elements", "spin"};
// Partial charges are rounded; their sum is not quite zero, e. As in the calculator.
static constexpr double CHARGE_ROUNDING = 0.1;
// Images of an atom are further away than this along one axis, A.
static constexpr double APART = 1e-6;

static constexpr char STYLE[] = "pair_style mlff_distiller";
static constexpr char COEFF[] = "pair_coeff of mlff_distiller";

PairMLFFDistiller::PairMLFFDistiller(LAMMPS *lmp) : Pair(lmp)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairMLFFDistiller::~PairMLFFDistiller()
{
  mlff_free(model);
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

void PairMLFFDistiller::refuse(const std::string &words)
{
  error->all(FLERR, words);
}

void PairMLFFDistiller::settings(int narg, char **arg)
{
  if (mlff_interface_version() != MLFF_INTERFACE_VERSION)
    refuse(std::string(STYLE) + ": libmlff.so is of interface " + std::to_string(mlff_interface_version()) +
           ", and this plug-in was compiled for " + std::to_string(MLFF_INTERFACE_VERSION) +
           ": run make in the folder lammps of the bundle that the library is of");
  allowed.clear();
  if (narg && std::string(arg[0]) != "allow")
    refuse(std::string(STYLE) + ": unknown keyword " + arg[0] + mlff_lammps::nearest(arg[0], {"allow"}) +
           " The weights and elements are named in pair_coeff");
  for (int k = 1; k < narg; ++k) {
    if (std::find(ALLOWABLE.begin(), ALLOWABLE.end(), arg[k]) == ALLOWABLE.end())
      refuse(std::string(STYLE) + ": allow cannot be " + arg[k] + mlff_lammps::nearest(arg[k], ALLOWABLE) +
             " It can be charge, distances, elements, spin, or several");
    allowed.insert(arg[k]);
  }
  if (narg == 1) refuse(std::string(STYLE) + ": allow what? charge, distances, elements, spin, or several");
}

std::vector<char> PairMLFFDistiller::read_weights(const char *path)
{
  std::vector<char> contents;
  bigint size = -1;
  if (comm->me == 0) {
    const std::string found = utils::get_potential_file_path(path);
    std::ifstream file(found, std::ios::binary | std::ios::ate);
    if (!found.empty() && file) size = bigint(file.tellg());
    // A folder can be opened, and has any size.
    if (size > MAXSMALLINT) size = -1;
    contents.resize(std::max<bigint>(size, 0));
    file.seekg(0);
    if (size >= 0 && !file.read(contents.data(), size)) size = -1;
  }
  MPI_Bcast(&size, 1, MPI_LMP_BIGINT, 0, world);
  if (size < 0)
    refuse(std::string(COEFF) + ": " + path + " cannot be read; give the path of the weights.mlff of a bundle");
  contents.resize(size);
  MPI_Bcast(contents.data(), int(size), MPI_CHAR, 0, world);
  return contents;
}

std::string PairMLFFDistiller::learned() const
{
  std::string known;
  for (int z = 1; z < int(mlff_lammps::symbols().size()); ++z)
    if (mlff_learned(model, z)) known += (known.empty() ? "" : ", ") + mlff_lammps::symbols()[z];
  return known;
}

void PairMLFFDistiller::coeff(int narg, char **arg)
{
  const int types = atom->ntypes;
  // That the first two are * is seen to by LAMMPS (one_coeff).
  if (narg < 3)
    refuse(std::string(COEFF) + ": write pair_coeff * * weights.mlff, and an element for each atom type in their order");

  const std::vector<char> weights = read_weights(arg[2]);
  char words[MLFF_MESSAGE];
  mlff_free(model);
  model = mlff_open_memory(weights.data(), weights.size(), words, sizeof words);
  if (!model) refuse(std::string(COEFF) + ": " + arg[2] + ": " + words);
  mlff_allow(model, (allowed.count("elements") ? MLFF_ALLOW_ELEMENTS : 0) |
                        (allowed.count("distances") ? MLFF_ALLOW_DISTANCES : 0));
  // Its rows, and the owners, are doubles for LAMMPS.
  comm_forward = std::max(2, int((mlff_exchange_bytes(model) + sizeof(double) - 1) / sizeof(double)));

  if (narg - 3 != types)
    refuse(std::string(COEFF) + ": " + std::to_string(narg - 3) + " elements for " + std::to_string(types) +
           " atom types: name one for each, in their order (NULL for a type of another pair style)");
  element.assign(types + 1, 0);
  for (int type = 1; type <= types; ++type) {
    const std::string symbol = arg[2 + type];
    if (symbol == "NULL") continue;
    const int z = mlff_lammps::atomic_number(symbol);
    if (z == 0) {
      std::vector<std::string> choices;
      for (const auto &known : mlff_lammps::symbols())
        if (!known.empty() && mlff_learned(model, mlff_lammps::atomic_number(known))) choices.push_back(known);
      refuse(std::string(COEFF) + ": " + symbol + ", of atom type " + std::to_string(type) + ", is no element" +
             mlff_lammps::nearest(symbol, choices));
    }
    if (!mlff_learned(model, z) && !allowed.count("elements"))
      refuse(std::string(COEFF) + ": atom type " + std::to_string(type) + " is " + symbol +
             ", which the student never learned: it knows " + learned() +
             ". Train one on data with that element, or insist on meaningless numbers with " + STYLE + " allow elements");
    element[type] = z;
  }

  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
  memory->create(setflag, types + 1, types + 1, "pair:setflag");
  memory->create(cutsq, types + 1, types + 1, "pair:cutsq");
  allocated = 1;
  for (int i = 1; i <= types; ++i)
    for (int j = 1; j <= types; ++j) setflag[i][j] = j >= i && element[i] && element[j];
}

void PairMLFFDistiller::init_style()
{
  const std::string units = update->unit_style;
  if (units != "metal" && units != "real")
    refuse(std::string(STYLE) + ": units " + units + " are not served; write units metal, or units real");
  factor = units == "real" ? utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL) : 1.0;
  check_atoms();
  check_masses();
  mlff_set_threads(model, comm->nthreads);
  neighbor->add_request(this, NeighConst::REQ_FULL);
  built = -1;
}

// What the atoms say of themselves, and what the student does not know.
void PairMLFFDistiller::check_atoms()
{
  double mine[2] = {0, 0}, all[2];
  for (int i = 0; i < atom->nlocal; ++i) {
    if (!element[atom->type[i]]) continue;
    if (atom->q_flag) mine[0] += atom->q[i];
    if (atom->sp_flag) mine[1] += std::abs(atom->sp[i][3]);
  }
  MPI_Allreduce(mine, all, 2, MPI_DOUBLE, MPI_SUM, world);
  const std::string but = ", but the student knows neutral molecules without unpaired electrons only. ";
  if (!(std::abs(all[0]) < CHARGE_ROUNDING) && !allowed.count("charge"))
    refuse(std::string(STYLE) + ": the charges of the atoms add up to " + std::to_string(all[0]) + " e" + but +
           "Mend them (set group all charge 0), or have them ignored with " + STYLE + " allow charge");
  if (all[1] != 0 && !allowed.count("spin"))
    refuse(std::string(STYLE) + ": the magnetic moments of the atoms are not zero" + but +
           "Take another atom_style, or have them ignored with " + STYLE + " allow spin");
}

// Elements in another order than the types have a right number of names, and wrong energies. Other masses may be meant:
// isotopes, or hydrogens that took some of their neighbors' mass.
void PairMLFFDistiller::check_masses()
{
  const auto &masses = mlff_lammps::masses();
  const auto &symbols = mlff_lammps::symbols();
  const auto near = [&](double mass, int z, double share) { return std::abs(mass - masses[z]) <= share * masses[z]; };
  for (int type = 1; atom->mass && type <= atom->ntypes; ++type) {
    if (!element[type] || near(atom->mass[type], element[type], 0.1)) continue;
    for (int z = 1; z < int(masses.size()); ++z)
      if (mlff_learned(model, z) && near(atom->mass[type], z, 0.01) && comm->me == 0)
        error->warning(FLERR, std::string(COEFF) + ": atom type " + std::to_string(type) + " is " + symbols[element[type]] +
                                  ", and has the mass of " + symbols[z] + ": are the elements in the order of the types?");
  }
}

// Settings by which the lists would lack pairs or atoms; known once lists are made, after init_style.
void PairMLFFDistiller::check_neighbors()
{
  if (neighbor->exclude)
    refuse(std::string(STYLE) + ": neigh_modify exclude takes out pairs that the student needs; write neigh_modify exclude "
           "none");
  if (neighbor->includegroup || atom->firstgroupname)
    refuse(std::string(STYLE) + ": neigh_modify include, atom_modify first and comm_modify group leave out atoms that the "
           "student needs; leave those commands out");
  if (atom->molecular != Atom::ATOMIC && atom->nbonds > 0)
    for (int k = 1; k < 4; ++k)
      if (force->special_lj[k] != 1.0)
        refuse(std::string(STYLE) + ": special_bonds takes out pairs of bonded atoms that the student needs; write "
               "special_bonds lj/coul 1 1 1");
}

double PairMLFFDistiller::init_one(int, int)
{
  return mlff_cutoff(model);
}

// Every atom's process and its number there, to those who have it as a ghost; and from that, rows.
void PairMLFFDistiller::assign_rows()
{
  const int nlocal = atom->nlocal, nall = nlocal + atom->nghost;
  owner.resize(2 * size_t(nall));
  for (int i = 0; i < nlocal; ++i) {
    owner[2 * i] = comm->me;
    owner[2 * i + 1] = i;
  }
  exchanged.clear();
  comm->forward_comm(this, 2);

  row.assign(nall, -1);
  atom_of.clear();
  numbers.clear();
  names.clear();
  const auto add = [&](int i) {
    row[i] = int(numbers.size());
    numbers.push_back(element[atom->type[i]]);
    names.push_back(atom->tag_enable ? atom->tag[i] : i + 1);
  };
  for (int i = 0; i < nlocal; ++i)
    if (element[atom->type[i]]) {
      add(i);
      atom_of.push_back(i);
    }
  n_own = int(numbers.size());
  for (int i = nlocal; i < nall; ++i) {
    if (!element[atom->type[i]]) continue;
    if (int(owner[2 * i]) == comm->me)
      row[i] = row[int(owner[2 * i + 1])];
    else
      add(i);
  }
}

// Pairs as mlff_part wants them. The list has both directions of a pair of own atoms: one of them, by the order of rows, or,
// of an atom and its image, by the direction of the image.
void PairMLFFDistiller::find_candidates()
{
  candidates.clear();
  double **x = atom->x;
  for (int ii = 0; ii < list->inum; ++ii) {
    const int i = list->ilist[ii];
    if (row[i] < 0) continue;
    for (int jj = 0; jj < list->numneigh[i]; ++jj) {
      const int j = list->firstneigh[i][jj] & NEIGHMASK;
      if (row[j] < 0 || row[j] < row[i]) continue;
      if (row[j] == row[i]) {
        double leading = 0;
        for (int k = 0; k < 3 && leading == 0; ++k)
          if (std::abs(x[j][k] - x[i][k]) > APART) leading = x[j][k] - x[i][k];
        if (leading < 0) continue;
      }
      candidates.push_back({i, j, row[i], row[j]});
    }
  }
}

void PairMLFFDistiller::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  if (vflag_atom || cvflag_atom)
    refuse(std::string(STYLE) + ": it has no virial of single atoms (compute stress/atom, heat/flux): they cannot be told "
           "from one another; use the pressure of the whole");
  if (built < 0) check_neighbors();
  if (neighbor->ago == 0 || neighbor->lastcall != built) {
    assign_rows();
    find_candidates();
    built = neighbor->lastcall;
  }

  double **x = atom->x, **f = atom->f;
  const double cutoff = mlff_cutoff(model), cutoff2 = cutoff * cutoff;
  pairs.clear();
  vectors.clear();
  for (const Candidate &c : candidates) {
    const double r[3] = {x[c.j][0] - x[c.i][0], x[c.j][1] - x[c.i][1], x[c.j][2] - x[c.i][2]};
    // So that what is not a number is kept, and refused.
    if (r[0] * r[0] + r[1] * r[1] + r[2] * r[2] >= cutoff2) continue;
    pairs.insert(pairs.end(), {c.row_i, c.row_j});
    vectors.insert(vectors.end(), r, r + 3);
  }

  mlff_part part;
  part.n_own = n_own;
  part.n_ghosts = int64_t(numbers.size()) - n_own;
  part.numbers = numbers.data();
  part.names = names.data();
  part.n_pairs = int64_t(pairs.size()) / 2;
  part.pairs = pairs.data();
  part.vectors = vectors.data();
  part.exchange = comm->nprocs > 1 ? exchange : nullptr;
  part.context = this;
  // Room for what is asked for also where there are no own atoms: no pointer is then NULL.
  energies.resize(n_own + 1);
  forces.resize(3 * n_own + 1);
  double found[9];
  char words[MLFF_MESSAGE];
  if (mlff_evaluate_part(model, &part, energies.data(), forces.data(), vflag_global ? found : nullptr, words, sizeof words)) {
    std::string said = std::string(STYLE) + ": " + words;
    if (said.find("MLFF_ALLOW_DISTANCES") != std::string::npos) said += ", here: " + std::string(STYLE) + " allow distances";
    error->one(FLERR, said);
  }

  for (int own = 0; own < n_own; ++own) {
    const int i = atom_of[own];
    for (int k = 0; k < 3; ++k) f[i][k] += factor * forces[3 * own + k];
    if (eflag_global) eng_vdwl += factor * energies[own];
    if (eflag_atom) eatom[i] += factor * energies[own];
  }
  if (vflag_global) {
    const int of[6] = {0, 4, 8, 1, 2, 5};    // xx, yy, zz, xy, xz, yz
    for (int k = 0; k < 6; ++k) virial[k] += factor * found[of[k]];
  }
}

void PairMLFFDistiller::exchange(void *context, int n_arrays, char *const *rows, const size_t *bytes)
{
  auto *self = static_cast<PairMLFFDistiller *>(context);
  self->exchanged.assign(rows, rows + n_arrays);
  self->bytes.assign(bytes, bytes + n_arrays);
  size_t all = 0;
  for (int k = 0; k < n_arrays; ++k) all += bytes[k];
  self->comm->forward_comm(self, int((all + sizeof(double) - 1) / sizeof(double)));
}

int PairMLFFDistiller::pack_forward_comm(int n, int *atoms, double *buffer, int, int *)
{
  if (exchanged.empty()) {
    for (int k = 0; k < n; ++k) std::copy_n(&owner[2 * size_t(atoms[k])], 2, buffer + 2 * size_t(k));
    return 2 * n;
  }
  size_t all = 0;
  for (size_t one : bytes) all += one;
  const size_t width = (all + sizeof(double) - 1) / sizeof(double);
  for (int k = 0; k < n; ++k) {
    auto *to = reinterpret_cast<char *>(buffer + width * k);
    const int from = row[atoms[k]];
    for (size_t array = 0; array < exchanged.size(); to += bytes[array++])
      if (from >= 0) std::memcpy(to, exchanged[array] + bytes[array] * from, bytes[array]);
  }
  return int(width) * n;
}

void PairMLFFDistiller::unpack_forward_comm(int n, int first, double *buffer)
{
  if (exchanged.empty()) {
    std::copy_n(buffer, 2 * size_t(n), &owner[2 * size_t(first)]);
    return;
  }
  size_t all = 0;
  for (size_t one : bytes) all += one;
  const size_t width = (all + sizeof(double) - 1) / sizeof(double);
  for (int k = 0; k < n; ++k) {
    const auto *from = reinterpret_cast<const char *>(buffer + width * k);
    const int to = row[first + k];
    for (size_t array = 0; array < exchanged.size(); from += bytes[array++])
      if (to >= n_own) std::memcpy(exchanged[array] + bytes[array] * to, from, bytes[array]);
  }
}

double PairMLFFDistiller::memory_usage()
{
  return Pair::memory_usage() + double(candidates.capacity() * sizeof(Candidate) + pairs.capacity() * sizeof(int32_t) +
                                       vectors.capacity() * sizeof(double));
}
