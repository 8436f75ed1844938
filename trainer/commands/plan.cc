// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/plan.h"

#include <algorithm>
#include <ostream>

#include "trainer/config_value.h"
#include "trainer/plan.h"
#include "trainer/plan_dataset.h"

namespace farsight {
namespace {

int64_t memory_limit(const CommandArguments& arguments) {
  if (!arguments.has("memory")) return 0;
  const auto bytes = parse_bytes(arguments.get("memory", ""));
  if (!bytes || *bytes < 1)
    fail(ErrorKind::usage, "--memory = '{}' is not a size such as 80GiB", arguments.get("memory", ""));
  return *bytes;
}

// 0 without --ranks.
int64_t asked_ranks(const CommandArguments& arguments) {
  constexpr int64_t most = 1000000;
  const int64_t ranks = arguments.integer("ranks", 0);
  if (arguments.has("ranks") && (ranks < 1 || ranks > most))
    fail(ErrorKind::usage, "--ranks = {} is not between 1 and {}", ranks, most);
  return ranks;
}

// The fewest ranks that the configured extents fit on.
int64_t least_ranks(const Config& config) { return std::max<int64_t>(1, config.parallel.data) * config.parallel.ring; }

}  // namespace

int run_plan(const CommandArguments& arguments, std::ostream& out, std::ostream&) {
  const int64_t limit = memory_limit(arguments);
  const int64_t asked = asked_ranks(arguments);
  const Config config = load_config(arguments.positional.front(), arguments.overrides);
  const Plan plan = make_plan(config, asked > 0 ? asked : least_ranks(config), limit, dataset_facts(config));
  if (arguments.has("json"))
    out << plan_json(config, plan);
  else
    out << plan_text(config, plan) << "next: farsight train " << arguments.positional.front() << "\n";
  return 0;
}

}  // namespace farsight
