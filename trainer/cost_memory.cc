// SPDX-License-Identifier: Apache-2.0
// Memory of a step: a walk through the moments of backward at which much is alive at once, in the order of model.cc.
// What an operation keeps on the tape and what it needs while it runs are written down here operation by operation.
#include <algorithm>
#include <vector>

#include "kernels/offload.h"
#include "trainer/cost_model.h"
#include "trainer/rank_shape.h"

namespace farsight {
namespace {

constexpr int64_t kFloat = 4;

// Elements (activations) and bytes (what is fp32 or integer in every precision).
struct Amounts {
  int64_t elements = 0, bytes = 0;
  Amounts operator+(const Amounts& o) const { return {elements + o.elements, bytes + o.bytes}; }
};

struct Moment {
  const char* name;
  Amounts kept, working;
  int64_t loss = 0, exchange = 0;      // bytes
  int64_t weights = 0, gradients = 0;  // elements that are here at this moment only (ZeRO stages 2 and 3)
};

class Activations {
 public:
  Activations(const Config& config, const RunLayout& layout, int64_t vocab, const Precision& precision,
              const RankParameters& parameters)
      : config_(config),
        rank_(config, layout, vocab),
        precision_(precision),
        parameters_(parameters),
        recompute_(config.train.recompute != RecomputeChoice::none),
        // bf16 means a device; on the CPU they stay where they are.
        offloads_(recompute_ && config.train.offload == OffloadChoice::activations && precision.activation == 2) {}

  std::vector<Moment> moments() const;
  // Bytes of layer inputs that wait in host memory.
  int64_t offloaded() const { return offloads_ ? rank_.layers * between() * precision_.activation : 0; }

 private:
  int64_t between() const { return rank_.own_rows * rank_.width; }  // one tensor between blocks
  int64_t gathered() const { return rank_.rows * rank_.width; }
  int64_t moved() const { return rank_.cut_rows ? gathered() : 0; }  // rows gathered from the tensor ranks
  int64_t mlp_kept() const { return config_.train.mlp_chunk > 0 ? 0 : rank_.rows * (rank_.gates + 1) * rank_.mlp; }
  // GELU as part of the products, where no gradient of what it gives is held: kernels/gelu_mlp.cc decides as here.
  bool fused_gelu() const {
    return rank_.gates == 1 && precision_.activation == 2 && rank_.width % 8 == 0 && rank_.mlp % 8 == 0;
  }
  Amounts attention_kept(const ContextShape& c) const;
  Amounts layer_kept(const ContextShape& c) const;
  Amounts pass_kept() const;
  Amounts attention_saved(const ContextShape& c) const;
  Amounts model_kept() const;
  void add_loss(std::vector<Moment>& out) const;
  void add_mlp(std::vector<Moment>& out, const Amounts& kept) const;
  void add_attention(std::vector<Moment>& out, const Amounts& kept, const ContextShape& c) const;
  Moment in_layer(const char* name, const Amounts& kept, const Amounts& working) const;
  int64_t backward_exchange(const ContextShape& c) const;

