// Drives the C++ kernel with molecules and with hostile input, to be built with sanitizers (see test_sanitizers.py).
// Beyond what those find, it checks what must hold whatever the weights are. Usage: driver MOLECULE.extxyz...
#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "painn.cpp"

namespace {

const char* ELEMENTS[] = {"X", "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S"};
constexpr int N_ELEMENTS = 17;
constexpr double CUTOFF = 5.0;
const double TOLERANCE = sizeof(Real) == 4 ? 2e-4 : 1e-10;
std::mt19937_64 generator(7);

double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(generator); }

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

struct System {
  std::vector<int64_t> numbers, batch;
  std::vector<Real> positions, cell;
  std::vector<uint8_t> pbc;
  int64_t n_systems = 0;

  void add(const System& other) {
    numbers.insert(numbers.end(), other.numbers.begin(), other.numbers.end());
    positions.insert(positions.end(), other.positions.begin(), other.positions.end());
    for (int64_t b : other.batch) batch.push_back(n_systems + b);
    cell.insert(cell.end(), other.cell.begin(), other.cell.end());
    pbc.insert(pbc.end(), other.pbc.begin(), other.pbc.end());
    n_systems += other.n_systems;
  }
};

System read(const char* path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) fail(std::string("cannot read ") + path);
  const int n = std::stoi(line);
  std::getline(file, line);
  System system;
  for (int atom = 0; atom < n; ++atom) {
    std::getline(file, line);
    std::istringstream words(line);
    std::string symbol;
    double x[3];
    words >> symbol >> x[0] >> x[1] >> x[2];
    int z = 0;
    while (z < N_ELEMENTS && symbol != ELEMENTS[z]) ++z;
    if (!words || z == N_ELEMENTS) fail(std::string("cannot read ") + path);
    system.numbers.push_back(z);
    for (double value : x) system.positions.push_back(Real(value));
  }
  system.batch.assign(n, 0);
  system.n_systems = 1;
  return system;
}

// n atoms at random in a box; periodic along the axes of `mask`.
System random_system(int n, double side, int mask) {
  System system;
  for (int atom = 0; atom < n; ++atom) {
    system.numbers.push_back(std::uniform_int_distribution<int>(1, 9)(generator));
    for (int k = 0; k < 3; ++k) system.positions.push_back(Real(uniform(-side, 2 * side)));
  }
  system.batch.assign(n, 0);
  system.n_systems = 1;
  for (int k = 0; k < 9; ++k) system.cell.push_back(Real((k % 4 == 0 ? side : 0) + uniform(0, 0.2) * side));
  for (int k = 0; k < 3; ++k) system.pbc.push_back(mask >> k & 1);
  return system;
}

struct Result {
  int status = 0;
  int64_t where[2] = {0, 0};
  std::vector<double> energies, virials;
  std::vector<Real> forces;
};

// Every array is exactly as long as the interface says: an access beyond it is seen.
Result evaluate(mlff_model* model, const System& system, int threads, bool with_forces = true) {
  Result result;
  const int64_t n = int64_t(system.numbers.size());
  result.energies.resize(system.n_systems);
  result.forces.resize(3 * n);
  const bool cells = !system.cell.empty();
  if (cells) result.virials.resize(9 * system.n_systems);
  result.status =
      mlff_evaluate_batch(model, threads, n, system.n_systems, system.numbers.data(), system.positions.data(),
                    system.batch.data(), cells ? system.cell.data() : nullptr, cells ? system.pbc.data() : nullptr,
                    result.energies.data(), with_forces ? result.forces.data() : nullptr,
                    with_forces && cells ? result.virials.data() : nullptr, result.where);
  return result;
}

int64_t count_neighbors(const System& system) {
  void* list = nullptr;
  int64_t edges = 0, where[2];
  const bool cells = !system.cell.empty();
  const int64_t n = int64_t(system.numbers.size());
  if (mlff_neighbors(CUTOFF, n, system.n_systems, system.positions.data(), system.batch.data(),
                     cells ? system.cell.data() : nullptr, cells ? system.pbc.data() : nullptr, &list, &edges, where))
    return -1;
  std::vector<int64_t> receivers(edges), senders(edges), shifts(3 * edges);
  mlff_take_neighbors(list, receivers.data(), senders.data(), cells ? shifts.data() : nullptr);
  for (int64_t edge = 0; edge < edges; ++edge)
    if (receivers[edge] < 0 || receivers[edge] >= n || senders[edge] < 0 || senders[edge] >= n) fail("neighbor index");
  return edges;
}

