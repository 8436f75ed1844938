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
constexpr int64_t kAutomaticChunkBytes = 16LL << 20;  // as CrossEntropyOptions::chunk_rows = 0

int64_t query_width(const Config& config) { return config.model.heads * config.model.head_width; }
int64_t key_width(const Config& config) { return config.model.kv_heads * config.model.head_width; }
int64_t mlp_inputs(const Config& config) { return config.model.mlp == MlpChoice::swiglu ? 2 : 1; }

int64_t local_tokens(const Config& config, const RunLayout& layout) {
  return layout.micro_batch * sequence_layout(config, layout).max_count();
}

// Floats per token that one layer keeps for backward: two norms with their residual sums, q k v, the attention output
// with its log-sum-exp, both branch outputs, the MLP before and after its activation.
int64_t layer_activations(const Config& config) {
  const int64_t c = config.model.width, f = config.model.mlp_width;
  const int64_t attention = 2 * query_width(config) + 2 * key_width(config) + 2 * config.model.heads;
  return 6 * c + attention + (mlp_inputs(config) + 1) * f;
}

// Gradients that live at the same time inside the backward of one layer.
int64_t backward_temporaries(const Config& config) {
  const int64_t c = config.model.width, f = config.model.mlp_width;
  const int64_t attention = 3 * query_width(config) + 2 * key_width(config);
  return 2 * c + std::max((mlp_inputs(config) + 1) * f, attention);
}

int64_t chunk_rows(const Config& config, int64_t vocab, int64_t tokens) {
  const int64_t automatic = std::max<int64_t>(1, kAutomaticChunkBytes / (kFloat * std::max<int64_t>(1, vocab)));
  return std::min(tokens, config.train.loss_chunk > 0 ? config.train.loss_chunk : automatic);
}

int64_t ring_exchanges(const Config& config, const RunLayout& layout) {
  AttentionSpec spec;
  spec.causal = config.attention.mask.causal;
  spec.window_left = static_cast<int32_t>(config.attention.mask.window_left);
  spec.window_right = static_cast<int32_t>(config.attention.mask.window_right);
  return layout.ring == 1 ? 0 : ring_hops(spec, sequence_layout(config, layout));
}

}  // namespace

ModelSize model_size(const Config& config, int64_t vocab) {
  const ModelConfig& m = config.model;
  const int64_t q = query_width(config), k = key_width(config), gates = mlp_inputs(config);
  const int64_t attention_products = m.width * (q + 2 * k) + q * m.width;
  const int64_t mlp_products = (gates + 1) * m.width * m.mlp_width;
  const int64_t attention_bias = m.bias ? q + 2 * k + m.width : 0;
  const int64_t mlp_bias = m.bias ? gates * m.mlp_width + m.width : 0;
  const bool norm_bias = m.bias && m.norm == NormChoice::layer;
  const int64_t score = config.attention.score == ScoreChoice::additive ? q : 0;
  ModelSize size;
  size.embedding = vocab * m.width;
  size.positions = config.attention.position == PositionChoice::learned ? config.data.sequence * m.width : 0;
  size.attention = m.layers * (attention_products + attention_bias + score);
  size.mlp = m.layers * (mlp_products + mlp_bias);
  size.norms = (2 * m.layers + 1) * m.width * (norm_bias ? 2 : 1);
  size.head = m.tie_embeddings ? 0 : vocab * m.width;
  size.matmul = m.layers * (attention_products + mlp_products) + vocab * m.width;
  return size;
}

double mean_visible_keys(const Config& config) {
  // Sum over rows i of min(i, left) + 1 + min(T - 1 - i, right), divided by T; min summed in closed form.
  const MaskConfig& mask = config.attention.mask;
  const auto t = static_cast<double>(config.data.sequence);
  const auto side = [t](int64_t window) {
    const double w = std::min(static_cast<double>(window), t - 1.0);
    return (w * (w - 1.0) / 2.0 + w * (t - w)) / t;
  };
  return 1.0 + side(mask.window_left) + side(mask.causal ? 0 : mask.window_right);
}

double flops_per_token(const Config& config, int64_t vocab) {
  const auto matmul = static_cast<double>(model_size(config, vocab).matmul);
  const auto attention = static_cast<double>(config.model.layers * query_width(config));
  return 6.0 * matmul + 12.0 * attention * mean_visible_keys(config);
}

MemoryPlan memory_plan(const Config& config, const RunLayout& layout, int64_t vocab) {
  const int64_t parameters = model_size(config, vocab).total();
  const int64_t tokens = local_tokens(config, layout);
  const bool recompute = config.train.recompute == RecomputeChoice::layer;
  const bool adamw = config.optim.name == OptimizerChoice::adamw;
  const int64_t states = adamw ? 2 : config.optim.momentum > 0.0 ? 1 : 0;
  const int64_t kept = recompute ? config.model.layers * 2 * config.model.width + layer_activations(config)
                                 : config.model.layers * layer_activations(config);
  const int64_t exchanged = layout.ring == 1 ? 0 : 2 * 2 + 3 * 2;  // forward double buffer, backward gradients
  MemoryPlan plan;
  plan.weights = parameters * kFloat;
  plan.gradients = parameters * kFloat;
  plan.optimizer = parameters * kFloat * states;
  plan.activations = tokens * (kept + backward_temporaries(config)) * kFloat;
  plan.loss = (chunk_rows(config, vocab, tokens) * vocab + 2 * tokens * config.model.width) * kFloat;
  plan.ring = exchanged * tokens * key_width(config) * kFloat;
  plan.data = config.data.prefetch * layout.passes * layout.micro_batch *
              (2 * tokens / layout.micro_batch + config.data.sequence) * kFloat;
  plan.slack = plan.total() / 20;
  return plan;
}

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
