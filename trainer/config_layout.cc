// SPDX-License-Identifier: Apache-2.0
// From the configuration and a number of ranks to extents and micro-batches.
#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "kernels/error.h"
#include "parallel/sequence_order.h"
#include "trainer/config.h"
#include "trainer/config_check.h"

namespace farsight {
namespace {

// Enough rows for the matrix products to run at full speed, small enough for activations to stay modest.
constexpr int64_t kAutomaticTokens = 8192;

bool divides_batch(const Config& config, int64_t data) {
  const int64_t micro = std::max<int64_t>(1, config.train.micro_batch);
  return config.train.batch_samples % (data * micro) == 0;
}

// Ranks that compute one sample together.
int64_t ranks_of_a_sample(const ParallelConfig& p) { return p.ring * p.ulysses * p.tensor * p.pipeline; }

// "parallel.ring = 2 x parallel.tensor = 2": the extents besides data that are not 1, ring alone when all are.
std::string extents_text(const ParallelConfig& p) {
  std::string text;
  for (const auto& [name, value] : {std::pair{"ring", p.ring}, {"ulysses", p.ulysses}, {"tensor", p.tensor}}) {
    if (value > 1) text += fmt::format("{}parallel.{} = {}", text.empty() ? "" : " x ", name, value);
  }
  return text.empty() ? "parallel.ring = 1" : text;
}

// What the ranks could do instead, with ulysses and tensor as they are.
std::string legal_layouts(const Config& config, int64_t world) {
  constexpr int most = 12;
  const ParallelConfig& p = config.parallel;
  const int64_t others = p.ulysses * p.tensor * p.pipeline;
  std::string text;
  int listed = 0;
  for (int64_t ring = 1; ring <= world && listed < most; ++ring) {
    const bool legal = world % (ring * others) == 0 && ring * p.ulysses <= config.data.sequence &&
                       divides_batch(config, world / (ring * others));
    if (!legal) continue;
    text += fmt::format("{}data={} ring={}", listed++ == 0 ? "" : ", ", world / (ring * others), ring);
    if (p.ulysses > 1) text += fmt::format(" ulysses={}", p.ulysses);
    if (p.tensor > 1) text += fmt::format(" tensor={}", p.tensor);
  }
  if (listed > 0) return text;
  ParallelConfig fixed = p;
  fixed.ring = 1;
  const std::string extents = others > 1 ? extents_text(fixed) + " and " : "";
  return fmt::format("none with {}train.batch = {} samples", extents, config.train.batch_samples);
}

[[noreturn]] void refuse(const Config& config, int64_t world, const std::string& why) {
  const std::string position =
      first_origin(config, {"parallel.ring", "parallel.tensor", "parallel.ulysses", "parallel.data", "train.batch"},
                   "configuration");
  fail(ErrorKind::config, "{}: error: ranks that do not match the layout: {}; legal layouts of {} ranks: {}", position,
       why, world, legal_layouts(config, world));
}

int64_t resolve_data(const Config& config, int64_t world) {
  const ParallelConfig& p = config.parallel;
  const int64_t others = ranks_of_a_sample(p);
  if (p.data == 0 && world % others != 0)
    refuse(config, world, fmt::format("{} does not divide {} ranks", extents_text(p), world));
  const int64_t data = p.data == 0 ? world / others : p.data;
  if (data * others != world)
    refuse(config, world,
           fmt::format("parallel.data = {} x {} needs {} ranks, the job has {}", data, extents_text(p), data * others,
                       world));
  if (!divides_batch(config, data))
    refuse(config, world,
           fmt::format("train.batch = {} samples is not a multiple of {} data ranks x micro_batch {}",
                       config.train.batch_samples, data, std::max<int64_t>(1, config.train.micro_batch)));
  return data;
}

int64_t resolve_zero_group(const Config& config, int64_t replicas) {
  const int64_t group = config.parallel.zero_group == 0 ? replicas : config.parallel.zero_group;
  if (replicas % group == 0) return group;
  fail(ErrorKind::config, "{}: error: parallel.zero_group = {} does not divide data x ring x ulysses = {}",
       first_origin(config, {"parallel.zero_group"}, "configuration"), group, replicas);
}

int64_t automatic_micro_batch(const Config& config, int64_t data) {
  const int64_t samples = config.train.batch_samples / data;
  // Batch norms need all samples of a step at once, and the other forecasters are small.
  if (config.task.kind == TaskKind::forecast) return samples;
  const int64_t context = config.parallel.ring * config.parallel.ulysses;
  const int64_t local = (config.data.sequence + context - 1) / context;
  int64_t best = 1;
  for (int64_t b = 1; b <= samples && b * local <= kAutomaticTokens; ++b)
    if (samples % b == 0) best = b;
  return best;
}

OrderChoice concrete(SequenceOrder order) {
  switch (order) {
    case SequenceOrder::zigzag:
      return OrderChoice::zigzag;
    case SequenceOrder::striped:
      return OrderChoice::striped;
    case SequenceOrder::automatic:
    case SequenceOrder::contiguous:
      break;
  }
  return OrderChoice::contiguous;
}

OrderChoice resolve_order(const Config& config) {
  if (config.parallel.order != OrderChoice::automatic) return config.parallel.order;
  const MaskConfig& mask = config.attention.mask;
  return concrete(choose_order(SequenceOrder::automatic, config.data.pack == PackChoice::documents, mask.causal,
                               mask.window_left, config.data.sequence, config.parallel.ring));
}

// The statistics of a batch norm are those of a whole step.
void check_batch_norm(const Config& config, const RunLayout& layout) {
  const NormChoice norm = config.model.norm;
  const bool used = config.model.kind == ModelKind::patchtst;
  if (!used || (norm != NormChoice::batch && norm != NormChoice::sync_batch)) return;
  const std::string position =
      first_origin(config, {"model.norm", "train.micro_batch", "parallel.data"}, "configuration");
  if (layout.passes > 1) {
    fail(ErrorKind::config,
         "{}: error: model.norm = \"{}\" needs all {} samples of a step in one pass: leave train.micro_batch at "
         "\"auto\", or use norm = \"layer\"",
         position, norm == NormChoice::batch ? "batch" : "sync_batch", config.train.batch_samples);
  }
  if (norm == NormChoice::batch && layout.data > 1) {
    fail(ErrorKind::config,
         "{}: error: model.norm = \"batch\" would give other numbers on {} data-parallel ranks; use \"sync_batch\"",
         position, layout.data);
  }
}

}  // namespace

bool has_automatic_layout(const Config& config) {
  const ParallelConfig& p = config.parallel;
  return p.ring == kAutomaticExtent || p.ulysses == kAutomaticExtent || p.tensor == kAutomaticExtent ||
         p.zero == kAutomaticStage;
}

RunLayout resolve_layout(const Config& config, int64_t world_size) {
  if (has_automatic_layout(config))
    fail(ErrorKind::config,
         "{}: error: parallel.ring, ulysses, tensor or zero = \"auto\" is decided by train and by plan --ranks=N; give "
         "numbers here",
         first_origin(config, {"parallel.ring", "parallel.ulysses", "parallel.tensor", "parallel.zero"},
                      "configuration"));
  RunLayout layout;
  layout.world = world_size;
  layout.data = resolve_data(config, world_size);
  layout.ring = config.parallel.ring;
  layout.ulysses = config.parallel.ulysses;
  layout.tensor = config.parallel.tensor;
  layout.key_replicas = std::max<int64_t>(1, layout.tensor / config.model.kv_heads);
  layout.zero_group = resolve_zero_group(config, layout.data * layout.context());
  layout.order = resolve_order(config);
  layout.stripe = config.parallel.stripe;
  layout.micro_batch =
      config.train.micro_batch > 0 ? config.train.micro_batch : automatic_micro_batch(config, layout.data);
  layout.passes = config.train.batch_samples / (layout.data * layout.micro_batch);
  check_batch_norm(config, layout);
  return layout;
}

}  // namespace farsight