  const Config& config_;
  RankShape rank_;
  Precision precision_;
  const RankParameters& parameters_;
  bool recompute_, offloads_;
};

// q k v, the output, log-sum-exp, positions and documents of the rows; with dealt heads both forms of the output, and
// of q k v the own one only where a norm reads it again.
Amounts Activations::attention_kept(const ContextShape& c) const {
  const RankShape& r = rank_;
  const bool normed = config_.attention.qk_norm == HeadNormChoice::rms, dealt = c.dealt > 1;
  const int64_t products = r.rows * (r.queries() + 2 * r.keys());
  Amounts kept{r.rows * r.queries() + (dealt ? c.rows * (2 * c.queries + 2 * c.keys) : products), 0};
  if (normed) {
    kept.elements += dealt ? products : r.rows * (r.queries() + r.keys());
    kept.bytes += r.rows * (r.heads + r.kv_heads) * kFloat;
  }
  const int64_t labels = config_.data.pack == PackChoice::documents ? 2 : 1;
  kept.bytes += c.rows * (c.heads + labels) * kFloat;
  return kept;
}

// Two norms with their sums, attention, MLP.
Amounts Activations::layer_kept(const ContextShape& c) const {
  const int64_t statistics = config_.model.norm == NormChoice::layer ? 4 : 2;
  return attention_kept(c) + Amounts{4 * between() + mlp_kept(), statistics * rank_.own_rows * kFloat};
}

// Embedding and rotation table; under tensor parallelism the partial embedding stays until its backward.
Amounts Activations::pass_kept() const {
  Amounts kept{0, 3 * rank_.rows * kFloat};
  if (config_.attention.position == PositionChoice::rope) kept.bytes += rank_.rows * rank_.head_width * kFloat;
  if (rank_.tensor == 1) return kept;
  kept.elements += gathered();
  if (config_.attention.position == PositionChoice::learned || config_.model.dropout > 0.0) kept.elements += between();
  return kept;
}

// What recomputed layers keep besides their input: nothing, or the result of their attention.
Amounts Activations::attention_saved(const ContextShape& c) const {
  if (config_.train.recompute != RecomputeChoice::attn) return {};
  return {c.rows * c.queries, c.rows * c.heads * kFloat};
}

// All layers, as forward leaves them.
Amounts Activations::model_kept() const {
  Amounts kept = pass_kept();
  if (recompute_) {
    // The input of each layer and what leaves the last one; of what is offloaded, the values that are used or under
    // way.
    const int64_t inputs = rank_.layers + 2;
    kept.elements += (offloads_ ? std::min(inputs, kOffloadAhead) : inputs) * between();
    for (const SchemeCount& s : context_schemes(config_)) {
      const Amounts saved = attention_saved(ContextShape(rank_, s.scheme));
      kept = kept + Amounts{s.layers * saved.elements, s.layers * saved.bytes};
    }
    return kept;
  }
  for (const SchemeCount& s : context_schemes(config_)) {
    const Amounts layer = layer_kept(ContextShape(rank_, s.scheme));
    kept = kept + Amounts{s.layers * layer.elements, s.layers * layer.bytes};
  }
  return kept;
}

// As kernels/cross_entropy.cc cuts the rows.
int64_t chunk_rows(int64_t wanted, int64_t rows, int64_t vocabulary) {
  constexpr int64_t logits = (int64_t{64} << 20) / kFloat;
  const int64_t most = wanted > 0 ? wanted : std::max<int64_t>(256, logits / std::max<int64_t>(1, vocabulary));
  const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);
  return (rows + chunks - 1) / chunks;
}

void Activations::add_loss(std::vector<Moment>& out) const {
  const int64_t chunk = chunk_rows(config_.train.loss_chunk, rank_.rows, rank_.vocabulary);
  const Amounts kept = model_kept() + Amounts{3 * between() + moved(), 0};
  Moment loss{"loss", kept, {}};
  // Logits, the gradient of all rows, and that of a slice of the vocabulary, which is added to it.
  loss.loss = chunk * rank_.vocabulary * kFloat + (gathered() + chunk * rank_.width) * precision_.activation;
  if (config_.parallel.zero >= 2) loss.gradients = parameters_.units.front() + parameters_.units.back();
  if (config_.parallel.zero == 3) loss.weights = parameters_.units.front() + parameters_.units.back();
  Moment norm{"final norm backward", model_kept() + Amounts{3 * between(), 0}, {3 * between(), 0}};
  norm.gradients = loss.gradients;
  norm.weights = loss.weights;
  out.push_back(loss);
  out.push_back(norm);
}

Moment Activations::in_layer(const char* name, const Amounts& kept, const Amounts& working) const {
  Moment moment{name, kept, working};
  const auto& units = parameters_.units;
  const int64_t layer = units.size() > 2 ? *std::max_element(units.begin() + 1, units.end() - 1) : 0;
  if (config_.parallel.zero >= 2) moment.gradients = units.front() + layer;
  // The layer itself and the one before it, on its way.
  if (config_.parallel.zero == 3)
    moment.weights = units.front() + units.back() + std::min<int64_t>(2, rank_.layers) * layer;
  return moment;
}

void Activations::add_mlp(std::vector<Moment>& out, const Amounts& kept) const {
  const int64_t f = rank_.rows * rank_.mlp;
  const int64_t returned = rank_.cut_rows ? between() : 0;  // own rows of a reduced gradient
  const int64_t input = rank_.tensor > 1 ? gathered() : between();
  if (config_.train.mlp_chunk > 0) {
    const int64_t chunk = std::min(config_.train.mlp_chunk, rank_.rows);
    const int64_t hidden = 2 * (rank_.gates + 1) - (fused_gelu() ? 1 : 0);
    const int64_t tile = chunk * (hidden * rank_.mlp + 2 * rank_.width);
    // Gradients of residual and branch, the branch itself; gathered rows and their gradient; the result.
    out.push_back(in_layer("mlp backward", kept, {3 * between() + 2 * moved() + gathered() + tile, 0}));
    return;
  }
  out.push_back(in_layer("mlp backward", kept, {3 * between() + moved() + f, 0}));
  if (!fused_gelu() || rank_.tensor > 1) {
    out.push_back(in_layer("mlp backward", kept, {between() + (rank_.gates + 1) * f, 0}));
  }
  out.push_back(in_layer("mlp backward", kept, {between() + (rank_.gates - 1) * f + moved() + input + returned, 0}));
}

// Buffers of keys, values and their gradients, in bytes.
int64_t Activations::backward_exchange(const ContextShape& c) const {
  if (c.members == 1) return 0;
  if (c.scheme != ContextScheme::all_gather) {
    return rank_.batch * ((rank_.sequence + c.members - 1) / c.members) * 2 * c.keys *
           (2 * precision_.activation + 3 * kFloat);
  }
  const int64_t heads =
      config_.parallel.gather_heads == 0 ? rank_.kv_heads : std::min(config_.parallel.gather_heads, rank_.kv_heads);
  const int64_t slots = heads < rank_.kv_heads ? 2 : 1;
  return slots * rank_.batch * rank_.sequence * 2 * heads * rank_.head_width * (precision_.activation + kFloat);
}

void Activations::add_attention(std::vector<Moment>& out, const Amounts& layers, const ContextShape& c) const {
  const RankShape& r = rank_;
  // The second norm and the MLP are done.
  const Amounts kept{layers.elements - mlp_kept() - 2 * between(), layers.bytes};
  const int64_t all = r.queries() + 2 * r.keys();
  const int64_t normed = config_.attention.qk_norm == HeadNormChoice::rms ? r.rows * (r.queries() + r.keys()) : 0;
  const int64_t dealt_all = c.rows * (c.queries + 2 * c.keys);
  out.push_back(in_layer("attention output backward", kept, {2 * between() + moved() + r.rows * r.queries(), 0}));
  int64_t gradients = r.rows * (r.queries() + all) + normed;
  if (c.dealt > 1) {
    Moment heads = in_layer("head exchange", kept, {between() + r.rows * r.queries(), 0});
    heads.exchange = (r.rows * r.queries() + c.rows * c.queries) * precision_.activation;
    out.push_back(heads);
    gradients = c.rows * c.queries + dealt_all - r.rows * r.queries();  // the gathered output is done
    // The way back: messages put in order, messages that arrive, the gradients they are added to.
    Moment rows = in_layer("head exchange", {kept.elements - r.rows * r.queries() - c.rows * c.queries, kept.bytes},
                           {between() + dealt_all + r.rows * all + normed, 0});
    rows.exchange = (dealt_all + r.rows * all) * precision_.activation;
    out.push_back(rows);
  }
  Moment attention = in_layer("attention backward", kept, {between() + gradients, c.rows * c.heads * kFloat});
  attention.exchange = backward_exchange(c);
  out.push_back(attention);
}

std::vector<Moment> Activations::moments() const {
  std::vector<Moment> out;
  add_loss(out);
  for (const SchemeCount& s : context_schemes(config_)) {
    const ContextShape c(rank_, s.scheme);
    Amounts kept = model_kept();
    if (recompute_) {  // a layer replayed, its output again, but not what it saved
      const Amounts saved = attention_saved(c);
      kept = kept + layer_kept(c) + Amounts{-saved.elements, -saved.bytes};
    }
    add_mlp(out, kept);
    add_attention(out, kept, c);
  }
  return out;
}

int64_t bytes_of(const Amounts& amounts, const Precision& precision) {
  return amounts.elements * precision.activation + amounts.bytes;
}

int64_t optimizer_bytes(const Config& config) {
  if (config.optim.name == OptimizerChoice::adamw) return 2 * kFloat;
  return config.optim.momentum > 0.0 ? kFloat : 0;
}

// Inputs and labels of the own positions and the documents of all, one step more than is read ahead.
int64_t data_bytes(const Config& config, const RunLayout& layout) {
  const RankShape rank(config, layout, 0);
  const int64_t documents = config.data.pack == PackChoice::documents ? rank.batch * rank.sequence : 0;
  return (config.data.prefetch + 1) * layout.passes * (2 * rank.rows + documents) * kFloat;
}

}  // namespace

