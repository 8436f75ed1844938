// SPDX-License-Identifier: Apache-2.0
#include "trainer/step_time.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "trainer/rank_shape.h"
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

double real(int64_t n) { return static_cast<double>(n); }

// Forward and backward of one layer on one rank, seconds.
struct LayerTime {
  double products = 0.0;  // forward; input gradients and weight gradients take as long each
  double attention_forward = 0.0, attention_backward = 0.0;
  double small_forward = 0.0, small_backward = 0.0;
  double forward() const { return products + attention_forward + small_forward; }
  double backward() const { return 2.0 * products + attention_backward + small_backward; }
};

// Of a rank that shares its node with others: cores have shared parts, and beyond the cores ranks take turns.
double slowdown(const Calibration& c, int64_t ranks) {
  if (c.concurrency == 0 || ranks <= 1) return 1.0;
  if (ranks >= c.concurrency) return c.slowdown * real(ranks) / real(c.concurrency);
  return 1.0 + (c.slowdown - 1.0) * real(ranks - 1) / real(c.concurrency - 1);
}

class StepClock {
 public:
  StepClock(const Config& config, const RunLayout& layout, int64_t vocab, const Calibration& calibration,
            int64_t ranks_per_node)
      : config_(config),
        layout_(layout),
        calibration_(calibration),
        rank_(config, layout, vocab),
        per_node_(ranks_per_node > 0 ? std::min(ranks_per_node, layout.world) : layout.world) {
    slowed_ = slowdown(calibration, per_node_);
    for (const SchemeCount& s : context_schemes(config)) layers_.emplace_back(layer(s.scheme), real(s.layers));
  }

  void add_compute(StepTime& time, const RankParameters& parameters) const;
  void add_transfers(StepTime& time, const std::vector<Transfer>& transfers) const;

 private:
  double product(int64_t n, int64_t k) const {
    return slowed_ * product_seconds(calibration_, real(rank_.rows), real(n), real(k));
  }
  double moved(double elements) const {
    return slowed_ * memory_seconds(calibration_, elements * real(calibration_.precision.activation));
  }
  double products() const;
  double own_product() const { return products() / 4.0; }  // average of those that a tensor transfer belongs to
  LayerTime layer(ContextScheme scheme) const;
  void add_attention(LayerTime& time, const ContextShape& c) const;
  double loss() const;
  double optimizer(const RankParameters& parameters) const;
  bool repeats() const { return config_.train.recompute != RecomputeChoice::none; }
  // Average over the layers.
  template <typename Part>
  double mean(Part part) const;
  double behind(const Transfer& transfer) const;
  double seconds(const Transfer& transfer) const;

  const Config& config_;
  const RunLayout& layout_;
  const Calibration& calibration_;
  RankShape rank_;
  int64_t per_node_;
  double slowed_ = 1.0;  // ranks that share the cores
  std::vector<std::pair<LayerTime, double>> layers_;
};

double StepClock::products() const {
  const RankShape& r = rank_;
  return product(r.queries() + 2 * r.keys(), r.width) + product(r.width, r.queries()) +
         product(r.gates * r.mlp, r.width) + product(r.width, r.mlp);
}

void StepClock::add_attention(LayerTime& time, const ContextShape& c) const {
  const bool whole = c.scheme == ContextScheme::ring || c.scheme == ContextScheme::all_gather;
  const PairCount pairs = visible_pairs(config_, layout_, whole);
  // With the heads dealt out to all ranks every rank has whole sequences.
  const double most =
      c.scheme == ContextScheme::ulysses ? mean_visible_keys(config_) * real(rank_.sequence) : pairs.most;
  const double products = most * real(rank_.batch * c.queries);
  const double keys = most / real(c.tokens);
  // In stripes every owner's keys reach up to the query.
  const bool striped = sequence_layout(config_, layout_).order() == SequenceOrder::striped;
  const double borders = striped ? real(c.members) : 1.0;
  time.attention_forward = slowed_ * attention_seconds(calibration_, 4.0 * products, keys, borders, /*backward=*/false);
  time.attention_backward =
      slowed_ * attention_seconds(calibration_, 10.0 * products, keys, borders, /*backward=*/true);
}

LayerTime StepClock::layer(ContextScheme scheme) const {
  const RankShape& r = rank_;
  const ContextShape c(r, scheme);
  LayerTime time;
  time.products = products();
  add_attention(time, c);
  const double between = real(r.own_rows * r.width), rows = real(r.rows);
  const double rotated =
      config_.attention.position == PositionChoice::rope ? 2.0 * rows * real(r.queries() + r.keys()) : 0.0;
  const double activated = rows * real((r.gates + 1) * r.mlp);
  // Norms with residual sums: 4 tensors each forward, 5 backward. Copies of the head exchange: pack and unpack.
  const double packed = c.dealt > 1 ? 4.0 * rows * real(2 * r.queries() + 2 * r.keys()) : 0.0;
  time.small_forward = moved(8.0 * between) + moved(rotated) + moved(activated) + moved(packed);
  const double cleared = rows * real(r.queries() + 2 * r.keys());
  time.small_backward = moved(10.0 * between) + moved(rotated + cleared) +
                        moved(activated + rows * real(r.gates * r.mlp)) + moved(packed);
  if (config_.train.mlp_chunk > 0) {  // its forward again
    time.small_backward += moved(activated) + product(r.gates * r.mlp, r.width) + product(r.width, r.mlp);
  }
  return time;
}