// Threads agree, nothing is NaN, forces of each system sum to zero, the energy alone is the same energy.
Result check(mlff_model* model, const System& system, const std::string& name) {
  const Result one = evaluate(model, system, 1);
  if (one.status) fail(name + ": status " + std::to_string(one.status));
  double scale = 1;
  for (Real force : one.forces) scale = std::max(scale, std::abs(double(force)));
  for (int threads : {2, 3}) {
    const Result other = evaluate(model, system, threads), bare = evaluate(model, system, threads, false);
    for (size_t i = 0; i < one.forces.size(); ++i)
      if (!(std::abs(double(one.forces[i] - other.forces[i])) <= TOLERANCE * scale))
        fail(name + ": forces differ with " + std::to_string(threads) + " threads");
    for (size_t b = 0; b < one.energies.size(); ++b)
      if (!(std::abs(one.energies[b] - other.energies[b]) + std::abs(one.energies[b] - bare.energies[b]) <=
            TOLERANCE * (1 + std::abs(one.energies[b]))))
        fail(name + ": energies differ with " + std::to_string(threads) + " threads");
  }
  std::vector<double> total(3 * system.n_systems);
  for (size_t i = 0; i < one.forces.size(); ++i) total[3 * system.batch[i / 3] + i % 3] += one.forces[i];
  for (double sum : total)
    if (!(std::abs(sum) <= TOLERANCE * scale * std::max<size_t>(1, system.numbers.size())))
      fail(name + ": forces do not sum to zero");
  if (count_neighbors(system) < 0) fail(name + ": neighbors");
  return one;
}

void expect(mlff_model* model, const System& system, Status status, int64_t where, const std::string& name) {
  for (int threads : {1, 2, 3}) {
    const Result found = evaluate(model, system, threads);
    if (found.status != int(status) || found.where[0] != where)
      fail(name + ": status " + std::to_string(found.status) + " at " + std::to_string(found.where[0]));
  }
}

