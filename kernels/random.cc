// SPDX-License-Identifier: Apache-2.0
#include "kernels/random.h"

#include <cmath>
#include <cstring>
#include <numbers>
#include <string>

#include <xxhash.h>

namespace farsight {

PhiloxBlock philox(uint64_t key, PhiloxBlock c) {
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

uint64_t hash64(std::span<const uint64_t> fields) { return XXH3_64bits(fields.data(), fields.size_bytes()); }

uint64_t init_key(uint64_t seed, std::string_view parameter_name) {
  const uint64_t head[] = {seed, 4};
  std::string bytes(reinterpret_cast<const char*>(head), sizeof(head));
  bytes += "init";
  const uint64_t length = parameter_name.size();
  bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes += parameter_name;
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t site_key(uint64_t seed, uint64_t step, uint64_t sample, uint64_t layer, Site site) {
  const uint64_t fields[] = {seed, step, sample, layer, static_cast<uint64_t>(site)};
  return hash64(fields);
}

namespace {

PhiloxBlock block_of(uint64_t key, uint64_t index) {
  return philox(key, {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0});
}

double unit(uint32_t high, uint32_t low) {  // [0, 1), 53 bits
  return static_cast<double>(((uint64_t{high} << 32) | low) >> 11) * 0x1.0p-53;
}

}  // namespace

double normal_variate(uint64_t key, uint64_t index) {
  const auto b = block_of(key, index);
  const double radius = std::sqrt(-2.0 * std::log1p(-unit(b[0], b[1])));
  return radius * std::cos(2.0 * std::numbers::pi * unit(b[2], b[3]));
}

double uniform_variate(uint64_t key, uint64_t index) {
  const auto b = block_of(key, index);
  return unit(b[0], b[1]);
}

}  // namespace farsight
