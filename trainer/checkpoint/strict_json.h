// SPDX-License-Identifier: Apache-2.0
// JSON as files of ours hold it, read without trust: bounded depth, no duplicate keys, integers that are integers.
// Large repeated parts are handed over one by one and never kept, so that memory does not grow with hostile nesting.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/tensor.h"

namespace farsight {

struct StrictJsonOptions {
  int max_depth = 8;
  int64_t max_values = 1 << 20;  // kept between two elements that were taken
  // Called at the end of every object and array; keys[d] is the key at depth d that leads here. True: taken.
  std::function<bool(const std::vector<std::string>& keys, int depth, const nlohmann::json& value)> take;
};

// Error{data} "WHERE: ..." naming position or key.
nlohmann::json parse_strict_json(std::string_view text, const std::string& where, const StrictJsonOptions& options);

// Members, by type; Error{data} for a missing member or another type. Integers are >= 0 unless said.
int64_t json_integer(const nlohmann::json& object, const char* key, const std::string& where);
uint64_t json_unsigned(const nlohmann::json& object, const char* key, const std::string& where);
std::string json_string(const nlohmann::json& object, const char* key, const std::string& where);
Shape json_shape(const nlohmann::json& object, const char* key, const std::string& where);
const nlohmann::json& json_member(const nlohmann::json& object, const char* key, const std::string& where);
// Error{data} if the object has any other key, or lacks one.
void json_exact_keys(const nlohmann::json& object, std::initializer_list<const char*> keys, const std::string& where);

}  // namespace farsight
