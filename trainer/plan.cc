// SPDX-License-Identifier: Apache-2.0
#include "trainer/plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "kernels/attention/spec.h"
#include "kernels/error.h"
#include "parallel/ring_attention.h"
#include "parallel/sequence_order.h"
#include "trainer/config_check.h"
#include "trainer/config_value.h"
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

constexpr int64_t kFloat = 4;
int64_t key_width(const Config& config) { return config.model.kv_heads * config.model.head_width; }
int64_t local_tokens(const Config& config, const RunLayout& layout) {
  return layout.micro_batch * sequence_layout(config, layout).max_count();
}

int64_t ring_exchanges(const Config& config, const RunLayout& layout) {
  AttentionSpec spec;
  spec.causal = config.attention.mask.causal;
  spec.window_left = static_cast<int32_t>(config.attention.mask.window_left);
  spec.window_right = static_cast<int32_t>(config.attention.mask.window_right);
  return layout.ring == 1 ? 0 : ring_hops(spec, sequence_layout(config, layout));
}

}  // namespace

TrafficPlan traffic_plan(const Config& config, const RunLayout& layout, int64_t vocab) {
  const int64_t replicas = layout.data * layout.ring;
  const int64_t hops = ring_exchanges(config, layout);
  const int64_t block = 2 * local_tokens(config, layout) * key_width(config) * kFloat;  // keys and values of a rank
  const int64_t forward = config.train.recompute == RecomputeChoice::layer ? 2 : 1;
  const int64_t home = hops > 0 ? 1 : 0;  // gradients take one hop more, back to their owner
  TrafficPlan plan;
  plan.gradients = 2 * (replicas - 1) * model_size(config, vocab).total() / replicas * kFloat;
  plan.ring = layout.passes * config.model.layers * block * ((forward + 1) * hops + hops + home);
  return plan;
}

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