// Embedding, logits, their two gradients, and the passes over the logits: largest, exponentials, scaling.
double StepClock::loss() const {
  if (rank_.vocabulary == 0) return 0.0;
  const double logits = real(rank_.rows) * real(rank_.vocabulary) * 4.0 / real(calibration_.precision.activation);
  return 3.0 * product(rank_.vocabulary, rank_.width) + moved(5.0 * logits) +
         moved(6.0 * real(rank_.own_rows * rank_.width));
}

double StepClock::optimizer(const RankParameters& parameters) const {
  const Precision& p = calibration_.precision;
  const double states = config_.optim.name == OptimizerChoice::adamw ? 16.0 : config_.optim.momentum > 0.0 ? 8.0 : 0.0;
  // States, master copy and weights read and written, gradients read twice (norm, update).
  const double bytes =
      states + 2.0 * real(p.master) + real(p.master > 0 ? p.weight : 2 * p.weight) + 2.0 * real(p.gradient);
  return slowed_ * memory_seconds(calibration_, bytes * real(parameters.shard));
}

void StepClock::add_compute(StepTime& time, const RankParameters& parameters) const {
  const double passes = real(layout_.passes);
  const double forwards = repeats() ? 2.0 : 1.0;
  for (const auto& [layer, count] : layers_) {
    const double times = passes * count;
    time.products += times * (forwards + 2.0) * layer.products;
    const double attentions = config_.train.recompute == RecomputeChoice::layer ? 2.0 : 1.0;
    time.attention += times * (attentions * layer.attention_forward + layer.attention_backward);
    time.elementwise += times * (forwards * layer.small_forward + layer.small_backward);
  }
  time.loss = passes * loss();
  time.optimizer = optimizer(parameters);
}

template <typename Part>
double StepClock::mean(Part part) const {
  double sum = 0.0;
  for (const auto& [layer, count] : layers_) sum += count * part(layer);
  return sum / real(rank_.layers);
}

// Arithmetic during one call of a transfer.
double StepClock::behind(const Transfer& t) const {
  switch (t.behind) {
    case Behind::nothing:
      return 0.0;
    case Behind::attention_forward:
      return mean([](const LayerTime& l) { return l.attention_forward; }) / t.blocks;
    case Behind::attention_backward:
      return mean([](const LayerTime& l) { return l.attention_backward; }) / t.blocks;
    case Behind::input_gradient:
    case Behind::weight_gradient:
      return own_product();
    case Behind::layer_forward:
      return mean([](const LayerTime& l) { return l.forward(); });
    case Behind::layer_backward:
      return mean([&](const LayerTime& l) { return l.backward() + (repeats() ? l.forward() : 0.0); });
    case Behind::backward:  // shared by the calls of a pass
      return 0.0;
    case Behind::next_forward:
      return real(rank_.layers) * mean([](const LayerTime& l) { return l.forward(); });
  }
  return 0.0;
}

double StepClock::seconds(const Transfer& t) const {
  const int64_t reach = t.group.ranks * t.group.stride;
  const bool across = reach > per_node_;
  const double inside = comm_seconds(calibration_, t.pattern, t.group.ranks, /*across=*/false, t.bytes);
  if (!across) return inside;
  // Ranks of the group on one node share its links to the others.
  const bool shared = t.pattern != CommPattern::ring && t.pattern != CommPattern::all_to_all;
  const int64_t beside = shared ? std::max<int64_t>(1, per_node_ / t.group.stride) : 1;
  const double start = comm_seconds(calibration_, t.pattern, t.group.ranks, across, 0.0);
  const double bytes = comm_seconds(calibration_, t.pattern, t.group.ranks, across, t.bytes) - start;
  return std::max(inside, start + bytes / real(beside));
}

void StepClock::add_transfers(StepTime& time, const std::vector<Transfer>& transfers) const {
  double backward = 0.0;  // transfers behind a whole pass, which all share it
  for (const Transfer& t : transfers) {
    const double each = seconds(t);
    time.communication += t.calls * each;
    if (t.behind == Behind::backward) {
      backward += t.calls * each;
      continue;
    }
    const bool cut = t.kind == TrafficKind::tensor && t.behind == Behind::nothing;
    const double covered = cut ? calibration_.tensor_overlap * std::min(each, own_product()) : 0.0;
    const double exposed = t.calls * std::max(0.0, each - covered - calibration_.overlap * behind(t));
    time.exposed += exposed;
    time.exposed_by[t.kind] += exposed;
  }
  const double passes = config_.parallel.zero >= 2 ? real(layout_.passes) : 1.0;
  const double cover = passes * real(rank_.layers) * mean([&](const LayerTime& l) { return l.backward(); });
  const double exposed = std::max(0.0, backward - calibration_.overlap * cover);
  time.exposed += exposed;
  time.exposed_by[TrafficKind::gradients] += exposed;
}

}  // namespace

StepTime step_time(const Config& config, const RunLayout& layout, int64_t vocab, const Calibration& calibration,
                   int64_t ranks_per_node, const RankParameters& parameters) {
  StepTime time;
  const StepClock clock(config, layout, vocab, calibration, ranks_per_node);
  clock.add_compute(time, parameters);
  clock.add_transfers(time, step_transfers(config, layout, vocab, calibration.precision, parameters));
  time.tokens_per_s = real(config.train.batch_samples * config.data.sequence) / time.total();
  if (calibration.peak_flops <= 0.0) return time;
  const double per_token = time.tokens_per_s / (real(layout.world) * calibration.peak_flops);
  const double attention = 12.0 * real(config.model.layers * config.model.heads * config.model.head_width);
  const double counted = flops_per_token(config, vocab);
  time.mfu = counted * per_token;
  time.mfu_full = (counted + attention * (real(config.data.sequence) - mean_visible_keys(config))) * per_token;
  return time;
}

}  // namespace farsight
