// SPDX-License-Identifier: Apache-2.0
#include "trainer/step_traffic.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention/spec.h"
#include "parallel/ring_attention.h"
#include "trainer/rank_shape.h"
#include "trainer/run_mesh.h"

namespace farsight {
namespace {

constexpr double kFloat = 4.0;

double real(int64_t n) { return static_cast<double>(n); }

AttentionSpec mask_of(const Config& config) {
  AttentionSpec spec;
  spec.causal = config.attention.mask.causal;
  spec.window_left = static_cast<int32_t>(config.attention.mask.window_left);
  spec.window_right = static_cast<int32_t>(config.attention.mask.window_right);
  return spec;
}

class StepTransfers {
 public:
  StepTransfers(const Config& config, const RunLayout& layout, int64_t vocab, const Precision& precision,
                const RankParameters& parameters)
      : config_(config),
        layout_(layout),
        rank_(config, layout, vocab),
        precision_(precision),
        parameters_(parameters),
        forwards_(config.train.recompute == RecomputeChoice::none ? 1.0 : 2.0),
        attentions_(config.train.recompute == RecomputeChoice::layer ? 2.0 : 1.0) {}

  std::vector<Transfer> all();

 private:
  void add(const Transfer& transfer) {
    if (transfer.group.ranks > 1 && transfer.calls > 0.0) out_.push_back(transfer);
  }
  void tensor_call(CommPattern pattern, double per_layer, Behind behind = Behind::nothing) {
    add({TrafficKind::tensor, pattern, {rank_.tensor, 1}, rows_, per_layer * layers_, behind});
  }
  void tensor_layers();
  void tensor_ends();
  void ring(const ContextShape& c, double layers);
  void gather(double layers);
  void exchange_heads(const ContextShape& c, double layers);
  void gradients();
  void weights();
  RankGroup zero_group() const { return {layout_.zero_group, rank_.tensor}; }
  RankGroup replicas() const { return {layout_.data * layout_.context(), rank_.tensor}; }
  RankGroup groups() const { return {replicas().ranks / layout_.zero_group, rank_.tensor * layout_.zero_group}; }

