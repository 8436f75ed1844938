// SPDX-License-Identifier: Apache-2.0
// What runs under which layout, in one table. A policy (a way to score, mask, bias ...) says under which ways of
// sharding a sequence it gives the numbers of one rank; a rule says which combinations of sizes cannot be. Whatever the
// table does not allow is refused by its code before anything starts; nothing falls back.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trainer/config.h"

namespace farsight {

// Ways in which attention is shared out; a layout uses one or several.
enum class Sharing : uint8_t { ring, all_gather, ulysses, tensor };
const char* to_string(Sharing sharing);
// Those that the configuration uses in some layer.
std::vector<Sharing> sharings_of(const Config& config);

struct AttentionPolicy {
  const char* name;      // as users write it: "attention.bias = \"alibi\""
  const char* settings;  // "key=value" ... that switch it on, for tests and for the reference page
  const char* keys;      // of the configuration, for the position of a message
  bool (*used)(const Config&);
  bool ring, all_gather, ulysses, tensor;  // exact under ...
  const char* alternative;                 // what to do where it is not
  bool allows(Sharing sharing) const;
};
std::span<const AttentionPolicy> attention_policies();

struct LayoutRule {
  const char* code;
  std::vector<std::string> keys;
  bool (*broken)(const Config&);
  std::string (*message)(const Config&);  // what, why, what instead
};
std::span<const LayoutRule> layout_rules();

// A refusal with its code, and the keys it is about.
struct Refusal {
  std::string code, message;
  std::vector<std::string> keys;
};
// Everything in the table that the configuration violates. kv_heads must divide heads.
std::vector<Refusal> refusals(const Config& config);

}  // namespace farsight
