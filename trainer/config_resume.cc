// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/config.h"
#include "trainer/config_check.h"
#include "trainer/config_registry.h"

namespace farsight {

std::vector<ConfigDifference> config_differences(const Config& saved, const Config& now) {
  std::vector<ConfigDifference> differences;
  for (const ConfigKey& key : config_keys()) {
    std::string before = key.print(saved), after = key.print(now);
    if (before != after) differences.push_back({key.name, std::move(before), std::move(after), key.change});
  }
  return differences;
}

std::vector<std::string> check_resume_config(const Config& saved, const Config& now) {
  ConfigProblems problems;
  std::vector<std::string> warnings;
  for (const ConfigDifference& d : config_differences(saved, now)) {
    const std::string change = fmt::format("{} = {}, the checkpoint was trained with {}", d.key, d.after, d.before);
    if (d.change == ChangeClass::must_match)
      problems.add(first_origin(now, {d.key}, "configuration"), change + "; set it back, or start a new run");
    else if (d.change == ChangeClass::warn)
      warnings.push_back(change + "; the configuration wins");
  }
  problems.throw_if_any();
  return warnings;
}

}  // namespace farsight
