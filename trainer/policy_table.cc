// SPDX-License-Identifier: Apache-2.0
#include "trainer/policy_table.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "trainer/model_placement.h"

namespace farsight {
namespace {

constexpr bool kYes = true;

// Scores and masks are functions of global positions, documents and heads, so all of these run under every sharing.
constexpr std::array kPolicies{
    AttentionPolicy{"attention.score = \"scaled_dot\"", "attention.score=scaled_dot", "attention.score",
                    [](const Config& c) { return c.attention.score == ScoreChoice::scaled_dot; }, kYes, kYes, kYes,
                    kYes, ""},
    AttentionPolicy{"attention.score = \"additive\"", "attention.score=additive attention.position=learned",
                    "attention.score", [](const Config& c) { return c.attention.score == ScoreChoice::additive; }, kYes,
                    kYes, kYes, kYes, ""},
    AttentionPolicy{"a causal mask", "attention.mask=causal", "attention.mask",
                    [](const Config& c) { return c.attention.mask.causal; }, kYes, kYes, kYes, kYes, ""},
    AttentionPolicy{"a window", "attention.mask=causal and window(20,0)", "attention.mask",
                    [](const Config& c) { return c.attention.mask.window_left != kUnlimitedWindow; }, kYes, kYes, kYes,
                    kYes, ""},
    AttentionPolicy{"data.pack = \"documents\"", "data.pack=documents", "data.pack",
                    [](const Config& c) { return c.data.pack == PackChoice::documents; }, kYes, kYes, kYes, kYes, ""},
    AttentionPolicy{"attention.position = \"rope\"", "attention.position=rope", "attention.position",
                    [](const Config& c) { return c.attention.position == PositionChoice::rope; }, kYes, kYes, kYes,
                    kYes, ""},
    AttentionPolicy{"attention.position = \"learned\"", "attention.position=learned", "attention.position",
                    [](const Config& c) { return c.attention.position == PositionChoice::learned; }, kYes, kYes, kYes,
                    kYes, ""},
    AttentionPolicy{"attention.qk_norm = \"rms\"", "attention.qk_norm=rms", "attention.qk_norm",
                    [](const Config& c) { return c.attention.qk_norm == HeadNormChoice::rms; }, kYes, kYes, kYes, kYes,
                    ""},
    AttentionPolicy{"attention.bias = \"alibi\"", "attention.bias=alibi attention.position=none", "attention.bias",
                    [](const Config& c) { return c.attention.bias == BiasChoice::alibi; }, kYes, kYes, kYes, kYes, ""},
    AttentionPolicy{"attention.dropout", "attention.dropout=0.2", "attention.dropout",
                    [](const Config& c) { return c.attention.dropout > 0.0; }, kYes, kYes, kYes, kYes, ""},
    AttentionPolicy{"attention.entropy_weight", "attention.entropy_weight=0.1", "attention.entropy_weight",
                    [](const Config& c) { return c.attention.entropy_weight != 0.0; }, kYes, kYes, kYes, kYes, ""},
    AttentionPolicy{"grouped key heads", "model.kv_heads=2", "model.kv_heads",
                    [](const Config& c) { return c.model.kv_heads < c.model.heads; }, kYes, kYes, kYes, kYes, ""},
};

bool splits_a_key_head(const Config& c) {
  const int64_t t = c.parallel.tensor;
  return t <= c.model.heads && t > c.model.kv_heads && t % c.model.kv_heads != 0;
}

// Heads of the tensor rank that has fewest: whole groups are dealt out, so 6 heads in 3 groups over 2 ranks are 2
// and 4.
int64_t fewest_heads(const Config& c) {
  if (c.parallel.tensor < 1 || c.parallel.tensor > c.model.heads || splits_a_key_head(c)) return c.model.heads;
  const TensorHeads heads = tensor_heads(c.model.heads, c.model.kv_heads, c.parallel.tensor);
  return *std::min_element(heads.query.begin(), heads.query.end());
}

// Ranks that share the heads of a layer by all-to-all.
int64_t head_sharing_ranks(const Config& c) {
  int64_t ranks = 1;
  for (const ContextChoice context : context_of_layers(c)) {
    if (context == ContextChoice::ulysses) ranks = std::max(ranks, c.parallel.ring * c.parallel.ulysses);
    if (context == ContextChoice::automatic) ranks = std::max(ranks, c.parallel.ulysses);
  }
  return ranks;
}

const std::vector<LayoutRule>& rules() {
  static const std::vector<LayoutRule> all{
      {"TP-HEADS",
       {"parallel.tensor", "model.heads", "model.kv_heads"},
       [](const Config& c) { return c.parallel.tensor > c.model.heads; },
       [](const Config& c) {
         return fmt::format(
             "parallel.tensor = {} is more than model.heads = {}: a rank would have no head; choose tensor <= {}",
             c.parallel.tensor, c.model.heads, c.model.heads);
       }},
      {"TP-KV-HEADS",
       {"parallel.tensor", "model.heads", "model.kv_heads"},
       splits_a_key_head,
       [](const Config& c) {
         return fmt::format(
             "parallel.tensor = {} is neither at most model.kv_heads = {} nor a multiple of it: a key head can be on "
             "several ranks, but not a part of one",
             c.parallel.tensor, c.model.kv_heads);
       }},
      {"TP-MLP-WIDTH",
       {"parallel.tensor", "model.mlp_width"},
       [](const Config& c) { return c.parallel.tensor > c.model.mlp_width; },
       [](const Config& c) {
         return fmt::format("parallel.tensor = {} is more than model.mlp_width = {}; choose a smaller tensor",
                            c.parallel.tensor, c.model.mlp_width);
       }},
      {"CP-ULYSSES-HEADS",
       {"parallel.ulysses", "parallel.context", "parallel.override", "parallel.tensor", "model.heads"},
       [](const Config& c) { return c.parallel.tensor <= c.model.heads && head_sharing_ranks(c) > fewest_heads(c); },
       [](const Config& c) {
         return fmt::format(
             "{} ranks share {} heads by all-to-all (model.heads = {} over parallel.tensor = {}): choose at most {} "
             "and "
             "use parallel.ring for the others, or parallel.context = \"allgather\"",
             head_sharing_ranks(c), fewest_heads(c), c.model.heads, c.parallel.tensor, fewest_heads(c));
       }},
  };
  return all;
}

}  // namespace

const char* to_string(Sharing sharing) {
  switch (sharing) {
    case Sharing::ring:
      return "ring";
    case Sharing::all_gather:
      return "allgather";
    case Sharing::ulysses:
      return "ulysses";
    case Sharing::tensor:
      return "tensor";
  }
  return "?";
}

std::vector<Sharing> sharings_of(const Config& config) {
  const ParallelConfig& p = config.parallel;
  std::set<Sharing> used;
  if (p.tensor > 1) used.insert(Sharing::tensor);
  if (p.ring * p.ulysses > 1) {
    for (const ContextChoice context : context_of_layers(config)) {
      const bool automatic = context == ContextChoice::automatic;
      if (context == ContextChoice::ring || (automatic && p.ring > 1)) used.insert(Sharing::ring);
      if (context == ContextChoice::ulysses || (automatic && p.ulysses > 1)) used.insert(Sharing::ulysses);
      if (context == ContextChoice::allgather) used.insert(Sharing::all_gather);
    }
  }
  return {used.begin(), used.end()};
}

bool AttentionPolicy::allows(Sharing sharing) const {
  switch (sharing) {
    case Sharing::ring:
      return ring;
    case Sharing::all_gather:
      return all_gather;
    case Sharing::ulysses:
      return ulysses;
    case Sharing::tensor:
      return tensor;
  }
  return false;
}

std::span<const AttentionPolicy> attention_policies() { return kPolicies; }
std::span<const LayoutRule> layout_rules() { return rules(); }

std::vector<Refusal> refusals(const Config& config) {
  std::vector<Refusal> found;
  for (const LayoutRule& rule : layout_rules()) {
    if (rule.broken(config)) found.push_back({rule.code, rule.message(config), rule.keys});
  }
  for (const AttentionPolicy& policy : attention_policies()) {
    if (!policy.used(config)) continue;
    for (const Sharing sharing : sharings_of(config)) {
      if (policy.allows(sharing)) continue;
      found.push_back({fmt::format("ATTN-{}", to_string(sharing)),
                       fmt::format("{} is not exact when attention is shared out by {}; {}", policy.name,
                                   to_string(sharing), policy.alternative),
                       {policy.keys}});
    }
  }
  return found;
}

}  // namespace farsight
