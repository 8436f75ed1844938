// SPDX-License-Identifier: Apache-2.0
#include "trainer/plan.h"

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/config_check.h"

namespace farsight {

Plan make_plan(const Config& config, int64_t ranks, int64_t memory_limit, const DatasetFacts& data) {
  std::string problems;
  const auto add = [&](const std::string& line) { problems += (problems.empty() ? "" : "\n") + line; };
  for (const std::string& line : data.problems) add(line);
  Plan plan;
  plan.data = data;
  plan.notes = data.notes;
  plan.memory_limit = memory_limit;
  plan.vocab = config.model.vocab > 0 ? config.model.vocab : data.vocab;
  if (plan.vocab == 0)
    plan.notes.push_back("model.vocab = \"auto\" and no dataset: counted without embedding and head");
  try {
    plan.layout = resolve_layout(config, ranks);
  } catch (const Error& error) {
    add(error.what());
    throw Error(ErrorKind::config, problems);
  }
  plan.size = model_size(config, plan.vocab);
  plan.visible_keys = mean_visible_keys(config);
  plan.flops_per_token = flops_per_token(config, plan.vocab);
  plan.flops_per_step = plan.flops_per_token * static_cast<double>(config.train.batch_samples) *
                        static_cast<double>(config.data.sequence);
  plan.memory = memory_plan(config, plan.layout, plan.vocab);
  plan.traffic = traffic_plan(config, plan.layout, plan.vocab);
  if (memory_limit > 0 && plan.memory.total() > memory_limit)
    add(fmt::format(
        "{}: error: a rank needs about {:.2f} GiB, --memory allows {:.2f} GiB; use train.recompute = \"layer\", "
        "a smaller train.micro_batch, or more parallel.ring ranks",
        first_origin(config, {"train.micro_batch", "train.batch", "data.sequence"}, "configuration"),
        static_cast<double>(plan.memory.total()) / (1 << 30), static_cast<double>(memory_limit) / (1 << 30)));
  if (!problems.empty()) throw Error(ErrorKind::config, problems);
  return plan;
}

}  // namespace farsight
