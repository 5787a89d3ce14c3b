// A weights file: a header, and arrays one after another, each beginning at a multiple of 8 bytes. Little-endian. The fields
// are those of AnalyticWeights in potentials/analytic.py; weights.py writes it.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "simd.hpp"
#include "words.hpp"

namespace mlff {

constexpr uint32_t WEIGHTS_VERSION = 2;
constexpr char WEIGHTS_MAGIC[] = "MLFFWGHT";  // 8 bytes without the 0
constexpr uint32_t MOST_ELEMENTS = 1000;

struct WeightsHeader {
  char magic[8];
  uint32_t version;
  uint32_t checksum;  // CRC-32 of all that follows it
  uint64_t n_bytes;   // of the file
  uint32_t real_bytes;
  uint32_t n_elements;
  uint32_t features, mlp, readout, layers, radial;
  uint32_t knows_limits;     // 0: the student does not say what it learned
  uint32_t domain_elements;  // 0: nor which errors to expect, see domain.hpp
  uint32_t reserved;
  double cutoff, exponent, norm_epsilon, wall_rest;             // A, 1/A^2, -, -
  double energy_scale, force_scale, force_power, domain_limit;  // eV, eV/A, -, -
};
static_assert(sizeof(WeightsHeader) == 128, "no gaps");

// As zlib's.
inline uint32_t crc32(const uint8_t* bytes, size_t n) {
  std::array<uint32_t, 256> table;
  for (uint32_t i = 0; i < 256; ++i) {
    table[i] = i;
    for (int bit = 0; bit < 8; ++bit) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0u);
  }
  uint32_t sum = ~0u;
  for (size_t i = 0; i < n; ++i) sum = table[(sum ^ bytes[i]) & 255] ^ sum >> 8;
  return ~sum;
}

// Pointers into the copy of a file. Matrices are row-major [out, in] as in torch.nn.Linear.
class Weights {
 public:
  WeightsHeader header;
  const double *references;  // [elements] eV
  const double *radii;       // [elements] A, see Network
  const uint8_t* learned;    // [elements]
  const uint8_t* domain_numbers;  // [domain_elements]
  const double *domain_atoms, *domain_systems;  // [domain_elements, readout + 1, readout + 1], [readout + 1, readout + 1]
  const Real *centers, *wall, *filters, *filters_bias, *embedding, *first_message, *phi_in, *phi_in_bias, *phi_out,
      *phi_out_bias, *mix_uv, *mlp_in, *mlp_in_bias, *mlp_out, *mlp_out_bias, *readout_in, *readout_in_bias,
      *readout_out, *readout_out_bias;

  // False, with the reason in `message`, unless the bytes are a whole file of the sizes that are compiled in.
  bool read(const void* bytes, size_t n_bytes, Message& message) {
    const bool whole = n_bytes >= sizeof header;
    if (whole) std::memcpy(&header, bytes, sizeof header);
    if (!whole || std::memcmp(header.magic, WEIGHTS_MAGIC, sizeof header.magic)) {
      message.say("not a weights file: take the weights.mlff of a bundle");
      return false;
    }
    if (header.version != WEIGHTS_VERSION) {
      message.say("weights of version %u, and this library reads %u: take both from the same bundle", header.version,
                  WEIGHTS_VERSION);
      return false;
    }
    const size_t unchecked = offsetof(WeightsHeader, n_bytes);
    if (header.n_bytes != n_bytes ||
        header.checksum != crc32(static_cast<const uint8_t*>(bytes) + unchecked, n_bytes - unchecked)) {
      message.say("the weights file is damaged: copy it anew");
      return false;
    }
    const uint32_t found[] = {header.real_bytes, header.features, header.mlp, header.readout, header.layers, header.radial};
    const uint32_t compiled[] = {sizeof(Real),  MLFF_FEATURES, MLFF_MLP,
                                 MLFF_READOUT, MLFF_LAYERS,   MLFF_RADIAL};
    for (int i = 0; i < 6; ++i) {
      if (found[i] == compiled[i]) continue;
      const char* const names[] = {"bytes of a number",  "features of an atom", "width of the blocks",
                                   "width of the readout", "blocks",              "Gaussians"};
      message.say("the library was compiled for a student of other sizes (%s: %u, in the weights %u): take both from the "
                  "same bundle", names[i], compiled[i], found[i]);
      return false;
    }
    if (header.n_elements < 2 || header.n_elements > MOST_ELEMENTS || !(header.cutoff > 0 && header.cutoff < 1e3) ||
        !(header.norm_epsilon > 0) || !(header.wall_rest > 0) || !std::isfinite(header.exponent) ||
        header.domain_elements > header.n_elements || !divide(bytes)) {
      message.say("the weights file is damaged: copy it anew");
      return false;
    }
    return true;
  }

 private:
  std::vector<double> storage;

  // Copies the arrays; false unless they fill the file.
  bool divide(const void* bytes) {
    constexpr size_t f = MLFF_FEATURES, h = MLFF_MLP, r = MLFF_READOUT, layers = MLFF_LAYERS, radial = MLFF_RADIAL;
    const size_t z = header.n_elements;
    size_t at = 0;
    const auto take = [&](size_t size) {
      const size_t here = at;
      at += (size + 7) / 8;
      return here;
    };
    const size_t known = header.domain_elements, square = 8 * (r + 1) * (r + 1);
    const size_t at_references = take(8 * z), at_radii = take(8 * z), at_learned = take(z), at_numbers = take(known),
                 at_atoms = take(known * square), at_systems = take(known ? square : 0);
    const std::pair<const Real**, size_t> arrays[] = {
        {&centers, radial},
        {&wall, 2 * z * z},
        {&filters, layers * 3 * f * radial},
        {&filters_bias, layers * 3 * f},
        {&embedding, z * f},
        {&first_message, z * 2 * f},
        {&phi_in, (layers - 1) * h * f},
        {&phi_in_bias, (layers - 1) * h},
        {&phi_out, (layers - 1) * 3 * f * h},
        {&phi_out_bias, (layers - 1) * 3 * f},
        {&mix_uv, layers * 2 * f * f},
        {&mlp_in, layers * h * 2 * f},
        {&mlp_in_bias, layers * h},
        {&mlp_out, layers * 3 * f * h},
        {&mlp_out_bias, layers * 3 * f},
        {&readout_in, r * f},
        {&readout_in_bias, r},
        {&readout_out, r},
        {&readout_out_bias, 1},
    };
    size_t places[sizeof arrays / sizeof *arrays], n = 0;
    for (const auto& [array, size] : arrays) places[n++] = take(size * sizeof(Real));
    if (header.n_bytes != sizeof header + 8 * at) return false;
    storage.resize(at);
    std::memcpy(storage.data(), static_cast<const char*>(bytes) + sizeof header, 8 * at);
    references = storage.data() + at_references;
    radii = storage.data() + at_radii;
    learned = reinterpret_cast<const uint8_t*>(storage.data() + at_learned);
    domain_numbers = reinterpret_cast<const uint8_t*>(storage.data() + at_numbers);
    domain_atoms = storage.data() + at_atoms;
    domain_systems = storage.data() + at_systems;
    n = 0;
    for (const auto& [array, size] : arrays) *array = reinterpret_cast<const Real*>(storage.data() + places[n++]);
    return true;
  }
};

}  // namespace mlff