  const Config& config_;
  const RunLayout& layout_;
  RankShape rank_;
  Precision precision_;
  const RankParameters& parameters_;
  double forwards_, attentions_;  // times that a layer and its attention run forward
  double rows_ = 0.0, layers_ = 0.0, passes_ = 0.0;
  std::vector<Transfer> out_;
};

void StepTransfers::tensor_layers() {
  const bool tiled = config_.train.mlp_chunk > 0;
  if (!rank_.cut_rows) {
    tensor_call(CommPattern::all_reduce, 2.0 * forwards_);
    tensor_call(CommPattern::all_reduce, tiled ? 1.0 : 2.0, Behind::weight_gradient);
    if (tiled) tensor_call(CommPattern::all_reduce, 1.0);
    return;
  }
  tensor_call(CommPattern::all_gather, 2.0 * forwards_);
  tensor_call(CommPattern::reduce_scatter, 2.0 * forwards_);
  tensor_call(CommPattern::all_gather, 2.0);  // gradients of the row products
  const double hidden = tiled ? 1.0 : 2.0;
  tensor_call(CommPattern::all_gather, hidden, Behind::input_gradient);
  tensor_call(CommPattern::reduce_scatter, hidden, Behind::weight_gradient);
  tensor_call(CommPattern::all_gather, 2.0 - hidden);
  tensor_call(CommPattern::reduce_scatter, 2.0 - hidden);
}

// Embedding and head: sums of rows there and back, and what each row's loss needs from all parts of the vocabulary.
void StepTransfers::tensor_ends() {
  const RankGroup group{rank_.tensor, 1};
  const auto once = [&](CommPattern pattern) { add({TrafficKind::loss, pattern, group, rows_, passes_}); };
  if (rank_.cut_rows) {
    for (const CommPattern p : {CommPattern::reduce_scatter, CommPattern::all_gather}) {
      once(p);
      once(p);
    }
  } else {
    once(CommPattern::all_reduce);
    once(CommPattern::all_reduce);
  }
  add({TrafficKind::loss, CommPattern::all_reduce, group, real(rank_.rows) * (kFloat + 3.0 * 8.0), passes_});
}

void StepTransfers::ring(const ContextShape& c, double layers) {
  if (c.members == 1) return;
  const bool whole = c.scheme == ContextScheme::ring;
  const SequenceLayout ranks = sequence_layout(config_, layout_);
  const int64_t hops = ring_hops(mask_of(config_), whole ? ranks : ranks.member_layout());
  const RankGroup group{c.members, rank_.tensor * (whole ? 1 : rank_.ulysses)};
  const double block = real(rank_.batch * c.tokens * 2 * c.keys);
  const double keys = block * real(precision_.activation), blocks = real(hops + 1);
  const auto hop = [&](double bytes, double calls, Behind behind) {
    add({TrafficKind::keys, CommPattern::ring, group, bytes, calls * layers, behind, blocks});
  };
  hop(keys, attentions_ * real(hops), Behind::attention_forward);
  // Backward: the first hop moves keys, the others keys and gradients together, the last ones gradients alone.
  hop(keys, hops > 0 ? 1.0 : 0.0, Behind::attention_backward);
  hop(keys + block * kFloat, real(std::max<int64_t>(0, hops - 1)), Behind::attention_backward);
  hop(block * kFloat, hops > 0 ? 1.0 : 0.0, Behind::attention_backward);
  hop(block * kFloat, hops > 0 ? 1.0 : 0.0, Behind::nothing);
}

void StepTransfers::gather(double layers) {
  const int64_t all = rank_.kv_heads;
  const int64_t stride = config_.parallel.gather_heads == 0 ? all : std::min(config_.parallel.gather_heads, all);
  const double turns = real((all + stride - 1) / stride);
  const RankGroup group{rank_.context, rank_.tensor};
  const double block = real(rank_.batch * rank_.sequence * 2 * rank_.keys()) / turns;
  const double bytes = block * real(precision_.activation);
  // While a turn arrives the own block of it is computed, and the turn before it.
  const double first_blocks = turns * real(rank_.context);
  const auto turn = [&](CommPattern pattern, double size, double calls, Behind behind, double blocks) {
    add({TrafficKind::keys, pattern, group, size, calls * layers, behind, blocks});
  };
  turn(CommPattern::all_gather, bytes, attentions_, Behind::attention_forward, first_blocks);
  turn(CommPattern::all_gather, bytes, attentions_ * (turns - 1.0), Behind::attention_forward, turns);
  turn(CommPattern::all_gather, bytes, 1.0, Behind::attention_backward, first_blocks);
  turn(CommPattern::all_gather, bytes, turns - 1.0, Behind::attention_backward, turns);
  turn(CommPattern::reduce_scatter, block * kFloat, turns - 1.0, Behind::attention_backward, turns);
  turn(CommPattern::reduce_scatter, block * kFloat, 1.0, Behind::nothing, 1.0);
}

void StepTransfers::exchange_heads(const ContextShape& c, double layers) {
  if (c.dealt == 1) return;
  const RankGroup group{c.dealt, rank_.tensor};
  const double element = real(precision_.activation);
  const double in = real(rank_.rows * (rank_.queries() + 2 * rank_.keys())) * element;
  const double out = real(c.rows * c.queries) * element;
  for (const double bytes : {in, out}) {
    add({TrafficKind::heads, CommPattern::all_to_all, group, bytes, (forwards_ + 1.0) * layers});
  }
}

void StepTransfers::gradients() {
  const int64_t stage = config_.parallel.zero;
  const double all = real(parameters_.slab) * real(precision_.gradient);
  const double buckets = real(parameters_.buckets), size = all / buckets;
  const double times = buckets * (stage >= 2 ? real(layout_.passes) : 1.0);
  if (stage == 0) {
    add({TrafficKind::gradients, CommPattern::all_reduce, replicas(), size, times, Behind::backward});
    return;
  }
  const double shard = real(parameters_.shard) * real(precision_.gradient) / buckets;
  add({TrafficKind::gradients, CommPattern::reduce_scatter, zero_group(), size, times, Behind::backward});
  add({TrafficKind::gradients, CommPattern::all_reduce, groups(), shard, times, Behind::backward});
}

void StepTransfers::weights() {
  const int64_t stage = config_.parallel.zero;
  if (stage == 0) return;
  const double all = real(parameters_.slab) * real(precision_.weight);
  if (stage < 3) {
    add({TrafficKind::weights, CommPattern::all_gather, zero_group(), all, 1.0, Behind::next_forward});
    return;
  }
  const double ends = real(parameters_.units.front() + parameters_.units.back()) * real(precision_.weight);
  const double layer = (all - ends) / real(rank_.layers);
  add({TrafficKind::weights, CommPattern::all_gather, zero_group(), ends, passes_});
  add({TrafficKind::weights, CommPattern::all_gather, zero_group(), layer, passes_});  // the first layer
  add({TrafficKind::weights, CommPattern::all_gather, zero_group(), layer, layers_ - passes_, Behind::layer_forward});
  add({TrafficKind::weights, CommPattern::all_gather, zero_group(), layer, layers_, Behind::layer_backward});
}

std::vector<Transfer> StepTransfers::all() {
  passes_ = real(layout_.passes);
  layers_ = real(rank_.layers) * passes_;
  rows_ = real(rank_.rows * rank_.width * precision_.activation);
  if (rank_.tensor > 1) {
    tensor_layers();
    tensor_ends();
  }
  for (const SchemeCount& s : context_schemes(config_)) {
    const ContextShape c(rank_, s.scheme);
    const double layers = real(s.layers) * passes_;
    if (s.scheme == ContextScheme::all_gather) {
      gather(layers);
    } else {
      exchange_heads(c, layers);
      ring(c, layers);
    }
  }
  gradients();
  weights();
  return std::move(out_);
}

int64_t& amount(TrafficPlan& plan, TrafficKind kind) {
  switch (kind) {
    case TrafficKind::gradients:
      return plan.gradients;
    case TrafficKind::weights:
      return plan.weights;
    case TrafficKind::tensor:
      return plan.tensor;
    case TrafficKind::keys:
      return plan.keys;
    case TrafficKind::heads:
      return plan.heads;
    case TrafficKind::loss:
      break;
  }
  return plan.loss;
}

}  // namespace

const char* to_string(TrafficKind kind) {
  switch (kind) {
    case TrafficKind::gradients:
      return "gradients";
    case TrafficKind::weights:
      return "weights";
    case TrafficKind::tensor:
      return "tensor";
    case TrafficKind::keys:
      return "keys";
    case TrafficKind::heads:
      return "heads";
    case TrafficKind::loss:
      return "loss";
  }
  return "?";
}

std::vector<Transfer> step_transfers(const Config& config, const RunLayout& layout, int64_t vocab,
                                     const Precision& precision, const RankParameters& parameters) {
  return StepTransfers(config, layout, vocab, precision, parameters).all();
}

double sent_bytes(const Transfer& transfer) {
  const double n = real(transfer.group.ranks);
  if (transfer.pattern == CommPattern::ring) return transfer.bytes;
  return transfer.bytes * (n - 1.0) / n * (transfer.pattern == CommPattern::all_reduce ? 2.0 : 1.0);
}

TrafficPlan sum_traffic(const std::vector<Transfer>& transfers) {
  TrafficPlan plan;
  for (const Transfer& t : transfers) amount(plan, t.kind) += std::llround(sent_bytes(t) * t.calls);
  return plan;
}

TrafficPlan traffic_plan(const Config& config, const RunLayout& layout, int64_t vocab, const Precision& precision) {
  return sum_traffic(step_transfers(config, layout, vocab, precision, largest_rank_parameters(config, layout, vocab)));
}

}  // namespace farsight