std::vector<char> make_weights() {
  constexpr size_t f = MLFF_FEATURES, h = MLFF_MLP, r = MLFF_READOUT, later = LAYERS - 1, z = N_ELEMENTS;
  const size_t sizes[19] = {RADIAL, 2 * z * z, LAYERS * 3 * f * RADIAL, LAYERS * 3 * f, z * f, z * 2 * f, later * h * f,
                            later * h, later * 3 * f * h, later * 3 * f, LAYERS * 2 * f * f, LAYERS * h * 2 * f,
                            LAYERS * h, LAYERS * 3 * f * h, LAYERS * 3 * f, r * f, r, r, 1};
  std::vector<char> bytes(sizeof(WeightsHeader));
  const auto add = [&](const auto& values) {
    const char* begin = reinterpret_cast<const char*>(values.data());
    bytes.insert(bytes.end(), begin, begin + values.size() * sizeof values[0]);
    bytes.resize((bytes.size() + 7) / 8 * 8);
  };
  add(std::vector<double>(z, -1.0));  // references
  add(std::vector<double>(z, 0.3));   // radii
  add(std::vector<uint8_t>(z, 1));    // all learned
  add(std::vector<uint8_t>(2, 1));    // a domain of two elements
  add(std::vector<double>(2 * (r + 1) * (r + 1), 0.5));
  add(std::vector<double>((r + 1) * (r + 1), 0.5));
  for (int i = 0; i < 19; ++i) {
    std::vector<Real> values(sizes[i]);
    for (size_t k = 0; k < sizes[i]; ++k) {
      if (i == 0)
        values[k] = Real(CUTOFF * k / (RADIAL - 1));
      else if (i == 1)
        values[k] = Real(k % 2 ? 100 : 1.2);  // walls that bonds reach into
      else
        values[k] = Real(uniform(-0.1, 0.1));
    }
    add(values);
  }
  const double spacing = CUTOFF / (RADIAL - 1);
  WeightsHeader header = {{}, WEIGHTS_VERSION, 0, bytes.size(), sizeof(Real), N_ELEMENTS, f, h, r, LAYERS, RADIAL, 1, 2, 0,
            CUTOFF, -0.5 / (spacing * spacing), 1e-8, 0.2, 1.0, 1.0, 1.0, 1.0};
  std::memcpy(header.magic, WEIGHTS_MAGIC, sizeof header.magic);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

void sign(std::vector<char>& bytes) {
  const size_t from = offsetof(WeightsHeader, n_bytes);
  const uint32_t sum = crc32(reinterpret_cast<const uint8_t*>(bytes.data()) + from, bytes.size() - from);
  std::memcpy(bytes.data() + offsetof(WeightsHeader, checksum), &sum, sizeof sum);
}

mlff_model* make_model() {
  std::vector<char> bytes = make_weights();
  sign(bytes);
  char words[MLFF_MESSAGE];
  mlff_model* model = mlff_open_memory(bytes.data(), bytes.size(), words, sizeof words);
  if (!model) fail(words);
  return model;  // the bytes go: a model keeps copies
}

// Files cut short and changed, also where the checksum was made to fit: refused, or read without reaching beyond them.
void try_damaged_weights() {
  const std::vector<char> whole = make_weights();
  char words[MLFF_MESSAGE];
  for (int round = 0; round < 300; ++round) {
    std::vector<char> bytes = whole;
    const bool in_header = round % 2;
    if (round % 3 == 0) bytes.resize(size_t(uniform(0, round % 2 ? 200 : double(bytes.size()))));
    for (int change = round % 4; change > 0 && !bytes.empty(); --change) {
      const size_t most = in_header ? std::min(bytes.size(), sizeof(WeightsHeader)) : bytes.size();
      bytes[size_t(uniform(0, double(most)))] = char(uniform(-128, 128));
    }
    const bool fits = round % 5 && bytes.size() > sizeof(WeightsHeader);
    if (fits) {
      const uint64_t n_bytes = bytes.size();
      std::memcpy(bytes.data() + offsetof(WeightsHeader, n_bytes), &n_bytes, sizeof n_bytes);
      sign(bytes);
    }
    mlff_model* model = mlff_open_memory(bytes.data(), bytes.size(), words, sizeof words);
    if (!model == !words[0]) fail(std::string("weights, round ") + std::to_string(round) + ": " + words);
    if (model && !fits) fail("damaged weights were opened");
    mlff_free(model);
  }
}

// The calls of mlff.h, in arrays exactly as long as they say.
void try_one_system(mlff_model* model, int n, double side, int mask, double away) {
  const System system = random_system(n, side, mask);
  std::vector<int32_t> numbers(system.numbers.begin(), system.numbers.end());
  std::vector<double> positions(system.positions.begin(), system.positions.end());
  for (double& x : positions) x += away;
  std::vector<double> cell(system.cell.begin(), system.cell.end()), forces(3 * n), virial(9);
  std::vector<int> periodic(system.pbc.begin(), system.pbc.end());
  double energy = 0, bare = 0;
  std::vector<char> words(40);  // shorter than most messages
  const int code = mlff_evaluate(model, n, numbers.data(), positions.data(), cell.data(), periodic.data(), &energy,
                                 forces.data(), virial.data(), words.data(), words.size());
  if (!code != !words[0]) fail("a code without words");
  if (code) return;
  mlff_evaluate(model, n, numbers.data(), positions.data(), cell.data(), periodic.data(), &bare, nullptr, nullptr, nullptr,
                0);
  if (!(std::abs(energy - bare) <= TOLERANCE * (1 + std::abs(energy)))) fail("energies without forces differ");
  std::vector<double> errors(n), unlike(n);
  double error = -1;
  if (mlff_uncertainty(model, n, numbers.data(), positions.data(), cell.data(), periodic.data(), &error, errors.data(),
                       unlike.data(), words.data(), words.size()) || !(error >= 0))
    fail("errors to expect");
  for (int i = 0; i < n; ++i)
    if (errors[i] != unlike[i] || std::isfinite(errors[i]) != (numbers[i] == 1)) fail("errors of atoms");
}

// A part of n atoms, of which the last are ghosts whose rows are set to zero; without ghosts it is the whole system.
void try_part(mlff_model* model, int n, int ghosts, double side) {
  const System system = random_system(n, side, 0);
  std::vector<int32_t> numbers(system.numbers.begin(), system.numbers.end()), pairs;
  std::vector<double> positions(system.positions.begin(), system.positions.end()), vectors;
  for (int i = 0; i < n - ghosts; ++i)
    for (int j = i + 1; j < n; ++j) {
      pairs.insert(pairs.end(), {i, j});
      for (int k = 0; k < 3; ++k) vectors.push_back(positions[3 * j + k] - positions[3 * i + k]);
    }
  struct Counted {
    int n, ghosts, calls;
  } counted{n, ghosts, 0};
  mlff_part part{};
  part.n_own = n - ghosts;
  part.n_ghosts = ghosts;
  part.numbers = numbers.data();
  part.n_pairs = int64_t(pairs.size()) / 2;
  part.pairs = pairs.data();
  part.vectors = vectors.data();
  part.context = &counted;
  part.exchange = [](void* context, int n_arrays, char* const* rows, const size_t* bytes) {
    auto& it = *static_cast<Counted*>(context);
    ++it.calls;
    for (int k = 0; k < n_arrays; ++k) std::memset(rows[k] + bytes[k] * (it.n - it.ghosts), 0, bytes[k] * it.ghosts);
  };
  std::vector<double> energies(part.n_own), forces(3 * part.n_own), virial(9);
  char words[MLFF_MESSAGE];
  const int code =
      mlff_evaluate_part(model, &part, energies.data(), forces.data(), virial.data(), words, sizeof words);
  if (!code != !words[0]) fail("a code without words");
  if (counted.calls != (code && code != MLFF_NOT_FINITE ? 0 : 2 * MLFF_LAYERS - 1)) fail("exchanges of a part");
  if (code || ghosts) return;
  double energy = 0, sum = 0;
  std::vector<double> whole(3 * n);
  if (mlff_evaluate(model, n, numbers.data(), positions.data(), nullptr, nullptr, &energy, whole.data(), nullptr, words,
                    sizeof words))
    fail(std::string("a part, but not the whole: ") + words);
  for (double one : energies) sum += one;
  double scale = 1;
  for (double force : whole) scale = std::max(scale, std::abs(force));
  if (!(std::abs(energy - sum) <= TOLERANCE * (1 + std::abs(energy)))) fail("energies of a part");
  for (int i = 0; i < 3 * n; ++i)
    if (!(std::abs(forces[i] - whole[i]) <= TOLERANCE * scale)) fail("forces of a part");
}

}  // namespace

