// SPDX-License-Identifier: Apache-2.0
#include "trainer/plan.h"

#include "kernels/error.h"
#include "trainer/plan_candidates.h"

namespace farsight {

namespace {

void count(const Config& config, Plan& plan) {
  const Calibration& calibration = plan.machine.calibration;
  const RankParameters parameters = largest_rank_parameters(config, plan.layout, plan.vocab);
  plan.size = model_size(config, plan.vocab);
  plan.visible_keys = mean_visible_keys(config);
  plan.flops_per_token = flops_per_token(config, plan.vocab);
  plan.flops_per_step = plan.flops_per_token * static_cast<double>(config.train.batch_samples) *
                        static_cast<double>(config.data.sequence);
  plan.memory = memory_plan(config, plan.layout, plan.vocab, calibration.precision, parameters);
  plan.traffic = sum_traffic(step_transfers(config, plan.layout, plan.vocab, calibration.precision, parameters));
  plan.time = step_time(config, plan.layout, plan.vocab, calibration, plan.machine.node(), parameters);
}

}  // namespace

Plan make_plan(const Config& config, int64_t ranks, int64_t memory_limit, const DatasetFacts& data,
               const PlanMachine& machine) {
  std::string problems;
  const auto add = [&](const std::string& line) { problems += (problems.empty() ? "" : "\n") + line; };
  for (const std::string& line : data.problems) add(line);
  Plan plan;
  plan.data = data;
  plan.notes = data.notes;
  plan.memory_limit = memory_limit;
  plan.machine = machine;
  plan.vocab = config.model.vocab > 0 ? config.model.vocab : data.vocab;
  if (plan.vocab == 0)
    plan.notes.push_back("model.vocab = \"auto\" and no dataset: counted without embedding and head");
  try {
    plan.layout = resolve_layout(config, ranks);
  } catch (const Error& error) {
    add(error.what());
    throw Error(ErrorKind::config, problems);
  }
  count(config, plan);
  if (const std::string line = memory_problem(config, plan.memory, memory_limit); !line.empty()) add(line);
  plan.dry_run = dry_run(config, plan.layout, plan.vocab);
  for (const std::string& line : plan.dry_run.problems) add("dry run: error: " + line);
  if (!problems.empty()) throw Error(ErrorKind::config, problems);
  return plan;
}

}  // namespace farsight
