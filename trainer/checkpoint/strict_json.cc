// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/strict_json.h"

#include <algorithm>
#include <limits>
#include <set>

#include <fmt/format.h>

#include "kernels/error.h"

namespace farsight {
namespace {

using nlohmann::json;
using Event = json::parse_event_t;

class StrictParser {
 public:
  StrictParser(const std::string& where, const StrictJsonOptions& options)
      : where_(where),
        options_(options),
        keys_(static_cast<size_t>(options.max_depth) + 2),
        seen_(static_cast<size_t>(options.max_depth) + 2) {}

  bool operator()(int depth, Event event, json& value) {
    const auto level = static_cast<size_t>(depth);
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        open(depth);
        return true;
      case Event::key:
        enter_key(level, value.get_ref<const std::string&>());
        return true;
      case Event::value:
        count();
        return true;
      case Event::object_end:
      case Event::array_end:
        return close(depth, value);
    }
    return true;
  }

 private:
  void open(int depth) {
    if (depth >= options_.max_depth)
      fail(ErrorKind::data, "{}: JSON nested deeper than {}", where_, options_.max_depth);
    seen_[static_cast<size_t>(depth) + 1].clear();
    count();
  }
  void enter_key(size_t level, const std::string& key) {
    if (!seen_[level].insert(key).second) fail(ErrorKind::data, "{}: key '{}' appears twice", where_, key);
    keys_[level] = key;
    count();
  }
  void count() {
    if (++values_ > options_.max_values) fail(ErrorKind::data, "{}: JSON holds too many values", where_);
  }
  bool close(int depth, const json& value) {
    if (!options_.take || !options_.take(keys_, depth, value)) return true;
    values_ = 0;
    return false;
  }

  const std::string& where_;
  const StrictJsonOptions& options_;
  std::vector<std::string> keys_;
  std::vector<std::set<std::string>> seen_;
  int64_t values_ = 0;
};

bool is_count(const json& value) {
  return value.is_number_unsigned() &&
         value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}

}  // namespace

json parse_strict_json(std::string_view text, const std::string& where, const StrictJsonOptions& options) {
  StrictParser parser(where, options);
  const auto callback = [&parser](int depth, Event event, json& value) { return parser(depth, event, value); };
  try {
    json result = json::parse(text, callback);
    if (!result.is_object()) fail(ErrorKind::data, "{}: not a JSON object", where);
    return result;
  } catch (const json::exception& error) {
    fail(ErrorKind::data, "{}: {}", where, error.what());
  }
}

const json& json_member(const json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end()) fail(ErrorKind::data, "{}: key '{}' is missing", where, key);
  return *found;
}

int64_t json_integer(const json& object, const char* key, const std::string& where) {
  const json& value = json_member(object, key, where);
  if (!is_count(value)) fail(ErrorKind::data, "{}: '{}' is {}, not a count", where, key, value.dump());
  return value.get<int64_t>();
}

uint64_t json_unsigned(const json& object, const char* key, const std::string& where) {
  const json& value = json_member(object, key, where);
  if (!value.is_number_unsigned()) fail(ErrorKind::data, "{}: '{}' is {}, not a count", where, key, value.dump());
  return value.get<uint64_t>();
}

std::string json_string(const json& object, const char* key, const std::string& where) {
  const json& value = json_member(object, key, where);
  if (!value.is_string()) fail(ErrorKind::data, "{}: '{}' is not a text", where, key);
  return value.get<std::string>();
}

Shape json_shape(const json& object, const char* key, const std::string& where) {
  const json& value = json_member(object, key, where);
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_count)) {
    fail(ErrorKind::data, "{}: '{}' is not a list of counts", where, key);
  }
  return value.get<Shape>();
}

void json_exact_keys(const json& object, std::initializer_list<const char*> keys, const std::string& where) {
  if (!object.is_object()) fail(ErrorKind::data, "{}: not a JSON object", where);
  for (const char* key : keys) json_member(object, key, where);
  if (object.size() == keys.size()) return;
  for (const auto& [key, value] : object.items()) {
    const bool known = std::find(keys.begin(), keys.end(), key) != keys.end();
    if (!known) fail(ErrorKind::data, "{}: unknown key '{}'", where, key);
  }
}

}  // namespace farsight