int main(int argc, char** argv) {
  mlff_model* model = make_model();
  System all;
  for (int i = 1; i < argc; ++i) {
    const System molecule = read(argv[i]);
    check(model, molecule, argv[i]);
    all.add(molecule);
  }
  check(model, all, "all molecules in one batch");
  int cases = argc - 1;

  System many;  // shared out in groups
  for (int copy = 0; copy < 30; ++copy) many.add(random_system(copy % 9, 4.0, 0)), many.add(random_system(7, 6.0, 7));
  check(model, many, "many small systems");
  many.positions.back() = Real(-1e10);
  expect(model, many, Status::bad_position, int64_t(many.numbers.size()) - 1, "far out, in the last group");

  System empty;
  check(model, empty, "no atoms, no systems");
  empty.n_systems = 3;
  if (check(model, empty, "three empty systems").energies != std::vector<double>(3, 0.0)) fail("energy of nothing");
  System gaps = all;
  for (int64_t& b : gaps.batch) b = 2 * b + 1;
  gaps.n_systems = 2 * all.n_systems + 2;
  check(model, gaps, "empty systems between");

  // Two atoms at and about the cutoff.
  for (double distance : {1e-3, 0.5, CUTOFF - 1e-6, CUTOFF, std::nextafter(CUTOFF, 6.0), 5.5, 1e4, 9e8}) {
    System two = random_system(2, 1.0, 0);
    two.cell.clear(), two.pbc.clear();
    two.positions = {0, 0, 0, Real(distance), 0, 0};
    const Result found = check(model, two, "two atoms " + std::to_string(distance) + " A apart");
    for (Real force : found.forces)
      if (distance >= CUTOFF && force != 0) fail("a force beyond the cutoff");
  }
  // Fuzz: any number of atoms, any box from far smaller than the cutoff to far larger, any periodicity, mixed batches.
  for (int round = 0; round < 100; ++round) {
    System mixed;
    for (int part = std::uniform_int_distribution<int>(1, 3)(generator); part > 0; --part) {
      const int n = round % 10 == 0 ? std::uniform_int_distribution<int>(150, 260)(generator)
                                    : std::uniform_int_distribution<int>(0, 24)(generator);
      mixed.add(random_system(n, n > 100 ? uniform(15, 200) : std::exp(uniform(std::log(2.5), std::log(3e3))),
                              std::uniform_int_distribution<int>(0, 7)(generator)));
    }
    // Atoms nearly on top of each other make forces that no tolerance fits: those must only not crash.
    bool close = false;
    for (size_t a = 0; a < mixed.numbers.size(); ++a)
      for (size_t b = 0; b < a; ++b) {
        double d2 = 0;
        for (int k = 0; k < 3; ++k) d2 += std::pow(double(mixed.positions[3 * a + k] - mixed.positions[3 * b + k]), 2);
        close = close || d2 < 0.01;
      }
    if (close)
      evaluate(model, mixed, 2);
    else
      check(model, mixed, "fuzz " + std::to_string(round));
    ++cases;
  }

  // What makes no sense is refused, and the model is none the worse for it.
  System broken = all;
  broken.positions[3 * 5 + 1] = std::numeric_limits<Real>::quiet_NaN();
  expect(model, broken, Status::bad_position, 5, "NaN");
  broken.positions[3 * 5 + 1] = std::numeric_limits<Real>::infinity();
  expect(model, broken, Status::bad_position, 5, "infinity");
  broken = all;
  for (int k = 0; k < 3; ++k) broken.positions[3 * 2 + k] = broken.positions[k];
  expect(model, broken, Status::coinciding, 0, "coinciding atoms");
  broken = all;
  broken.numbers[4] = -1;
  expect(model, broken, Status::bad_number, 4, "negative atomic number");
  broken.numbers[4] = N_ELEMENTS;
  expect(model, broken, Status::bad_number, 4, "unknown element");
  broken = all;
  broken.batch[1] = all.n_systems;
  expect(model, broken, Status::bad_batch, 1, "batch index too large");
  broken.batch[1] = -3;
  expect(model, broken, Status::bad_batch, 1, "negative batch index");
  broken = random_system(4, 6.0, 7);
  for (int k = 0; k < 3; ++k) broken.cell[k] = broken.cell[3 + k];
  expect(model, broken, Status::bad_cell, 0, "flat cell");
  broken.cell.assign(9, 0);
  expect(model, broken, Status::bad_cell, 0, "no cell");
  broken.cell = {Real(1e-4), 0, 0, 0, 8, 0, 0, 0, 8};
  expect(model, broken, Status::bad_cell, 0, "a cell too thin");
  broken.cell.assign(9, std::numeric_limits<Real>::quiet_NaN());
  expect(model, broken, Status::bad_cell, 0, "NaN cell");
  System lone = random_system(1, 6.0, 7);
  lone.cell = {Real(1e-3), 0, 0, 0, 8, 0, 0, 0, 8};
  if (evaluate(model, lone, 1).status == 0) fail("an absurd cell was accepted");
  check(model, all, "all molecules once more");

  try_damaged_weights();
  for (unsigned allowed : {0u, unsigned(MLFF_ALLOW_DISTANCES)}) {
    mlff_allow(model, allowed);
    for (int round = 0; round < 100; ++round) {
      mlff_set_threads(model, round % 4);
      try_one_system(model, 1 + round % 30, std::exp(uniform(std::log(0.1), std::log(3e4))), round % 8,
                     round % 9 ? uniform(-1e3, 1e3) : 1e12);
      const int n = 1 + round % 30;
      try_part(model, n, round % 2 ? 0 : int(uniform(0, n + 1)), std::exp(uniform(std::log(3.0), std::log(30.0))));
    }
  }

  mlff_free(model);
  std::printf("%d systems passed\n", cases);
  return 0;
}