MemoryPlan memory_plan(const Config& config, const RunLayout& layout, int64_t vocab, const Precision& precision,
                       const RankParameters& parameters) {
  const int64_t stage = config.parallel.zero;
  MemoryPlan states;
  states.weights = (stage == 3 ? parameters.shard : parameters.slab) * precision.weight;
  states.gradients = (stage >= 2 ? parameters.shard : parameters.slab) * precision.gradient;
  states.optimizer = parameters.shard * (optimizer_bytes(config) + precision.master);
  states.data = data_bytes(config, layout);
  const Activations activations(config, layout, vocab, precision, parameters);
  states.offloaded = activations.offloaded();
  MemoryPlan fullest;
  for (const Moment& moment : activations.moments()) {
    MemoryPlan plan = states;
    plan.moment = moment.name;
    plan.weights += moment.weights * precision.weight;
    plan.gradients += moment.gradients * precision.gradient;
    plan.activations = bytes_of(moment.kept, precision);
    plan.working = bytes_of(moment.working, precision);
    plan.loss = moment.loss;
    plan.exchange = moment.exchange;
    if (plan.expected() > fullest.expected()) fullest = plan;
  }
  fullest.slack = fullest.expected() / 20;
  return fullest;
}

MemoryPlan memory_plan(const Config& config, const RunLayout& layout, int64_t vocab, const Precision& precision) {
  return memory_plan(config, layout, vocab, precision, largest_rank_parameters(config, layout, vocab));
}

}  // namespace farsight
