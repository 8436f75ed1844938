// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: every draw is a pure function of what it is for, never of rank, thread or call order.
// So every layout draws the same numbers, replay is exact, and there is no generator state to save.
// Source: Salmon et al. 2011 (Philox4x32-10); keys and counters as in the parallelism specification, section 5.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace farsight {

using PhiloxBlock = std::array<uint32_t, 4>;

// Philox4x32-10 of a 64-bit key and a 128-bit counter.
PhiloxBlock philox(uint64_t key, PhiloxBlock counter);

// XXH3-64 (seed 0) of the little-endian bytes of the fields in order; a string is preceded by its length as uint64.
uint64_t hash64(std::span<const uint64_t> fields);
uint64_t init_key(uint64_t seed, std::string_view parameter_name);

// Where in the model a random draw happens. Values are part of the numbers: never renumber.
enum class Site : uint64_t { embedding = 1, attention = 2, attention_residual = 3, mlp_residual = 4, mlp_hidden = 5 };
uint64_t site_key(uint64_t seed, uint64_t step, uint64_t sample, uint64_t layer, Site site);

// keep iff word >= dropout_threshold(p); p in [0, 1).
inline uint32_t dropout_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

// Standard normal variate of global flat index `index` (Box-Muller in fp64 on one Philox block).
double normal_variate(uint64_t key, uint64_t index);
// Uniform in [0, 1) with 53 bits.
double uniform_variate(uint64_t key, uint64_t index);

}  // namespace farsight
