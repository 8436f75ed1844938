// SPDX-License-Identifier: Apache-2.0
#include "trainer/commands/plan.h"

#include <algorithm>
#include <ostream>
#include <string>

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/config_value.h"
#include "trainer/forecast/forecast_cost.h"
#include "trainer/plan.h"
#include "trainer/plan_auto.h"
#include "trainer/plan_candidates.h"
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
int64_t least_ranks(const Config& config) {
  const ParallelConfig& p = config.parallel;
  int64_t ranks = std::max<int64_t>(1, p.data);
  for (const int64_t extent : {p.ring, p.ulysses, p.tensor}) ranks *= std::max<int64_t>(1, extent);
  return ranks;
}

PlanMachine machine(const CommandArguments& arguments, const Config& config) {
  PlanMachine out;
  const bool cuda =
      config.run.device == DeviceChoice::cuda || config.train.precision == PrecisionChoice::bf16;  // CUDA only
  out.calibration =
      arguments.has("device") ? named_calibration(arguments.get("device", "")) : run_calibration(config, cuda);
  const std::string files = arguments.get("calibration", "");
  for (size_t begin = 0; begin < files.size();) {
    const size_t end = std::min(files.find(',', begin), files.size());
    read_calibration(files.substr(begin, end - begin), out.calibration);
    begin = end + 1;
  }
  out.ranks_per_node = arguments.integer("ranks-per-node", 0);
  if (out.ranks_per_node < 0) fail(ErrorKind::usage, "--ranks-per-node = {} is negative", out.ranks_per_node);
  return out;
}

int list_candidates(const CommandArguments& arguments, const Config& config, int64_t ranks, int64_t limit,
                    std::ostream& out) {
  const int64_t rows = arguments.integer("rows", 10);
  if (rows < 1) fail(ErrorKind::usage, "--rows = {} is not positive", rows);
  const PlanMachine on = machine(arguments, config);
  CandidateRequest request;
  request.ranks = ranks;
  request.vocab = config.model.vocab > 0 ? config.model.vocab : dataset_facts(config).vocab;
  request.memory_limit = limit;
  request.ranks_per_node = on.node();
  const auto candidates = plan_candidates(config, request, on.calibration);
  const auto most = static_cast<size_t>(rows);
  out << (arguments.has("json") ? candidates_json(candidates, most) : candidates_text(candidates, most));
  return 0;
}

}  // namespace

int run_plan(const CommandArguments& arguments, std::ostream& out, std::ostream&) {
  const int64_t limit = memory_limit(arguments);
  const int64_t asked = asked_ranks(arguments);
  const Config asked_config = load_config(arguments.positional.front(), arguments.overrides);
  const int64_t ranks = asked > 0 ? asked : least_ranks(asked_config);
  if (asked_config.task.kind == TaskKind::forecast) {
    for (const char* option : {"candidates", "device", "calibration", "ranks-per-node", "rows"}) {
      if (arguments.has(option)) fail(ErrorKind::usage, "--{}: forecasters are planned without it", option);
    }
    const bool json = arguments.has("json");
    out << plan_forecast(asked_config, ranks, limit, json);
    if (!json) out << "next: farsight train " << arguments.positional.front() << "\n";
    return 0;
  }
  if (arguments.has("candidates")) return list_candidates(arguments, asked_config, ranks, limit, out);
  const PlanMachine on = machine(arguments, asked_config);
  const DatasetFacts facts = dataset_facts(asked_config);
  const Config config = choose_layout(asked_config, ranks, std::max(asked_config.model.vocab, facts.vocab), limit,
                                      on.calibration, on.node());
  Plan plan = make_plan(config, ranks, limit, facts, on);
  if (has_automatic_layout(asked_config)) {
    const ParallelConfig& p = config.parallel;
    plan.notes.push_back(fmt::format("\"auto\" resolved to tensor {}, ulysses {}, ring {}, zero {}", p.tensor,
                                     p.ulysses, p.ring, p.zero));
  }
  if (arguments.has("json"))
    out << plan_json(config, plan);
  else
    out << plan_text(config, plan) << "next: farsight train " << arguments.positional.front() << "\n";
  return 0;
}

}  // namespace farsight
