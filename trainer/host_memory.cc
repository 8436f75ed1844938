// SPDX-License-Identifier: Apache-2.0
#include "trainer/host_memory.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "trainer/config_value.h"

namespace farsight {
namespace {

int64_t system_available() {
  std::ifstream stream("/proc/meminfo");
  for (std::string line; std::getline(stream, line);) {
    std::istringstream words(line);
    std::string name, kibibytes;
    words >> name >> kibibytes;
    if (name == "MemAvailable:") return parse_integer(kibibytes).value_or(0) * 1024;
  }
  return 0;
}

// -1: no such file, or "max".
int64_t number_in(const char* path) {
  std::ifstream stream(path);
  std::string word;
  stream >> word;
  return parse_integer(word).value_or(-1);
}

}  // namespace

int64_t available_host_memory() {
  const int64_t available = system_available();
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  if (limit < 0) return available;
  const int64_t left = std::max<int64_t>(0, limit - std::max<int64_t>(0, number_in("/sys/fs/cgroup/memory.current")));
  return available > 0 ? std::min(available, left) : left;
}

}  // namespace farsight
